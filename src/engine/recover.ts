/**
 * Brings an interrupted run to a defined end: an encryption, decryption or rotation in place is finished, a new directory
 * that was being filled is emptied again. A sync needs its source for that; what it was writing is made whole.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { StateError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  JOURNAL_NAME,
  type JournalHeader,
  type JournalOperation,
  NEW_JOURNAL_NAME,
  readJournalHeader,
  removeUnbornJournal,
} from "../storage/journal.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { hasLock, lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { resumeDecryption } from "./decrypt-datadir.ts";
import { DirectoryRun } from "./directory-run.ts";
import { resumeEncryption } from "./encrypt-datadir.ts";
import { resumeRotation } from "./rotate-datadir.ts";
import { endSync, resumeSync } from "./sync-datadir.ts";
import { removeWorkingFiles } from "./working-files.ts";
import { pathToHex, tablespacesFromJson, undoOutput } from "./output-directory.ts";

export type RecoveryOutcome =
  | "nothing-to-do"
  | "encryption-finished"
  | "decryption-finished"
  | "rotation-finished"
  | "sync-finished"
  | "sync-undone"
  | "output-finished"
  | "output-emptied";

/** @throws {StateError} when a server or another tde uses the directory. @throws as the run that is finished. */
export async function recoverDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  root: BytePath,
): Promise<RecoveryOutcome> {
  const { fs } = engine;
  if (!hasLitter(fs, root)) {
    // A new directory that was emptied again is none yet; anything else must be a data directory.
    const isEmpty =
      fs.statFollowing(root)?.kind === "directory" && fs.readDirectory(root).length === 0;
    if (!isEmpty) openDatadir(fs, root);
    return "nothing-to-do";
  }
  // Under the lock: a journal that is not born yet may be one that another tde is writing.
  const lock = lockDatadir(fs, root, engine.command);
  try {
    const header = readJournalHeader(fs, root);
    switch (header?.operation) {
      case undefined:
        removeUnbornJournal(fs, root);
        return "nothing-to-do";
      case "encrypt":
        await resumeEncryption(engine, keyContext, openUnused(fs, root), header);
        return "encryption-finished";
      case "decrypt":
        await resumeDecryption(engine, keyContext, openUnused(fs, root), header);
        return "decryption-finished";
      case "rotate":
        await resumeRotation(engine, keyContext, openUnused(fs, root), header);
        return "rotation-finished";
      case "sync":
        return recoverSync(fs, keyContext, openUnused(fs, root), header);
      case "encryptOutput":
      case "decryptOutput":
        return endOutput(fs, keyContext, root);
    }
  } finally {
    lock.release();
  }
}

/**
 * What was due is done. Where pages of the source are in the copy already, only the source can bring it to an end.
 * @throws {StateError} then.
 */
function recoverSync(
  fs: FileSystem,
  keyContext: KeyContext,
  copy: Datadir,
  header: JournalHeader,
): RecoveryOutcome {
  const { run, content } = resumeSync(fs, keyContext, copy, header, { acceptOlder: false });
  try {
    removeWorkingFiles(fs, copy);
    if (content.committed) {
      endSync(fs, keyContext, copy, run);
      return "sync-finished";
    }
    if (!content.entered) {
      run.end();
      return "sync-undone";
    }
  } finally {
    run.leave();
  }
  throw new StateError(
    `"${displayPath(copy.root)}" is between two states: tde sync was interrupted while it wrote`,
    {
      hint: 'What was half written is whole again. Run the same "tde sync" again: only its source can bring it to the end.',
    },
  );
}

function openUnused(fs: FileSystem, root: BytePath): Datadir {
  const datadir = openDatadir(fs, root);
  assertNotInUse(fs, datadir, { assumeStopped: true });
  return datadir;
}

/** Whether anything of a run is there, be it alive or dead. */
function hasLitter(fs: FileSystem, root: BytePath): boolean {
  if (fs.statFollowing(root) === undefined) return false;
  const has = (name: BytePath): boolean => fs.stat(joinPath(root, name)) !== undefined;
  return has(JOURNAL_NAME) || has(NEW_JOURNAL_NAME) || hasLock(fs, root);
}

/** Before a run fills `output` anew: ends what an interrupted run of the same kind left there, one way or the other. */
export function undoUnfinishedOutput(
  engine: EngineContext,
  keyContext: KeyContext,
  output: BytePath,
  operation: JournalOperation,
): RecoveryOutcome {
  const { fs } = engine;
  if (!hasLitter(fs, output)) return "nothing-to-do";
  unfinishedRun(fs, output, operation);
  const lock = lockDatadir(fs, output, engine.command);
  try {
    return endOutput(fs, keyContext, output);
  } finally {
    lock.release();
  }
}

/** A new directory whose last entry is durable is whole; any other is emptied. */
function endOutput(fs: FileSystem, { keys }: KeyContext, output: BytePath): RecoveryOutcome {
  const header = readJournalHeader(fs, output);
  if (header === undefined) return "nothing-to-do";
  const { run, content } = DirectoryRun.resume(fs, output, keys, header);
  if (content.committed) {
    run.end();
    return "output-finished";
  }
  run.leave();
  const plan = JSON.parse(content.plan) as { output: string; tablespaces: string[] };
  const { tablespaces } = plan;
  // What is emptied lies outside of the directory, too: a copy of an unfinished one must not reach the original's.
  if (plan.output !== pathToHex(fs.realPath(output))) {
    throw new StateError(`"${displayPath(output)}" was moved or copied while it was unfinished`, {
      hint: "It holds nothing that its source does not hold: delete it, and its tablespaces if they are of no use.",
    });
  }
  undoOutput(fs, output, tablespacesFromJson(tablespaces));
  return "output-emptied";
}
