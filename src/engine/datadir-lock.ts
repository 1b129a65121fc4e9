/**
 * Who may work on a data directory: no server uses it, no other tde works on it, and no other run is unfinished.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { StateError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  type JournalHeader,
  type JournalOperation,
  readJournalHeader,
} from "../storage/journal.ts";
import { acquireLock, type Lock } from "../storage/lock.ts";

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

export function isLockName(name: string): boolean {
  return `${name}.`.startsWith(`${OWN_FILES.lock}.`);
}

/** The command that a run is of, without its "tde". */
export const RUN_NAMES: Readonly<Record<JournalOperation, string>> = {
  encrypt: "encrypt-datadir",
  decrypt: "decrypt-datadir",
  encryptOutput: "encrypt-datadir --output",
  decryptOutput: "decrypt-datadir --output",
  rotate: "rotate",
  sync: "sync",
};

/**
 * The header of an unfinished run that the caller can take up.
 * @throws {StateError} when the directory has an unfinished run of another kind.
 */
export function unfinishedRun(
  fs: FileSystem,
  root: BytePath,
  operation: JournalOperation | undefined,
): JournalHeader | undefined {
  const header = readJournalHeader(fs, root);
  if (header === undefined || header.operation === operation) return header;
  throw new StateError(
    `"${displayPath(root)}" has an unfinished run of tde ${RUN_NAMES[header.operation]}`,
    {
      hint:
        header.operation === "sync"
          ? 'It is between two states until "tde sync" is run again, from the same source or a newer one.'
          : 'Run "tde recover" on it, or the same command again.',
    },
  );
}
