/**
 * Rotates keys: seals files anew under the current key, with new salts, nonces, tags and MACs. Each page is opened and
 * sealed again in memory, new files stand beside the old ones until the journal lets them take their places, sidecar
 * first, and the manifest comes last, under the current key. After a crash the same call goes on: what still has the
 * digest that the old manifest names is to do, the rest is done.
 *
 * A file that cannot be opened ends the run, but not as an unfinished one: what was done stays and the manifest says
 * so, the rest is as it was. So one damaged page does not lock a whole directory.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { BACKUP_MANIFEST } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { sidecarSizeBytes } from "../datadir/relation-job.ts";
import { StateError, StorageError, TdeError, UsageError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { KeyLoads } from "../keyring/key-load.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type DueStep, type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { Item } from "../workers/tasks.ts";
import { Acceptance } from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { hasLock, lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { directoryLoad } from "./directory-load.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import { assertManifestFits, runContextOf } from "./encrypt-datadir.ts";
import { assertGuard } from "./guard.ts";
import { acceptMovesToSeal } from "./moved-links.ts";
import {
  assertManifestOfRun,
  manifestIsMissing,
  manifestOfEndedRun,
  nextEpoch,
  openAuthenticManifest,
  openJudgedManifest,
  openManifestOfRun,
  seenAsManifest,
} from "./open-manifest.ts";
import { isAsBefore, resealAll } from "./reseal-all.ts";
import { assertOwnFiles } from "./run/own-files.ts";
import { rotationFiles } from "./rotation-files.ts";
import { RotationProof, type RotationProofReport } from "./rotation-proof.ts";
import {
  isNamedIn,
  type RotationRequest,
  type RotationSelection,
  sameSelection,
  selectionOf,
  selector,
} from "./rotation-selection.ts";
import { assertLinksOwn } from "./shared-links.ts";
import { assertIntact } from "./structure-check.ts";
import { assertEncrypted } from "./verify-datadir.ts";
import { removeWorkingFiles } from "./run/working-files.ts";
import { writeManifests } from "./write-manifests.ts";

export interface RotateOptions {
  readonly root: BytePath;
  readonly request: RotationRequest;
  readonly acceptOlder: boolean;
  /** pg_wal and tablespaces may lead elsewhere than when the directory was encrypted. */
  readonly acceptMoved?: boolean | undefined;
  readonly dryRun: boolean;
}

export interface RotateReport {
  readonly outcome: "rotated" | "nothing-to-do" | "dry-run";
  /** Sealed anew, or to be. */
  readonly files: number;
  readonly bytes: number;
  /** The key that it is, or would be, under. */
  readonly keyId: number;
  readonly directoryId: string;
  readonly epoch: bigint;
  /** 64 hex digits. */
  readonly root: string;
  /** What each key protects in the directory, after the run or, where nothing was written, now. */
  readonly load: KeyLoads;
}

/** What the journal keeps of the options. */
interface RotatePlan {
  readonly selection: RotationSelection;
}

/**
 * @throws {UsageError} for a key or relation that is not there. @throws {StateError} when the directory is in use, not
 *   encrypted or has an unfinished run of another kind. @throws {IntegrityError} when something that is to be sealed
 *   anew does not authenticate: it is then as it was. @throws {KeyError} {StorageError}.
 */
export async function rotateDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  options: RotateOptions,
): Promise<RotateReport> {
  const { fs } = engine;
  const { root } = options;
  const unlocked = openDatadir(fs, root);
  assertNotInUse(fs, unlocked, { assumeStopped: true });
  assertSelectable(keyContext, options.request);
  if (options.dryRun) {
    unfinishedRun(fs, root, undefined, keyContext.memory);
    return begin(engine, keyContext, unlocked, options);
  }
  // A directory that is none of ours gets no lock, but one that a dead process left is taken away.
  if (unfinishedRun(fs, root, "rotate", keyContext.memory) === undefined && !hasLock(fs, root))
    assertEncrypted(fs, unlocked);
  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped: true });
    const header = unfinishedRun(fs, root, "rotate", keyContext.memory);
    if (header !== undefined) {
      const resumed = await resumeRotation(engine, keyContext, datadir, header);
      const now = openAuthenticManifest(fs, root, keyContext.keys);
      const asked = selectionOf(engine, keyContext, datadir, now, options.request);
      if (sameSelection(resumed.selection, asked)) return resumed.report;
      engine.notice("the interrupted rotation of this directory was finished first");
    }
    return await begin(engine, keyContext, datadir, options);
  } finally {
    lock.release();
  }
}

export interface ResumedRotation {
  readonly report: RotateReport;
  /** What the journal said was asked for. */
  readonly selection: RotationSelection;
}

/** Takes up an interrupted rotation of a locked directory and brings it to its end. */
export async function resumeRotation(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  unproved: JournalHeader,
): Promise<ResumedRotation> {
  const { fs } = engine;
  const { keys } = keyContext;
  const { root } = datadir;
  const { run, plan, standing } = DirectoryRun.resume<RotatePlan>(
    fs,
    root,
    keyContext,
    unproved,
    (found) => assertManifestOfRun(fs, root, keys, found),
  );
  try {
    const { selection } = plan;
    const manifest = openManifestOfRun(fs, root, keys, run.header);
    if (manifest === undefined) throw manifestIsMissing(root);
    if (standing === "ended") {
      manifestOfEndedRun(datadir, manifest, run.header, keyContext);
      run.endAgain();
      const report = unchanged("nothing-to-do", datadir, manifest, keys.currentKeyId);
      return { selection, report };
    }
    removeWorkingFiles(fs, datadir);
    // The manifest came last: where it is this run's own, everything is done.
    if (manifest.header.epoch === run.header.epoch) {
      run.end({ kind: "seen", seen: seenAsManifest(datadir, manifest) });
      return {
        selection,
        report: unchanged("nothing-to-do", datadir, manifest, keys.currentKeyId),
      };
    }
    const rotation = { datadir, run, manifest, selection, isResumed: true };
    return { selection, report: await carryOn(engine, keyContext, rotation) };
  } finally {
    run.leave();
  }
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: RotateOptions,
): Promise<RotateReport> {
  const { fs } = engine;
  const { keys, memory } = keyContext;
  assertEncrypted(fs, datadir);
  if (!options.dryRun) removeUnbornJournal(fs, datadir.root);
  const manifest = openJudgedManifest(fs, datadir.root, keyContext, options);
  assertManifestFits(datadir, manifest, undefined);
  assertLinksOwn(fs, datadir, manifest, memory);
  acceptMovesToSeal(engine, datadir, manifest, options.acceptMoved);
  assertGuard(fs, datadir.root);
  const selection = selectionOf(engine, keyContext, datadir, manifest, options.request);
  const todo = countSelected(fs, datadir, manifest, selection, keys.currentKeyId);
  if (todo.files === 0) assertSealed(datadir, manifest, selection);
  const { keyId } = manifest.header;
  const isDone =
    todo.files === 0 && (keyId === keys.currentKeyId || selection.kind === "relations");
  if (isDone) return unchanged("nothing-to-do", datadir, manifest, keys.currentKeyId);
  if (!todo.hasOtherKeys && keyId === keys.currentKeyId) {
    engine.notice(
      `all of it is under key ${keyId} already, and stays under it: "tde keyring new-key" makes another key`,
    );
  }
  assertRoom(fs, datadir, todo.largestBytes);
  await assertSelectedIntact(engine, keyContext, datadir, manifest, selection);
  if (options.dryRun) {
    const { files, bytes } = todo;
    return { ...unchanged("dry-run", datadir, manifest, keys.currentKeyId), files, bytes };
  }
  const { directoryId } = manifest.header;
  const epoch = nextEpoch(manifest, memory);
  const order = { operation: "rotate", directoryId, epoch, from: manifest } as const;
  const plan: RotatePlan = { selection };
  const run = DirectoryRun.begin(fs, datadir.root, keyContext, order, plan);
  return carryOn(engine, keyContext, { datadir, run, manifest, selection, isResumed: false });
}

interface Rotation {
  readonly datadir: Datadir;
  readonly run: DirectoryRun;
  /** Of before. */
  readonly manifest: Manifest;
  readonly selection: RotationSelection;
  readonly isResumed: boolean;
}

/** From the first file to the end: every step of it can be done again. */
async function carryOn(
  engine: EngineContext,
  keyContext: KeyContext,
  rotation: Rotation,
): Promise<RotateReport> {
  const { fs } = engine;
  const { datadir, run, manifest, selection, isResumed } = rotation;
  const context = runContextOf(datadir, keyContext, run);
  const runner = engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
  try {
    if (isResumed) await assertOwnFiles(engine, runner, datadir, run, resealedByRun(fs, rotation));
    engine.progress.begin("rotating", countSelected(fs, datadir, manifest, selection).bytes);
    let hasChanged = isResumed;
    const commit = (steps: readonly DueStep[]): void => {
      hasChanged ||= steps.length > 0;
      run.commit(steps);
    };
    const files = rotationFiles(fs, datadir, manifest, selection);
    try {
      await resealAll(engine, runner, context, datadir, files, isResumed, commit);
    } catch (error) {
      if (!isOfOneFile(error)) throw error;
      removeWorkingFiles(fs, datadir);
      if (hasChanged) await proveAndEnd(engine, keyContext, rotation, runner, true);
      else run.end({ kind: "nothing" });
      throw error;
    }
    return await proveAndEnd(engine, keyContext, rotation, runner, false);
  } catch (error) {
    run.abandon(() => removeWorkingFiles(fs, datadir));
    throw error;
  } finally {
    engine.progress.end();
    await runner.close();
  }
}

/** The files of a rotation that goes on which are no longer as the manifest of before names them. */
function* resealedByRun(
  fs: FileSystem,
  { datadir, manifest, selection }: Rotation,
): Generator<Item> {
  for (const file of rotationFiles(fs, datadir, manifest, selection)) {
    if (file.do === "reseal" && !isAsBefore(fs, datadir, file.entry, file.item)) yield file.item;
  }
}

/** Whether an error says that a file cannot be opened, and not that the system or the user stops the run. */
function isOfOneFile(error: unknown): boolean {
  return error instanceof TdeError && !(error instanceof StorageError);
}

async function proveAndEnd(
  engine: EngineContext,
  { keys }: KeyContext,
  { datadir, run, manifest: before, selection }: Rotation,
  runner: TaskRunner,
  isCutShort: boolean,
): Promise<RotateReport> {
  const { fs, signal } = engine;
  const { directoryId, epoch } = run.header;
  const keyId = keys.currentKeyId;
  const header = { ...before.header, keyId, epoch };
  const runKeys = new Set([run.header.keyId, keyId]);
  engine.progress.end();
  engine.progress.begin("proving", countSelected(fs, datadir, before, selection).bytes);
  const options = { header, keys, before, selection, runKeys, isCutShort, signal };
  const proof = new RotationProof(fs, datadir, options);
  const written = await writeManifests<RotationProofReport>(
    engine,
    runner,
    datadir,
    { header, keys },
    proof,
  );
  run.commitLast(written.steps);
  const { root } = written;
  const { files, bytes, load, written: sealed } = written.proof;
  const seen = { directoryId, epoch, root, path: datadir.realRoot, load, written: sealed };
  run.end({ kind: "seen", seen });
  return { outcome: "rotated", files, bytes, keyId, directoryId, epoch, root, load };
}

/** @throws {UsageError} {StateError} when nothing can be under that key, or everything new would be. */
function assertSelectable({ keys }: KeyContext, request: RotationRequest): void {
  if (request.kind !== "key") return;
  const { keyId } = request;
  const key = keys.keys.get(keyId);
  if (key === undefined) {
    throw new UsageError(`the keyring has no key ${keyId}`, { hint: 'See "tde keyring show".' });
  }
  if (keyId === keys.currentKeyId) {
    throw new StateError(`key ${keyId} is the current key: what is sealed anew would be under it`, {
      hint: 'Make a new key first with "tde keyring new-key".',
    });
  }
  if (key.state === "destroyed") {
    throw new StateError(`key ${keyId} has been destroyed: nothing under it can be opened`, {
      hint: "An older copy of the keyring still opens it, if one was kept.",
    });
  }
}

/** @throws {StateError} when the relations that are named were left out of the encryption. */
function assertSealed(datadir: Datadir, manifest: Manifest, selection: RotationSelection): void {
  if (selection.kind !== "relations") return;
  const isNamed = isNamedIn(selection.scope, datadir);
  for (const entry of manifest.entries()) {
    if (entry.class !== "O" || !isNamed(entry)) continue;
    throw new StateError(`"${displayPath(entry.path)}" is not encrypted: it is out of scope`, {
      file: displayPath(entry.path),
      hint: 'Nothing of it is under any key. "tde encrypt-datadir" takes it in.',
    });
  }
}

interface Selected {
  /** Whether anything of it is under another key than the current one. */
  hasOtherKeys: boolean;
  files: number;
  bytes: number;
  largestBytes: number;
}

function countSelected(
  fs: FileSystem,
  datadir: Datadir,
  manifest: Manifest,
  selection: RotationSelection,
  currentKeyId?: number,
): Selected {
  const selected: Selected = { hasOtherKeys: false, files: 0, bytes: 0, largestBytes: 0 };
  for (const file of rotationFiles(fs, datadir, manifest, selection)) {
    if (file.do === "keep") continue;
    const bytes = file.do === "reseal" ? file.entry.sizeBytes : 0;
    selected.hasOtherKeys ||= file.entry.keys.some(({ keyId }) => keyId !== currentKeyId);
    selected.files++;
    selected.bytes += bytes;
    selected.largestBytes = Math.max(selected.largestBytes, bytes);
  }
  return selected;
}

/** Each file exists twice for a moment, with its sidecar. */
function assertRoom(fs: FileSystem, { root, control }: Datadir, largestBytes: number): void {
  const needed = largestBytes + sidecarSizeBytes(largestBytes, control.blockSizeBytes);
  const free = fs.freeBytes(root);
  if (free >= needed) return;
  throw new StorageError(
    `not enough space in "${displayPath(root)}": ${needed} bytes are needed, ${free} are free`,
    { errno: "ENOSPC", hint: "Nothing was changed. Free some space, or rotate fewer relations." },
  );
}

/**
 * What is sealed anew is vouched for anew: an older file in the place of the one that the manifest names must not be.
 * Its pages' tags are checked when they are opened.
 */
async function assertSelectedIntact(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  selection: RotationSelection,
): Promise<void> {
  const context = runContextOf(datadir, keyContext, manifest.header);
  const runner = engine.startRunner(context, () => {});
  const isSelected = selector(selection, datadir, manifest);
  const only = (entry: ManifestEntry): boolean =>
    isSelected(entry) || entry.path === BACKUP_MANIFEST;
  try {
    await assertIntact(engine, runner, datadir, manifest, {
      acceptance: new Acceptance([]),
      allowAdded: () => true,
      only,
    });
  } finally {
    await runner.close();
  }
}

function unchanged(
  outcome: "nothing-to-do" | "dry-run",
  datadir: Datadir,
  manifest: Manifest,
  keyId: number,
): RotateReport {
  const { directoryId, epoch } = manifest.header;
  const root = manifest.root.toString("hex");
  const load = directoryLoad(manifest, datadir.control.blockSizeBytes);
  return { outcome, files: 0, bytes: 0, keyId, directoryId, epoch, root, load };
}
