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
