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
import type { WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, StateError, UsageError } from "../errors.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { Manifest } from "../format/manifest.ts";
import {
  isSameScope,
  type Scope,
  SCOPE_LIMIT_BYTES,
  scopeFilter,
  serializeScope,
} from "../format/scope.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type DueStep, type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { RunContext } from "../workers/perform.ts";
import { inspectBackupManifest, sealBackupManifest } from "./backup-manifest.ts";
import {
  type AcceptedChange,
  type AcceptedFile,
  Acceptance,
  acceptedFiles,
} from "./accepted-changes.ts";
import { catalogNames } from "./catalog-names.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { DirectoryRun } from "./directory-run.ts";
import type { EncryptOptions, EncryptReport } from "./encrypt-report.ts";
import { AUTO_CONF, installGuard, readAutoConf, takeBackGuard } from "./guard.ts";
import { type InventoryOptions, takeInventory } from "./inventory.ts";
import { movedLinks } from "./moved-links.ts";
import {
  hasManifest,
  nextEpoch,
  openJudgedManifest,
  openManifestOfRun,
  rememberManifest,
  settledManifest,
} from "./open-manifest.ts";
import { hasNames, type ScopeSelection } from "./scope-request.ts";
import { relationsOnDisk, selectScope } from "./select-scope.ts";
import { awaitLateServers, withoutServers } from "./server-watch.ts";
import { assertIntact } from "./structure-check.ts";
import { proveAndEnd } from "./prove-and-end.ts";
import { sealAll } from "./seal-all.ts";
import { assertRoom, type Survey, survey } from "./survey.ts";
import { removeWorkingFiles } from "./working-files.ts";

/** What the journal keeps of the options, so that a resumed run does the same. */
interface EncryptPlan {
  readonly scope: Scope;
  readonly wal: WalMode;
  readonly sealConfig: boolean;
  readonly accepted: readonly AcceptedFile[];
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
  const acceptance = new Acceptance(options.acceptChanged);
  const unlocked = openDatadir(fs, root);
  const unfinished = unfinishedRun(fs, root, "encrypt");
  const assumeStopped = options.assumeStopped || unfinished !== undefined;
  assertNotInUse(fs, unlocked, { assumeStopped });
  // A name is looked up in a whole directory: after a run that has to be finished first.
  const isLater = unfinished !== undefined && hasNames(options.scope, unlocked) && !options.dryRun;
  const scope = isLater ? undefined : selectedScope(engine, keyContext, unlocked, options.scope);
  if (options.dryRun && scope !== undefined) {
    inspectBackupManifest(fs, unlocked, hasManifest(fs, root) || unfinished !== undefined);
    const inventory = inventoryOptions({ ...options, scope }, keyContext);
    const todo = survey(fs, unlocked, inventory, "resumed");
    return { outcome: "dry-run", survey: todo, scope };
  }

  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped });
    const header = unfinishedRun(fs, root, "encrypt");
    if (header !== undefined) {
      const report = await resumeEncryption(engine, keyContext, datadir, header);
      const asked = scope ?? selectedScope(engine, keyContext, datadir, options.scope);
      if (!isSameScope(report.scope, asked)) {
        engine.notice(
          `the interrupted run was finished with its own scope, ${serializeScope(report.scope)}; run the command again for another one`,
        );
      }
      return report;
    }
    const chosen = scope ?? selectedScope(engine, keyContext, datadir, options.scope);
    return await withoutServers(fs, datadir, options, () =>
      begin(engine, keyContext, datadir, options, chosen, acceptance),
    );
  } finally {
    lock.release();
  }
}

/** @throws {UsageError} for what is unknown, ambiguous, or too much for a manifest to name. */
export function selectedScope(
  engine: EngineContext,
  { keys }: KeyContext,
  datadir: Datadir,
  selection: ScopeSelection,
): Scope {
  return selectScope(relationsOnDisk(engine.fs, datadir), selection, {
    names: catalogNames(engine, datadir, {
      keys,
      manifest: hasNames(selection, datadir)
        ? settledManifest(engine.fs, datadir.root, keys)
        : undefined,
      withPartitions: selection.withPartitions,
    }),
    limitBytes: SCOPE_LIMIT_BYTES,
  });
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
  const done = survey(fs, datadir, inventoryOptions(plan, keyContext), "work");
  rememberManifest(keyContext, datadir, manifest);
  run.end();
  const { scope } = plan;
  return { outcome: "already-encrypted", survey: done, scope, directoryId, epoch, keyId };
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: EncryptOptions,
  scope: Scope,
  acceptance: Acceptance,
): Promise<EncryptReport> {
  const { fs } = engine;
  const { keys, memory } = keyContext;
  const manifest = hasManifest(fs, datadir.root)
    ? openJudgedManifest(fs, datadir.root, keyContext, options)
    : undefined;
  if (manifest === undefined) assertNothingToAccept(options);
  else for (const { message } of movedLinks(fs, datadir, manifest)) engine.notice(message);
  removeUnbornJournal(fs, datadir.root);
  const { wal, sealConfig } = options;
  const todo = survey(fs, datadir, inventoryOptions({ ...options, scope }, keyContext), "first");
  assertManifestFits(datadir, manifest, todo);
  const hasList = inspectBackupManifest(fs, datadir, manifest !== undefined);
  const isDone =
    manifest !== undefined &&
    todo.relations + todo.contents === 0 &&
    !hasList &&
    isSameScope(manifest.header.scope, scope);
  if (isDone && options.acceptChanged.length === 0) {
    return { outcome: "already-encrypted", survey: todo, scope };
  }
  assertRoom(fs, datadir, todo);
  const accepted =
    manifest === undefined
      ? []
      : await assertNothingElseChanged(engine, keyContext, datadir, manifest, {
          acceptance,
          scope,
        });
  if (isDone && accepted.length === 0) return { outcome: "already-encrypted", survey: todo, scope };
  const plan: EncryptPlan = { scope, wal, sealConfig, accepted: acceptedFiles(accepted) };
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
  return carryOn(engine, keyContext, datadir, run, plan, { options, todo });
}

/**
 * From the guard to the end: every step of it can be done again.
 * @param begun - of a run that has just begun; undefined where one is taken up.
 */
async function carryOn(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  run: DirectoryRun,
  plan: EncryptPlan,
  begun?: { readonly options: EncryptOptions; readonly todo: Survey },
): Promise<EncryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  const { root } = datadir;
  try {
    const isNewGuard = guard(fs, datadir, keyContext);
    const inUse = begun?.options ?? { assumeStopped: true };
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
    const todo = begun?.todo ?? survey(fs, datadir, options, "resumed");
    const context = runContextOf(datadir, keyContext, run.header.epoch);
    engine.progress.begin("encrypting", todo.bytes);
    const runner = engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
    try {
      const commit = (steps: readonly DueStep[]): void => {
        assertNotInUse(fs, datadir, inUse);
        run.commit(steps);
      };
      const places = { source: root, output: undefined };
      const inventory = takeInventory(fs, datadir, options, "work");
      await sealAll(engine, runner, context, datadir, places, inventory, commit);
      sealBackupManifest(fs, datadir, root, keys);
      const report = await proveAndEnd(engine, keyContext, runner, {
        datadir,
        run,
        scope: plan.scope,
        wal: plan.wal,
        todo,
        commit,
      });
      return { ...report, accepted: plan.accepted };
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

export function inventoryOptions(
  plan: Pick<EncryptPlan, "scope" | "wal" | "sealConfig">,
  { keys }: KeyContext,
): InventoryOptions {
  const { scope, wal, sealConfig } = plan;
  return { scope, wal, sealConfig, keyringId: keys.keyringId };
}

/** Sealed files without a manifest, or with a changed pg_control: something else was here. */
export function assertManifestFits(
  datadir: Datadir,
  manifest: Manifest | undefined,
  found: Survey | undefined,
): void {
  if (manifest === undefined && found !== undefined && found.sealedAlready > 0) {
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

/** @throws {UsageError} where there is no manifest that a file could differ from. */
export function assertNothingToAccept({ acceptChanged }: EncryptOptions): void {
  if (acceptChanged.length === 0) return;
  throw new UsageError("--accept-changed is given for a directory that is not encrypted yet", {
    hint: "Leave it out: configuration is taken as it is when a directory is encrypted.",
  });
}

/**
 * A new manifest vouches for everything that it finds. So what the old one names must be what it names: someone's own
 * plain file in the place of a sealed one, or an older one, must not be sealed or named as if all were well.
 * @returns the configuration that did change, and that the user wants as it is.
 */
async function assertNothingElseChanged(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  { acceptance, scope }: { readonly acceptance: Acceptance; readonly scope: Scope },
): Promise<readonly AcceptedChange[]> {
  const context = runContextOf(datadir, keyContext, manifest.header.epoch);
  const runner = engine.startRunner(context, () => {});
  try {
    const isInScope = scopeFilter(scope);
    // What is added and stays readable would be vouched for: that takes the user's word for each file.
    const allowAdded = ({ classification }: WalkEntry): boolean =>
      classification.class === "relation"
        ? isInScope(classification.file)
        : classification.class !== "readable";
    const options = { acceptance, allowAdded };
    return (await assertIntact(engine, runner, datadir, manifest, options)).accepted;
  } finally {
    await runner.close();
  }
}
