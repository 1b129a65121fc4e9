/**
 * Encrypts a data directory in place: look without writing, lock, journal, guard, then batch by batch new files
 * beside the old ones and, once the journal says so, in their place; last the proof, the manifest, and the end of the
 * journal. After a crash the same call goes on: what has a sidecar or a container's header is done, the rest is not.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { randomBytes } from "../crypto/primitives.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { IntegrityError, StateError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type DueStep, type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { RunContext } from "../workers/perform.ts";
import { inspectBackupManifest, sealBackupManifest } from "./backup-manifest.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { DirectoryRun } from "./directory-run.ts";
import type { EncryptOptions, EncryptReport } from "./encrypt-report.ts";
import { AUTO_CONF, installGuard, readAutoConf, takeBackGuard } from "./guard.ts";
import { type InventoryOptions, takeInventory } from "./inventory.ts";
import { hasManifest, nextEpoch, openJudgedManifest, openManifestOfRun } from "./open-manifest.ts";
import { awaitLateServers, withoutServers } from "./server-watch.ts";
import { assertIntact } from "./structure-check.ts";
import { proveAndEnd } from "./prove-and-end.ts";
import { sealAll } from "./seal-all.ts";
import { assertRoom, type Survey, survey } from "./survey.ts";
import { removeWorkingFiles } from "./working-files.ts";

/** What the journal keeps of the options, so that a resumed run does the same. */
interface EncryptPlan {
  readonly wal: "sealed" | "skip";
  readonly sealConfig: boolean;
}

/**
 * @throws {StateError} when the directory is in use, no data directory, or not to be encrypted; nothing is changed.
 * @throws {IntegrityError} when the result is not what it should be. @throws {KeyError} {StorageError}.
 */
export async function encryptDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  options: EncryptOptions,
): Promise<EncryptReport> {
  const { fs } = engine;
  const { root } = options;
  const unlocked = openDatadir(fs, root);
  const unfinished = unfinishedRun(fs, root, "encrypt");
  const assumeStopped = options.assumeStopped || unfinished !== undefined;
  assertNotInUse(fs, unlocked, { assumeStopped });
  if (options.dryRun) {
    inspectBackupManifest(fs, unlocked, hasManifest(fs, root) || unfinished !== undefined);
    return {
      outcome: "dry-run",
      survey: survey(fs, unlocked, inventoryOptions(options, keyContext), true),
    };
  }

  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped });
    const header = unfinishedRun(fs, root, "encrypt");
    if (header !== undefined) return await resumeEncryption(engine, keyContext, datadir, header);
    return await withoutServers(fs, datadir, options, () =>
      begin(engine, keyContext, datadir, options),
    );
  } finally {
    lock.release();
  }
}

/** Takes up an interrupted encryption of a locked directory and brings it to its end. */
export async function resumeEncryption(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  unproved: JournalHeader,
): Promise<EncryptReport> {
  const { fs } = engine;
  openManifestOfRun(fs, datadir.root, keyContext.keys, unproved);
  const { run, content } = DirectoryRun.resume(fs, datadir.root, keyContext.keys, unproved);
  try {
    const plan = JSON.parse(content.plan) as EncryptPlan;
    removeWorkingFiles(fs, datadir);
    // The manifest came last: where it is this run's own, every file is sealed, and none may be sealed any more.
    const manifest = openManifestOfRun(fs, datadir.root, keyContext.keys, run.header);
    if (manifest?.header.epoch === run.header.epoch) {
      return finishEncryption(engine, keyContext, datadir, run, plan, manifest);
    }
    return await carryOn(engine, keyContext, datadir, run, plan);
  } finally {
    run.leave();
  }
}

/** All files and the manifest are in their places: what is left is to end the run. */
function finishEncryption(
  { fs }: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  run: DirectoryRun,
  plan: EncryptPlan,
  manifest: Manifest,
): EncryptReport {
  const { directoryId, epoch, keyId } = manifest.header;
  const pagesByKey = new Map<number, number>();
  for (const entry of manifest.entries()) {
    for (const use of entry.keys)
      pagesByKey.set(use.keyId, (pagesByKey.get(use.keyId) ?? 0) + use.count);
  }
  const done = survey(fs, datadir, inventoryOptions(plan, keyContext), true);
  run.end();
  const root = manifest.root.toString("hex");
  keyContext.memory.remember({ directoryId, epoch, root, path: datadir.realRoot, pagesByKey });
  return { outcome: "already-encrypted", survey: done, directoryId, epoch, keyId };
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: EncryptOptions,
): Promise<EncryptReport> {
  const { fs } = engine;
  const { keys, memory } = keyContext;
  const manifest = hasManifest(fs, datadir.root)
    ? openJudgedManifest(fs, datadir.root, keyContext, options)
    : undefined;
  removeUnbornJournal(fs, datadir.root);
  const plan: EncryptPlan = { wal: options.wal, sealConfig: options.sealConfig };
  const todo = survey(fs, datadir, inventoryOptions(plan, keyContext), false);
  assertManifestFits(datadir, manifest, todo);
  const hasList = inspectBackupManifest(fs, datadir, manifest !== undefined);
  if (manifest !== undefined && todo.relations + todo.contents === 0 && !hasList) {
    return { outcome: "already-encrypted", survey: todo };
  }
  assertRoom(fs, datadir, todo);
  if (manifest !== undefined) await assertNothingChanged(engine, keyContext, datadir, manifest);
  const run = DirectoryRun.begin(
    fs,
    datadir.root,
    keys,
    {
      runId: randomBytes(16),
      directoryId: manifest?.header.directoryId ?? randomBytes(16).toString("hex"),
      keyringId: keys.keyringId,
      keyId: keys.currentKeyId,
      operation: "encrypt",
      epoch: nextEpoch(manifest, memory),
    },
    plan,
  );
  return carryOn(engine, keyContext, datadir, run, plan, options);
}

/**
 * From the guard to the end: every step of it can be done again.
 * @param begun - the options of a run that has just begun; undefined where one is taken up.
 */
async function carryOn(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  run: DirectoryRun,
  plan: EncryptPlan,
  begun?: EncryptOptions,
): Promise<EncryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  const { root } = datadir;
  try {
    const isNewGuard = guard(fs, datadir, keyContext);
    const inUse = begun ?? { assumeStopped: true };
    if (isNewGuard) {
      try {
        awaitLateServers(fs, datadir, inUse);
      } catch (error) {
        // No file of the cluster is replaced yet: the server that came gets back what it needs.
        if (begun !== undefined && error instanceof StateError)
          undoBeginning(fs, datadir, keyContext, run);
        throw error;
      }
    }
    const options = inventoryOptions(plan, keyContext);
    const todo = survey(fs, datadir, options, true);
    const context = runContextOf(datadir, keyContext, run.header.epoch);
    engine.progress.begin("encrypting", todo.bytes);
    const runner = engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
    try {
      const commit = (steps: readonly DueStep[]): void => {
        assertNotInUse(fs, datadir, inUse);
        run.commit(steps);
      };
      const places = { source: root, output: undefined };
      const inventory = takeInventory(fs, datadir, options, true);
      await sealAll(engine, runner, datadir, places, inventory, commit);
      sealBackupManifest(fs, datadir, root, keys);
      return await proveAndEnd(engine, keyContext, runner, {
        datadir,
        run,
        wal: plan.wal,
        todo,
        commit,
      });
    } finally {
      engine.progress.end();
      await runner.close();
    }
  } catch (error) {
    run.abandon(() => removeWorkingFiles(fs, datadir));
    throw error;
  }
}

/**
 * Puts the guard up, unless it stands already. What stands in its place is sealed anew: it may have changed since.
 * @returns whether it is new.
 */
function guard(fs: FileSystem, datadir: Datadir, keyContext: KeyContext): boolean {
  if (readAutoConf(fs, datadir.root) === "guard") return false;
  installGuardFrom(fs, datadir, datadir.root, keyContext);
  return true;
}

/** Takes back what a run does before its first batch. The journal goes last: a crash before leaves a run like any. */
function undoBeginning(
  fs: FileSystem,
  datadir: Datadir,
  { keys }: KeyContext,
  run: DirectoryRun,
): void {
  const { systemIdentifier } = datadir.control;
  takeBackGuard(fs, datadir.root, { keys, systemIdentifier });
  run.end();
}

/** Seals the source's postgresql.auto.conf into `target`, and puts the guard there. */
export function installGuardFrom(
  fs: FileSystem,
  source: Datadir,
  target: BytePath,
  { keys }: KeyContext,
): void {
  const original = readAutoConf(fs, source.root);
  if (original === "guard")
    throw new StateError(`"${displayPath(source.root)}" has a guard already`);
  const like = original.kind === "file" ? AUTO_CONF : "PG_VERSION";
  const attributes = fs.stat(joinPath(source.root, like));
  if (attributes === undefined) {
    throw new StateError(`"${displayPath(source.root)}" is changing while tde works on it`);
  }
  const { systemIdentifier } = source.control;
  installGuard(fs, target, original, { keys, systemIdentifier }, attributes);
}

export function runContextOf(
  { control }: Datadir,
  { keys }: KeyContext,
  epoch: bigint,
): RunContext {
  return {
    blockSizeBytes: control.blockSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    systemIdentifier: control.systemIdentifier,
    keys,
    keyringId: keys.keyringId,
    epoch,
  };
}

export function inventoryOptions(plan: EncryptPlan, { keys }: KeyContext): InventoryOptions {
  return { wal: plan.wal, sealConfig: plan.sealConfig, keyringId: keys.keyringId };
}

/** Sealed files without a manifest, or with a changed pg_control: something else was here. */
export function assertManifestFits(
  datadir: Datadir,
  manifest: Manifest | undefined,
  found: Survey,
): void {
  if (manifest === undefined && found.sealedAlready > 0) {
    throw new IntegrityError(
      `"${displayPath(datadir.root)}" has ${found.sealedAlready} sealed files, but no manifest and no unfinished run`,
      { hint: `Restore "${OWN_FILES.manifest}" from a backup of the encrypted directory.` },
    );
  }
  if (
    manifest !== undefined &&
    manifest.header.systemIdentifier !== datadir.control.systemIdentifier
  ) {
    throw new IntegrityError("the manifest is of another cluster");
  }
  if (manifest !== undefined && !manifest.header.control.equals(datadir.controlBytes)) {
    throw new StateError("global/pg_control was changed since the directory was encrypted", {
      hint: 'Decrypt the directory first; "tde verify" says what was changed.',
    });
  }
}

/**
 * A new manifest vouches for everything that it finds. So what the old one names must be what it names: someone's own
 * plain file in the place of a sealed one, or an older one, must not be sealed or named as if all were well.
 */
async function assertNothingChanged(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
): Promise<void> {
  const context = runContextOf(datadir, keyContext, manifest.header.epoch);
  const runner = engine.startRunner(context, () => {});
  try {
    await assertIntact(engine, runner, datadir, manifest, { allowAdded: true });
  } finally {
    await runner.close();
  }
}
