/**
 * Encrypts a data directory in place: look without writing, lock, journal, guard, then batch by batch new files
 * beside the old ones and, once the journal says so, in their place; last the proof, the manifest, and the end of the
 * journal. After a crash the same call goes on: what has a sidecar or a container's header is done, the rest is not.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { randomBytes } from "../crypto/primitives.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNoServerOn, assertNotInUse } from "../datadir/in-use.ts";
import type { WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, StateError, UsageError } from "../errors.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import {
  isSameScope,
  type Scope,
  SCOPE_LIMIT_BYTES,
  scopeFilter,
  serializeScope,
} from "../format/scope.ts";
import { attributesAt } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type DueStep, type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { RunContext } from "../workers/perform.ts";
import { inspectBackupManifest, sealBackupManifest } from "./backup-manifest.ts";
import {
  type AcceptedChange,
  Acceptance,
  acceptedFiles,
  assertSameAccepted,
} from "./accepted-changes.ts";
import { catalogNames } from "./catalog-names.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import type { EncryptOptions, EncryptReport } from "./encrypt-report.ts";
import {
  assertGuard,
  AUTO_CONF,
  installGuard,
  readAutoConf,
  sameOriginal,
  SEALED_AUTO_CONF,
  takeBackGuard,
  writeGuard,
} from "./guard.ts";
import { type InventoryOptions, takeInventory } from "./inventory.ts";
import { acceptMovesToSeal } from "./moved-links.ts";
import {
  assertManifestOfRun,
  hasManifest,
  manifestOfEndedRun,
  nextEpoch,
  openJudgedManifest,
  openManifestOfRun,
  seenAsManifest,
  settledManifest,
} from "./open-manifest.ts";
import { tellLinked } from "./hard-links.ts";
import { hasNames, type ScopeSelection } from "./scope-request.ts";
import { relationsOnDisk, selectScope } from "./select-scope.ts";
import { assertLinksOwn } from "./shared-links.ts";
import { awaitLateServers, withoutServers } from "./server-watch.ts";
import { assertIntact } from "./structure-check.ts";
import { proveAndEnd } from "./prove-and-end.ts";
import { sealAll } from "./seal-all.ts";
import { tellOfSealedWal } from "./seal-wal.ts";
import { assertOwnFiles, isSealedFile, isSealedSince, sealedByRun } from "./run/own-files.ts";
import { assertRoom, type Survey, survey } from "./survey.ts";
import { removeWorkingFiles } from "./run/working-files.ts";

/** What the journal keeps of the options, so that a resumed run does the same. */
interface EncryptPlan {
  readonly scope: Scope;
  readonly wal: WalMode;
  readonly sealConfig: boolean;
  readonly accepted: readonly AcceptedChange[];
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
  const unfinished = unfinishedRun(fs, root, "encrypt", keyContext.memory);
  const assumeStopped = options.assumeStopped || unfinished !== undefined;
  assertNotInUse(fs, unlocked, { assumeStopped });
  // A name is looked up in a whole directory: after a run that has to be finished first.
  const isLater = unfinished !== undefined && hasNames(options.scope, unlocked) && !options.dryRun;
  const scope = isLater ? undefined : selectedScope(engine, keyContext, unlocked, options.scope);
  if (options.dryRun && scope !== undefined) {
    if (unfinished === undefined) {
      if (hasManifest(fs, root)) judgedManifest(engine, keyContext, unlocked, options);
      else tellLinks(engine, unlocked);
    }
    inspectBackupManifest(fs, unlocked, hasManifest(fs, root) || unfinished !== undefined);
    const inventory = inventoryOptions({ ...options, scope }, keyContext);
    const todo = survey(fs, unlocked, inventory, "resumed");
    tellLinked(todo.linked, engine.notice);
    return { outcome: "dry-run", survey: todo, scope };
  }

  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped });
    const header = unfinishedRun(fs, root, "encrypt", keyContext.memory);
    const report = header && (await resumeEncryption(engine, keyContext, datadir, header));
    if (report !== undefined) {
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

/** What a copy shares with its original, nobody expects to be encrypted. */
function tellLinks({ notice }: EngineContext, { walTarget, tablespaces }: Datadir): void {
  const links: { readonly path: string; readonly target: BytePath | undefined }[] = [
    { path: "pg_wal", target: walTarget },
    ...tablespaces.map(({ path, linkTarget }) => ({ path, target: linkTarget })),
  ];
  for (const { path, target } of links) {
    if (target === undefined) continue;
    notice(
      `${displayPath(path)} leads to "${displayPath(target)}": what is there is encrypted, too`,
    );
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

/**
 * Takes up an interrupted encryption of a locked directory and brings it to its end.
 * @returns undefined when it had been undone but for its journal: the directory is as it was before.
 */
export async function resumeEncryption(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  unproved: JournalHeader,
): Promise<EncryptReport | undefined> {
  const { fs } = engine;
  const { root } = datadir;
  const { keys } = keyContext;
  const { run, content, plan, standing } = DirectoryRun.resume<EncryptPlan>(
    fs,
    root,
    keyContext,
    unproved,
    (found) => assertManifestOfRun(fs, root, keys, found),
  );
  try {
    const manifest = openManifestOfRun(fs, root, keys, run.header);
    if (standing === "ended") {
      const made = manifestOfEndedRun(datadir, manifest, run.header, keyContext);
      run.endAgain();
      return made && endedReport(fs, keyContext, datadir, plan, made);
    }
    removeWorkingFiles(fs, datadir);
    // The manifest came last: where it is this run's own, every file is sealed, and none may be sealed any more.
    if (manifest?.header.epoch === run.header.epoch) {
      run.end({ kind: "seen", seen: seenAsManifest(datadir, manifest) });
      return endedReport(fs, keyContext, datadir, plan, manifest);
    }
    await assertResumable(engine, keyContext, datadir, run, plan, manifest);
    putBackGuard(fs, datadir, content.entered);
    return await carryOn(engine, keyContext, datadir, run, plan);
  } finally {
    run.leave();
  }
}

/** Of a run all files and the manifest of which were in their places already. */
function endedReport(
  fs: FileSystem,
  keyContext: KeyContext,
  datadir: Datadir,
  plan: EncryptPlan,
  manifest: Manifest,
): EncryptReport {
  const { directoryId, epoch, keyId } = manifest.header;
  const done = survey(fs, datadir, inventoryOptions(plan, keyContext), "work");
  const { scope } = plan;
  return { outcome: "already-encrypted", survey: done, scope, directoryId, epoch, keyId };
}

/**
 * Nothing is sealed, and nothing counts as done, that is not held against something that authenticates it now: files that
 * this run sealed prove it by their salts and tags, and all that the manifest of before names is as that says. Only
 * plaintext of a first encryption is taken as it is.
 * @throws {IntegrityError} {KeyError}; nothing was changed.
 */
async function assertResumable(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  run: DirectoryRun,
  plan: EncryptPlan,
  manifest: Manifest | undefined,
): Promise<void> {
  const { fs } = engine;
  const context = runContextOf(datadir, keyContext, run);
  const runner = engine.startRunner(context, () => {});
  try {
    const inventory = takeInventory(fs, datadir, inventoryOptions(plan, keyContext), "resumed");
    const sealed = sealedByRun(fs, datadir, inventory, manifest);
    await assertOwnFiles(engine, runner, datadir, run, sealed);
    if (manifest === undefined) {
      engine.notice(
        "what is still plain is taken as it is now: before the first encryption ends, nothing vouches for it",
      );
      return;
    }
    assertManifestFits(datadir, manifest, undefined);
    const acceptance = new Acceptance(plan.accepted.map(({ path }) => path));
    const options = {
      acceptance,
      allowAdded: allowedToAdd(plan.scope),
      isResumed: true,
      only: (entry: ManifestEntry) => !isSealedSince(fs, datadir, keyContext.keys, entry),
    };
    const { accepted } = await assertIntact(engine, runner, datadir, manifest, options);
    assertSameAccepted(accepted, plan.accepted);
  } finally {
    await runner.close();
  }
}

/**
 * The guard of a run that goes on. Before the first entry of the journal it may be missing; later it is there, or nothing
 * in its place and the original is kept sealed.
 * @throws {IntegrityError} when something else stands in its place.
 */
function putBackGuard(fs: FileSystem, { root }: Datadir, entered: boolean): void {
  const found = readAutoConf(fs, root);
  if (!entered || found === "guard") return;
  const sealed = fs.stat(joinPath(root, SEALED_AUTO_CONF));
  if (found.kind === "absent" && sealed?.kind === "file") return writeGuard(fs, root, sealed);
  throw new IntegrityError(
    `the guard in "${displayPath(joinPath(root, AUTO_CONF))}" was taken away while the run was unfinished`,
    {
      hint: `Move that file away and run the same command again; the original is kept, sealed, as "${SEALED_AUTO_CONF}".`,
    },
  );
}

/** Of a directory that is encrypted already: its manifest, once what it says of links and guard is judged. */
function judgedManifest(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: EncryptOptions,
): Manifest {
  const manifest = openJudgedManifest(engine.fs, datadir.root, keyContext, options);
  assertLinksOwn(engine.fs, datadir, manifest, keyContext.memory);
  assertGuard(engine.fs, datadir.root);
  acceptMovesToSeal(engine, datadir, manifest, options.acceptMoved);
  return manifest;
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
  const { memory } = keyContext;
  const manifest = hasManifest(fs, datadir.root)
    ? judgedManifest(engine, keyContext, datadir, options)
    : undefined;
  if (manifest === undefined) {
    assertNothingToAccept(options);
    assertNoGuardLeft(fs, datadir);
    tellLinks(engine, datadir);
    tellOfSealedWal(engine, datadir, options.wal);
  }
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
  tellLinked(todo.linked, engine.notice);
  const accepted =
    manifest === undefined
      ? []
      : await assertNothingElseChanged(engine, keyContext, datadir, manifest, {
          acceptance,
          scope,
        });
  if (isDone && accepted.length === 0) return { outcome: "already-encrypted", survey: todo, scope };
  const plan: EncryptPlan = { scope, wal, sealConfig, accepted };
  const directoryId = manifest?.header.directoryId ?? randomBytes(16).toString("hex");
  const epoch = nextEpoch(manifest, memory);
  const order = { operation: "encrypt", directoryId, epoch, from: manifest } as const;
  const run = DirectoryRun.begin(fs, datadir.root, keyContext, order, plan);
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
    const isNewGuard = guard(fs, datadir, keyContext, run);
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
    const context = runContextOf(datadir, keyContext, run);
    engine.progress.begin("encrypting", todo.bytes);
    const runner = engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
    try {
      const commit = (steps: readonly DueStep[]): void => {
        // Servers of other directories were looked for when the run began: that reads all of /proc.
        assertNoServerOn(fs, datadir, inUse);
        run.commit(steps);
      };
      const places = { source: root, output: undefined };
      const inventory = takeInventory(fs, datadir, options, "work");
      await sealAll(engine, runner, context, datadir, places, inventory, commit);
      sealBackupManifest(fs, datadir, root, keys, run.saltKey);
      const report = await proveAndEnd(engine, keyContext, runner, {
        datadir,
        run,
        scope: plan.scope,
        wal: plan.wal,
        todo,
        commit,
      });
      return { ...report, accepted: acceptedFiles(plan.accepted) };
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
 * Puts the guard up, unless it stands already. What stands in its place is sealed anew: it may have changed since. Where
 * nothing stands there, what this run has sealed of it stays: it was taken away since.
 * @returns whether it is new.
 */
function guard(
  fs: FileSystem,
  datadir: Datadir,
  keyContext: KeyContext,
  run: DirectoryRun,
): boolean {
  const { root } = datadir;
  const found = readAutoConf(fs, root);
  if (found === "guard") return false;
  const sealed = fs.stat(joinPath(root, SEALED_AUTO_CONF));
  if (found.kind === "absent" && sealed?.kind === "file") writeGuard(fs, root, sealed);
  else installGuardFrom(fs, datadir, root, keyContext, run);
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
  run.end({ kind: "nothing" });
}

/** Seals the source's postgresql.auto.conf into `target`, and puts the guard there. */
export function installGuardFrom(
  fs: FileSystem,
  source: Datadir,
  target: BytePath,
  { keys }: KeyContext,
  { saltKey }: DirectoryRun,
): void {
  const original = readAutoConf(fs, source.root);
  if (original === "guard")
    throw new StateError(`"${displayPath(source.root)}" has a guard already`);
  // What is sealed is held against this: one bad read must not decide what is kept.
  const again = readAutoConf(fs, source.root);
  if (again === "guard" || !sameOriginal(original, again)) throw isChanging(source);
  const like = original.kind === "file" ? AUTO_CONF : "PG_VERSION";
  const attributes = attributesAt(fs, joinPath(source.root, like));
  if (attributes === undefined) throw isChanging(source);
  const { systemIdentifier } = source.control;
  installGuard(fs, target, original, { keys, systemIdentifier, saltKey }, attributes);
}

function isChanging({ root }: Datadir): StateError {
  return new StateError(`"${displayPath(root)}" is changing while tde works on it`);
}

export function runContextOf(
  { control }: Datadir,
  { keys }: KeyContext,
  of: { readonly epoch: bigint } | DirectoryRun,
): RunContext {
  const { epoch, saltKey } =
    of instanceof DirectoryRun
      ? { epoch: of.header.epoch, saltKey: of.saltKey }
      : { ...of, saltKey: undefined };
  return {
    blockSizeBytes: control.blockSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    systemIdentifier: control.systemIdentifier,
    keys,
    keyringId: keys.keyringId,
    epoch,
    saltKey,
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

/**
 * A guard without a manifest or an unfinished run is of an encryption whose manifest was taken away: the original behind
 * it could be anybody's.
 * @throws {IntegrityError}
 */
export function assertNoGuardLeft(fs: FileSystem, { root }: Datadir): void {
  const left =
    readAutoConf(fs, root) === "guard"
      ? AUTO_CONF
      : [SEALED_AUTO_CONF].find((name) => fs.stat(joinPath(root, name)) !== undefined);
  if (left === undefined) return;
  throw new IntegrityError(
    `"${left}" in "${displayPath(root)}" is of an encryption, but there is neither its manifest nor an unfinished run`,
    { hint: `Restore "${OWN_FILES.manifest}" from a backup of the encrypted directory.` },
  );
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
  const context = runContextOf(datadir, keyContext, manifest.header);
  const runner = engine.startRunner(context, () => {});
  try {
    const mayBeAdded = allowedToAdd(scope);
    // What is sealed already, but not named, is of a newer manifest, or of a run whose journal was taken away.
    const allowAdded = (found: WalkEntry): boolean =>
      mayBeAdded(found) && !isSealedFile(engine.fs, datadir, keyContext.keys, found.path);
    const options = { acceptance, allowAdded };
    return (await assertIntact(engine, runner, datadir, manifest, options)).accepted;
  } finally {
    await runner.close();
  }
}

/** What is added and stays readable would be vouched for: that takes the user's word for each file. */
function allowedToAdd(scope: Scope): (found: WalkEntry) => boolean {
  const isInScope = scopeFilter(scope);
  return ({ classification }) =>
    classification.class === "relation"
      ? isInScope(classification.file)
      : classification.class !== "readable";
}
