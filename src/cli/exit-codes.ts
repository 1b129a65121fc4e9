/**
 * The exit codes, a public interface: scripts rely on them. One for each kind of error in src/errors.ts.
 */
import type { ErrorCode } from "../errors.ts";

export const ExitCode: Readonly<Record<ErrorCode | "ok" | "bug" | "interrupted", number>> = {
  ok: 0,
  usage: 2,
  integrity: 3,
  key: 4,
  state: 5,
  format: 6,
  storage: 7,
  /** A bug in tde. */
  bug: 70,
  /** As a shell reports an end by SIGINT. */
  interrupted: 130,
};

/** `tde wal restore`: the archive has no such file. */
export const NOT_IN_THE_ARCHIVE = 1;
const RESTORE_TROUBLE = 200;
const HIGHEST = 255;

/**
 * The exit code of `tde wal restore` for what another command ends with. Recovery takes every code up to 125 for "the
 * archive has no such file", and ends, although WAL that is there is missing then. Above that the server stops
 * (RestoreArchivedFile of access/transam/xlogarchive.c); 143 it would take for SIGTERM.
 */
export function restoreExitCode(code: number): number {
  if (code === ExitCode.ok || code === NOT_IN_THE_ARCHIVE) return code;
  return code === ExitCode.bug ? HIGHEST : Math.min(RESTORE_TROUBLE + code, HIGHEST);
}
