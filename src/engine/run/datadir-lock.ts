/**
 * Who may work on a data directory: no server uses it, no other tde works on it, and no other run is unfinished.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { OWN_FILES } from "../../datadir/classify.ts";
import { StateError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import {
  JOURNAL_NAME,
  type JournalHeader,
  type JournalOperation,
  NEW_JOURNAL_NAME,
  readJournalHeader,
} from "../../storage/journal.ts";
import { acquireLock, type Lock } from "../../storage/lock.ts";
import type { DirectoryMemory } from "../context.ts";
import { RUN_NAMES, standingOf } from "./standing.ts";

export function lockDatadir(fs: FileSystem, root: BytePath, command: string): Lock {
  return acquireLock(fs, joinPath(root, OWN_FILES.lock), {
    what: `directory "${displayPath(root)}"`,
    command,
  });
}

/** Whether a lock stands in the directory, or what a crash left of one that was being taken over. */
export function hasLock(fs: FileSystem, root: BytePath): boolean {
  return fs.readDirectory(root).some(({ name }) => isLockName(name));
}

/** Whether anything of a run is there, be it alive or dead. */
export function hasLitter(fs: FileSystem, root: BytePath): boolean {
  if (fs.statFollowing(root) === undefined) return false;
  const has = (name: BytePath): boolean => fs.stat(joinPath(root, name)) !== undefined;
  return has(JOURNAL_NAME) || has(NEW_JOURNAL_NAME) || hasLock(fs, root);
}

export function isLockName(name: string): boolean {
  return `${name}.`.startsWith(`${OWN_FILES.lock}.`);
}

/**
 * The header of an unfinished run that the caller can take up.
 * @param memory - undefined: without a keyring nobody can tell whether the run is open.
 * @throws {StateError} when the directory has an unfinished run of another kind.
 * @throws {IntegrityError} when its journal is of no run that is open here.
 */
export function unfinishedRun(
  fs: FileSystem,
  root: BytePath,
  operation: JournalOperation | undefined,
  memory: DirectoryMemory | undefined,
): JournalHeader | undefined {
  const header = readJournalHeader(fs, root);
  if (header === undefined) return undefined;
  if (memory !== undefined) standingOf(fs, root, memory, header);
  if (header.operation === operation) return header;
  throw new StateError(
    `"${displayPath(root)}" has an unfinished run of tde ${RUN_NAMES[header.operation]}`,
    { hint: wayOut(header.operation, memory !== undefined) },
  );
}

/** A hint must not send anybody to act on a journal that may be an old one. */
function wayOut(operation: JournalOperation, isOpen: boolean): string {
  if (!isOpen)
    return "Give its keyring: whether the run is still open, the state file beside it says.";
  return operation === "sync"
    ? 'It is between two states until "tde sync" is run again, from the same source or a newer one.'
    : 'Run "tde recover" on it, or the same command again.';
}
