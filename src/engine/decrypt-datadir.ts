/**
 * Decrypts a data directory in place: everything that can be checked without writing is checked first, then batch
 * by batch plain files take the place of sealed ones, each page only after its tag held. The guard and the manifest
 * stay until every file is done. After a crash the same call goes on: what still has a sidecar or a container's
 * header is to do, the rest is done.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { randomBytes } from "../crypto/primitives.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { IntegrityError, StateError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import { CONTROL_FILE_BYTES, sameButForChecksums } from "../postgres/control-file.ts";
import { writeAll } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { RunContext } from "../workers/perform.ts";
import type { TaskRunner } from "../workers/runner.ts";
import {
  type AcceptedChange,
  type AcceptedFile,
  Acceptance,
  acceptedFiles,
} from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { hasLock, lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { directoryLoad } from "./directory-load.ts";
import { DirectoryRun } from "./directory-run.ts";
import { retiredKeyNotices } from "./retired-keys.ts";
import {
  openOriginalAutoConf,
  readAutoConf,
  removeGuard,
  SEALED_AUTO_CONF,
  settingsAddedToGuard,
  withAddedLines,
  writeDurably,
} from "./guard.ts";
import { countToOpen, openAll, type Opening } from "./open-all.ts";
import {
  type AcceptedMove,
  assertNotMoved,
  HINT_OF_BEGINNING,
  HINT_OF_RESUMING,
} from "./moved-links.ts";
import { narrowFolders } from "./narrow-folders.ts";
import { manifestIsMissing, openJudgedManifest, openManifestOfRun } from "./open-manifest.ts";
import { assertIntact } from "./structure-check.ts";
import { assertEncrypted } from "./verify-datadir.ts";
import { removeWorkingFiles } from "./working-files.ts";

export interface DecryptOptions {
  readonly root: BytePath;
  readonly acceptOlder: boolean;
  /** pg_wal and tablespaces may lead elsewhere than when the directory was encrypted. */
  readonly acceptMoved?: boolean | undefined;
  /** Put the original pg_control back, whatever was changed in it. */
  readonly restoreControl: boolean;
  /** Carry over what a restore tool added beside the guard, and signal files. */
  readonly keepRecoverySettings: boolean;
  /** Configuration files to take as they are now, whatever the manifest says of them. */
  readonly acceptChanged: readonly BytePath[];
  readonly dryRun: boolean;
}

export interface DecryptReport {
  readonly outcome: "decrypted" | "dry-run";
  readonly files: number;
  readonly bytes: number;
  readonly controlRestored: boolean;
  /** Settings and signal files that were left out, or kept. */
  readonly recoverySettings: readonly string[];
  readonly recoverySettingsKept: boolean;
  /** Configuration that is not what was encrypted, and was taken as it is. */
  readonly accepted: readonly AcceptedFile[];
}

/** What the journal keeps of the options. */
interface DecryptPlan {
  readonly keepRecoverySettings: boolean;
  /** Signal files that were not there when the directory was encrypted. */
  readonly addedSignals: readonly string[];
  readonly accepted: readonly AcceptedChange[];
  /** Where links led elsewhere than at encryption, and may: to these places and no others. */
  readonly moved?: readonly AcceptedMove[] | undefined;
}

/**
 * @throws {StateError} when the directory is in use or not encrypted. @throws {IntegrityError} when something does
 *   not authenticate: before the first change, but for a page whose tag fails, which stops a run that can go on once
 *   the file is restored. @throws {KeyError} {StorageError}.
 */
export async function decryptDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  options: DecryptOptions,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { root } = options;
  const acceptance = new Acceptance(options.acceptChanged);
  const unlocked = openDatadir(fs, root);
  assertNotInUse(fs, unlocked, { assumeStopped: true });
  if (options.dryRun) {
    unfinishedRun(fs, root, undefined);
    return begin(engine, keyContext, unlocked, options, acceptance);
  }
  // A directory that is none of ours gets no lock, but one that a dead process left is taken away.
  if (unfinishedRun(fs, root, "decrypt") === undefined && !hasLock(fs, root))
    assertEncrypted(fs, unlocked);
  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped: true });
    const header = unfinishedRun(fs, root, "decrypt");
    if (header !== undefined) return await resumeDecryption(engine, keyContext, datadir, header);
    return await begin(engine, keyContext, datadir, options, acceptance);
  } finally {
    lock.release();
  }
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: DecryptOptions,
  acceptance: Acceptance,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  assertEncrypted(fs, datadir);
  if (!options.dryRun) removeUnbornJournal(fs, datadir.root);
  const manifest = openJudgedManifest(fs, datadir.root, keyContext, options);
  assertControl(datadir, manifest, options, engine.notice);
  const load = directoryLoad(manifest, datadir.control.blockSizeBytes);
  for (const notice of retiredKeyNotices(load, keys)) engine.notice(notice);
  const { systemIdentifier } = datadir.control;
  openOriginalAutoConf(fs, datadir.root, { keys, systemIdentifier });
  const mayMove = options.acceptMoved === true ? "all" : [];
  const moved = assertNotMoved(fs, datadir, manifest, mayMove, HINT_OF_BEGINNING);

  const runner = startRunner(engine, datadir, keyContext, manifest);
  try {
    const { addedSignals, accepted } = await assertIntact(engine, runner, datadir, manifest, {
      acceptance,
    });
    if (options.dryRun) return dryRunReport(fs, datadir, { manifest, accepted });
    const { keepRecoverySettings } = options;
    const plan: DecryptPlan = { keepRecoverySettings, addedSignals, accepted, moved };
    narrowFolders(fs, datadir);
    const { directoryId, epoch } = manifest.header;
    const run = DirectoryRun.begin(
      fs,
      datadir.root,
      keys,
      {
        runId: randomBytes(16),
        directoryId,
        keyringId: keys.keyringId,
        keyId: keys.currentKeyId,
        operation: "decrypt",
        epoch,
      },
      plan,
    );
    return await carryOn(engine, keyContext, datadir, manifest, runner, run, plan);
  } finally {
    engine.progress.end();
    await runner.close();
  }
}

/** Takes up an interrupted decryption of a locked directory and brings it to its end. */
export async function resumeDecryption(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  unproved: JournalHeader,
): Promise<DecryptReport> {
  const { fs } = engine;
  // The epoch was judged when the run began.
  const manifest = openManifestOfRun(fs, datadir.root, keyContext.keys, unproved);
  const { run, content } = DirectoryRun.resume(fs, datadir.root, keyContext.keys, unproved);
  try {
    const plan = JSON.parse(content.plan) as DecryptPlan;
    removeWorkingFiles(fs, datadir);
    if (content.committed)
      return finish(engine, keyContext, datadir, run, plan, { files: 0, bytes: 0 }, false);
    if (manifest === undefined) throw manifestIsMissing(datadir.root);
    assertNotMoved(fs, datadir, manifest, plan.moved ?? [], HINT_OF_RESUMING);
    narrowFolders(fs, datadir);
    const runner = startRunner(engine, datadir, keyContext, manifest);
    try {
      return await carryOn(engine, keyContext, datadir, manifest, runner, run, plan);
    } finally {
      engine.progress.end();
      await runner.close();
    }
  } finally {
    run.leave();
  }
}

async function carryOn(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  runner: TaskRunner,
  run: DirectoryRun,
  plan: DecryptPlan,
): Promise<DecryptReport> {
  const { fs } = engine;
  try {
    const opening = { manifest, accepted: plan.accepted };
    const counted = countToOpen(fs, datadir, opening);
    engine.progress.begin("decrypting", counted.bytes);
    const places = { source: datadir.root, output: undefined };
    await openAll(engine, runner, datadir, places, opening, (steps) => run.commit(steps));
    const controlRestored = restoreControl(fs, datadir, manifest);
    run.commitLast([]);
    return finish(engine, keyContext, datadir, run, plan, counted, controlRestored);
  } catch (error) {
    run.abandon(() => removeWorkingFiles(fs, datadir));
    throw error;
  }
}

/**
 * All files are plain: what is left is to take manifest and guard away. Each step can be done again, and none is
 * done twice: a guard that is gone was replaced already, perhaps by settings of a server that ran since.
 */
function finish(
  engine: EngineContext,
  { keys, memory }: KeyContext,
  datadir: Datadir,
  run: DirectoryRun,
  plan: DecryptPlan,
  counted: { files: number; bytes: number },
  controlRestored: boolean,
): DecryptReport {
  const { fs } = engine;
  const { root, control } = datadir;
  fs.remove(joinPath(root, OWN_FILES.manifest));
  let recoverySettings: string[] = [];
  if (readAutoConf(fs, root) === "guard") {
    const guardKeys = { keys, systemIdentifier: control.systemIdentifier };
    const original = openOriginalAutoConf(fs, root, guardKeys);
    recoverySettings = [...settingsAddedToGuard(fs, root), ...plan.addedSignals];
    const access = plainAccess(fs, root);
    if (plan.keepRecoverySettings) {
      removeGuard(fs, root, withAddedLines(fs, root, original), access);
    } else {
      for (const signal of plan.addedSignals) fs.remove(joinPath(root, signal));
      removeGuard(fs, root, original, access);
    }
  }
  fs.remove(joinPath(root, SEALED_AUTO_CONF));
  fs.syncDirectory(root);
  // Before the end: afterwards no recovery would tell the state that the keys protect nothing here any more.
  memory.released(run.header.directoryId);
  run.end();
  return {
    outcome: "decrypted",
    ...counted,
    controlRestored,
    recoverySettings,
    recoverySettingsKept: plan.keepRecoverySettings,
    accepted: acceptedFiles(plan.accepted),
  };
}

export function startRunner(
  engine: EngineContext,
  { control }: Datadir,
  { keys }: KeyContext,
  manifest: Manifest,
): TaskRunner {
  const context: RunContext = {
    blockSizeBytes: control.blockSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    systemIdentifier: control.systemIdentifier,
    keys,
    keyringId: manifest.header.keyringId,
    epoch: manifest.header.epoch,
  };
  return engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
}

/** What was changed in pg_control since. Starting a server with it could mean pages without the checksums it expects. */
export function assertControl(
  { control, controlBytes, root }: Datadir,
  manifest: Manifest,
  { restoreControl: restore }: DecryptOptions,
  notice: (message: string) => void,
): void {
  const original = manifest.header.control;
  if (manifest.header.systemIdentifier !== control.systemIdentifier) {
    throw new IntegrityError("the manifest is of another cluster than global/pg_control", {
      hint: "Files of two clusters are mixed here. Restore the directory as a whole.",
    });
  }
  if (original.equals(controlBytes)) return;
  if (sameButForChecksums(original, controlBytes)) {
    notice(
      "pg_checksums --enable or --disable was run on the encrypted directory; global/pg_control is put back as it was",
    );
  } else if (!restore) {
    throw new StateError(
      `global/pg_control in "${displayPath(root)}" was changed since it was encrypted`,
      {
        hint: "The manifest keeps the original: give --restore-control to put it back.",
      },
    );
  }
}

/** @returns whether there was something to restore. */
function restoreControl(
  fs: FileSystem,
  { root, controlBytes }: Datadir,
  manifest: Manifest,
): boolean {
  const original = manifest.header.control;
  if (original.equals(controlBytes)) return false;
  const path = "global/pg_control" as BytePath;
  const stat = fs.stat(joinPath(root, path));
  if (stat === undefined) throw new StateError("global/pg_control is gone");
  const content = Buffer.alloc(CONTROL_FILE_BYTES);
  original.copy(content);
  const attributes = plainAttributes(stat, plainAccess(fs, root));
  writeDurably(fs, root, path, attributes, (file) => writeAll(file, content, 0, content.length, 0));
  return true;
}

function dryRunReport(fs: FileSystem, datadir: Datadir, opening: Opening): DecryptReport {
  return {
    outcome: "dry-run",
    ...countToOpen(fs, datadir, opening),
    controlRestored: false,
    recoverySettings: settingsAddedToGuard(fs, datadir.root),
    recoverySettingsKept: false,
    accepted: acceptedFiles(opening.accepted),
  };
}
