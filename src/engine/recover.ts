/**
 * Brings an interrupted run to a defined end: an encryption, decryption or rotation in place is finished, a new directory
 * that was being filled is emptied again. A sync needs its source for that; what it was writing is made whole.
 */
import {
  type BytePath,
  displayPath,
  joinPath,
  withoutTrailingSlashes,
} from "../bytes/byte-path.ts";
import { CLAIM_NAME } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { StateError, TdeError } from "../errors.ts";
import type { OpenRun } from "../keyring/state.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  type JournalHeader,
  type JournalOperation,
  NEW_JOURNAL_NAME,
  readJournalHeader,
  removeUnbornJournal,
} from "../storage/journal.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { DAMAGE_REPORT } from "./damage.ts";
import { resumeDecryption } from "./decrypt-datadir.ts";
import { resumeEncryption } from "./encrypt-datadir.ts";
import { readAutoConf } from "./guard.ts";
import { openByManifest, openToDecrypt } from "./open-by-manifest.ts";
import { openAuthenticManifest } from "./open-manifest.ts";
import { futureRealPath, parentOf } from "./output-directory.ts";
import { restoreControl } from "./restore-control.ts";
import { resumeRotation } from "./rotate-datadir.ts";
import { hasLitter, isLockName, lockDatadir } from "./run/datadir-lock.ts";
import { endOutput } from "./run/output-run.ts";
import { journalIsMissing, RUN_NAMES, standingOf } from "./run/standing.ts";
import { endSyncIfDone, resumeSync } from "./sync-datadir.ts";

export type RecoveryOutcome =
  | "nothing-to-do"
  | "encryption-finished"
  | "encryption-undone"
  | "decryption-finished"
  | "decryption-ended"
  | "decryption-unproved"
  | "decryption-damaged"
  | "rotation-finished"
  | "sync-finished"
  | "sync-undone"
  | "output-finished"
  | "output-altered"
  | "output-unproved"
  | "output-damaged"
  | "output-emptied"
  | "output-place-left"
  | "output-ended"
  | "output-forgotten";

/**
 * @throws {StateError} when a server or another tde uses the directory. @throws {IntegrityError} when its journal is of no
 *   run that is open here. @throws as the run that is finished.
 */
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
    assertNotDeleted(fs, keyContext, root);
    if (!isEmpty) openDatadir(fs, root);
    return forgetWhereNothingIs(engine, keyContext, root);
  }
  // Under the lock: a journal that is not born yet may be one that another tde is writing.
  const lock = lockDatadir(fs, root, engine.command);
  try {
    const header = readJournalHeader(fs, root);
    if (header === undefined) {
      const outcome = forgetLostRuns(engine, keyContext, root);
      removeUnbornJournal(fs, root);
      return outcome;
    }
    return await RECOVERIES[header.operation](engine, keyContext, root, header);
  } finally {
    lock.release();
  }
}

/** @throws {StateError} where a new directory that a run was filling is gone, which tells of its tablespaces elsewhere. */
function assertNotDeleted(fs: FileSystem, { memory }: KeyContext, root: BytePath): void {
  if (fs.statFollowing(root) !== undefined) return;
  if (fs.statFollowing(parentOf(root))?.kind !== "directory") return;
  const place = futureRealPath(fs, withoutTrailingSlashes(root));
  const run = memory.openRunsAt(place).find(({ operation, ended }) => !ended && fills(operation));
  if (run === undefined) return;
  throw new StateError(
    `"${displayPath(root)}" is gone, and a run of tde ${RUN_NAMES[run.operation]} into it is open`,
    {
      hint: `If it was moved away, bring it back. If you deleted it, ${deleteClaimed(run)}. Then the same command begins anew.`,
    },
  );
}

function fills(operation: JournalOperation): boolean {
  return operation === "encryptOutput" || operation === "decryptOutput";
}

/** Where they are only its journal told. */
function deleteClaimed({ runId }: OpenRun): string {
  return `delete the new directories of its tablespaces, too: each that it had begun has a "${CLAIM_NAME}" with ${runId}`;
}

function forgetWhereNothingIs(
  engine: EngineContext,
  keyContext: KeyContext,
  root: BytePath,
): LostRuns {
  const { fs, command } = engine;
  if (fs.statFollowing(root) === undefined) return "nothing-to-do";
  if (keyContext.memory.openRunsAt(fs.realPath(root)).length === 0) return "nothing-to-do";
  // Under the lock: another tde registers its run before it makes the journal.
  const lock = lockDatadir(fs, root, command);
  try {
    if (readJournalHeader(fs, root) !== undefined) return "nothing-to-do";
    return forgetLostRuns(engine, keyContext, root);
  } finally {
    lock.release();
  }
}

/**
 * A run that has ended, or never began, need not be known any more. Any other could be taken up, were its journal there.
 * @param root - locked, and without a journal.
 * @returns whether one of them may have left something in places that nobody knows any more.
 * @throws {StateError} when something of tde's is in the directory: then the journal may only be away.
 */
function forgetLostRuns(
  { fs, notice }: EngineContext,
  { memory }: KeyContext,
  root: BytePath,
): LostRuns {
  const isUnborn = fs.stat(joinPath(root, NEW_JOURNAL_NAME)) !== undefined;
  let outcome: LostRuns = "nothing-to-do";
  for (const run of memory.openRunsAt(fs.realPath(root))) {
    const { runId, operation, ended } = run;
    const isLost = !ended && !isUnborn;
    if (isLost && hasTraces(fs, root)) throw journalIsMissing(root, operation);
    memory.closeRun(runId);
    if (!isLost || !fills(operation)) continue;
    outcome = "output-forgotten";
    notice(
      `if the directory that tde ${RUN_NAMES[operation]} was filling was deleted, ${deleteClaimed(run)}`,
    );
  }
  return outcome;
}

type LostRuns = Extract<RecoveryOutcome, "nothing-to-do" | "output-forgotten">;

/** Whether something is there that a run has made, be it this one. */
function hasTraces(fs: FileSystem, root: BytePath): boolean {
  if (fs.readDirectory(root).every(({ name }) => isLockName(name))) return false;
  if (readAutoConf(fs, root) === "guard") return true;
  for (const { classification } of walkDatadir(fs, root, openDatadir(fs, root))) {
    if (classification.class === "working" || classification.class === "sidecar") return true;
    if (classification.class === "own" && classification.file !== "lock") return true;
  }
  return false;
}

type Recovery = (
  engine: EngineContext,
  keyContext: KeyContext,
  root: BytePath,
  header: JournalHeader,
) => Promise<RecoveryOutcome>;

/** What becomes of an interrupted run of each kind. */
const RECOVERIES: Readonly<Record<JournalOperation, Recovery>> = {
  async encrypt(engine, keyContext, root, header) {
    mendControl(engine, keyContext, root, header);
    const datadir = openUnused(engine.fs, root);
    const report = await resumeEncryption(engine, keyContext, datadir, header);
    return report === undefined ? "encryption-undone" : "encryption-finished";
  },
  async decrypt(engine, keyContext, root, header) {
    const datadir = openToDecrypt(engine.fs, root, keyContext, false);
    assertNotInUse(engine.fs, datadir, { assumeStopped: true });
    const report = await resumeDecryption(engine, keyContext, datadir, header);
    const { outcome, unchecked, damaged } = report;
    if (damaged.length > 0) return "decryption-damaged";
    if (unchecked !== 0) return "decryption-unproved";
    return outcome === "ended-before" ? "decryption-ended" : "decryption-finished";
  },
  async rotate(engine, keyContext, root, header) {
    mendControl(engine, keyContext, root, header);
    await resumeRotation(engine, keyContext, openUnused(engine.fs, root), header);
    return "rotation-finished";
  },
  async sync({ fs }, keyContext, root, header) {
    return recoverSync(fs, keyContext, openUnused(fs, root), header);
  },
  async encryptOutput(engine, keyContext, root) {
    return endOutput(engine, keyContext, root);
  },
  async decryptOutput(engine, keyContext, root) {
    const outcome = endOutput(engine, keyContext, root);
    const isDamaged = engine.fs.stat(joinPath(root, DAMAGE_REPORT)) !== undefined;
    return outcome === "output-unproved" && isDamaged ? "output-damaged" : outcome;
  },
};

/**
 * Neither of these runs writes pg_control: where it cannot be used any more, the original in the manifest is what it was,
 * and without it nothing could bring the run to its end.
 */
function mendControl(
  { fs, notice }: EngineContext,
  keyContext: KeyContext,
  root: BytePath,
  header: JournalHeader,
): void {
  const { own } = openByManifest(fs, root, keyContext);
  if (!(own instanceof TdeError)) return;
  // Nothing is changed for the sake of a journal of no run that is open here.
  standingOf(fs, root, keyContext.memory, header);
  const manifest = openAuthenticManifest(fs, root, keyContext.keys);
  if (manifest.header.directoryId !== header.directoryId) throw own;
  restoreControl(fs, root, manifest);
  notice(`${own.message}; the original was put back from the manifest`);
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
  const resumed = resumeSync(fs, keyContext, copy, header);
  const { run, content } = resumed;
  try {
    if (endSyncIfDone(fs, keyContext, copy, resumed)) return "sync-finished";
    if (!content.entered) {
      run.end({ kind: "nothing" });
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
