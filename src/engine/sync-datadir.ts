/**
 * Brings an encrypted copy of a cluster up to date with a newer plain one: first all of both is read and compared, so
 * that a copy which fails verification is refused as it is; then only what differs is written. Pages that are sealed
 * anew are under the current key; all others keep key and nonce.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { classify, OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { IntegrityError, StateError, StorageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import { parseControlFile } from "../postgres/control-file.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { DirectoryRun, type FoundRun, type TakenUp } from "./run/directory-run.ts";
import { runContextOf } from "./encrypt-datadir.ts";
import {
  hasBareGuard,
  openOriginalAutoConf,
  readAutoConf,
  sameOriginal,
  settingsAddedToGuard,
} from "./guard.ts";
import { acceptMovesToSeal } from "./moved-links.ts";
import {
  assertManifestOfRun,
  manifestIsMissing,
  manifestOfEndedRun,
  nextEpoch,
  openJudgedManifest,
  openManifestOfRun,
  seenAsManifest,
} from "./open-manifest.ts";
import { assertFreePlace, placesOfTablespaces } from "./output-directory.ts";
import { isClaimedAlone, ownClaimRemovals } from "./place-claims.ts";
import { Proof, type ProofReport } from "./proof.ts";
import { assertLinksOwn } from "./shared-links.ts";
import { SyncWriter } from "./sync-apply.ts";
import { copyAttributes } from "./sync-attributes.ts";
import type { SyncChanges, SyncFigures } from "./sync-changes.ts";
import {
  assertApart,
  assertEncryptedCopy,
  assertNotOlder,
  assertPlainSource,
  assertSameCluster,
  assertStillSame,
} from "./sync-checks.ts";
import { compareTrees, isNewBackupManifest, type SyncPair } from "./sync-compare.ts";
import { removeWorkingFiles } from "./run/working-files.ts";
import { writeManifests } from "./write-manifests.ts";

export interface SyncOptions {
  readonly source: BytePath;
  /** The encrypted copy. */
  readonly root: BytePath;
  /** Where tablespaces go that the copy does not have yet. */
  readonly tablespaceMapping: ReadonlyMap<BytePath, BytePath>;
  /** No server uses the source, whatever its control file says. */
  readonly assumeStopped: boolean;
  readonly acceptOlder: boolean;
  /** pg_wal and tablespaces of the copy may lead elsewhere than when it was encrypted. */
  readonly acceptMoved?: boolean | undefined;
  readonly dryRun: boolean;
}

export interface SyncReport {
  readonly outcome: "synced" | "up-to-date" | "dry-run";
  readonly figures: SyncFigures;
  /** Into the copy, its journal included. */
  readonly bytesWritten: number;
  /** Absent when nothing was written. */
  readonly epoch?: bigint | undefined;
  readonly keyId?: number | undefined;
  readonly proof?: ProofReport | undefined;
}

/** What the journal keeps. */
interface SyncPlan {
  /** The state that the copy is brought to: pg_control's first 512 bytes in base64. */
  readonly control: string;
}

/**
 * @throws {StateError} {IntegrityError} {KeyError} {UsageError} when it is refused; then nothing is changed.
 * @throws {StorageError} {StateError} also in the middle: then the run is unfinished, and the same call goes on.
 */
export async function syncDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  options: SyncOptions,
): Promise<SyncReport> {
  const { fs } = engine;
  const operation = options.dryRun ? undefined : "sync";
  const header = unfinishedRun(fs, options.root, operation, keyContext.memory);
  const { source, copy } = openBoth(fs, options);
  if (header === undefined) assertEncryptedCopy(fs, copy);
  if (options.dryRun) return await begin(engine, keyContext, options, source, copy);
  const lock = lockDatadir(fs, options.root, engine.command);
  try {
    const unfinished = unfinishedRun(fs, options.root, "sync", keyContext.memory);
    if (unfinished !== undefined) {
      const report = await goOn(engine, keyContext, options, unfinished);
      if (report !== undefined) return report;
    }
    const both = openBoth(fs, options);
    return await begin(engine, keyContext, options, both.source, both.copy);
  } finally {
    lock.release();
  }
}

function openBoth(fs: FileSystem, options: SyncOptions): { source: Datadir; copy: Datadir } {
  const source = openDatadir(fs, options.source);
  const copy = openDatadir(fs, options.root);
  assertApart(fs, source, copy);
  unfinishedRun(fs, source.root, undefined, undefined);
  assertPlainSource(fs, source);
  assertNotInUse(fs, source, options);
  assertNotInUse(fs, copy, { assumeStopped: true });
  assertSameCluster(source, copy);
  return { source, copy };
}

function assertNothingBesideGuard(fs: FileSystem, copy: Datadir): void {
  if (settingsAddedToGuard(fs, copy.root).length === 0) return;
  throw new StateError(`settings were added beside the guard of "${displayPath(copy.root)}"`, {
    hint: "A restore tool prepared the copy to be started. Take them out of postgresql.auto.conf first.",
  });
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  options: SyncOptions,
  source: Datadir,
  copy: Datadir,
): Promise<SyncReport> {
  const { fs } = engine;
  const { memory } = keyContext;
  const manifest = openJudgedManifest(fs, copy.root, keyContext, options);
  const recorded = parseControlFile(manifest.header.control, OWN_FILES.manifest);
  assertNotOlder(source.control, recorded);
  assertLinksOwn(fs, copy, manifest, memory);
  acceptMovesToSeal(engine, copy, manifest, options.acceptMoved);
  assertNothingBesideGuard(fs, copy);
  const tablespaces = newTablespaces(fs, source, copy, options);
  if (!options.dryRun) removeUnbornJournal(fs, copy.root);
  const epoch = nextEpoch(manifest, memory);
  const session = await Session.open(engine, keyContext, { source, copy, manifest, epoch }, false);
  try {
    const changes = await session.compare();
    const { figures } = changes;
    if (options.dryRun) return { outcome: "dry-run", figures, bytesWritten: 0 };
    if (changes.isEmpty) {
      await copyAttributes(fs, source, copy);
      return { outcome: "up-to-date", figures, bytesWritten: 0 };
    }
    assertRoom(fs, copy, changes);
    const { directoryId } = manifest.header;
    const plan: SyncPlan = { control: source.controlBytes.toString("base64") };
    const order = { operation: "sync", directoryId, epoch, from: manifest } as const;
    const run = DirectoryRun.begin(fs, copy.root, keyContext, order, plan);
    return await session.write(run, changes, tablespaces, options);
  } finally {
    await session.close();
  }
}

/**
 * Takes up an interrupted run: its newest entry is done again, and then all is compared once more, with a source that
 * may be newer than it was then.
 * @returns undefined when the run was as good as over: then another one may begin.
 */
async function goOn(
  engine: EngineContext,
  keyContext: KeyContext,
  options: SyncOptions,
  unproved: JournalHeader,
): Promise<SyncReport | undefined> {
  const { fs } = engine;
  const before = openBoth(fs, options);
  const takenUp = resumeSync(fs, keyContext, before.copy, unproved);
  const { run, plan, manifest } = takenUp;
  try {
    if (endSyncIfDone(fs, keyContext, before.copy, takenUp)) return undefined;
    const { source, copy } = openBoth(fs, options);
    assertNothingBesideGuard(fs, copy);
    assertNotOlder(source.control, parseControlFile(manifest.header.control, OWN_FILES.manifest));
    assertNotOlder(source.control, parseControlFile(Buffer.from(plan.control, "base64")));
    const { epoch, runId } = run.header;
    const tablespaces = newTablespaces(fs, source, copy, options, runId);
    const session = await Session.open(engine, keyContext, { source, copy, manifest, epoch }, true);
    try {
      const changes = await session.compare();
      assertRoom(fs, copy, changes);
      return await session.write(run, changes, tablespaces, options);
    } finally {
      await session.close();
    }
  } finally {
    run.leave();
  }
}

/** An interrupted sync whose newest entry is done, and the manifest that stands there now. */
export type ResumedSync = TakenUp<SyncPlan> & { readonly manifest: Manifest };

/**
 * Proves the journal of an interrupted run, and does what its newest entry says.
 * @throws {IntegrityError} when the journal is not of this state of the directory: an older one, brought back.
 */
export function resumeSync(
  fs: FileSystem,
  keyContext: KeyContext,
  copy: Datadir,
  unproved: JournalHeader,
): ResumedSync {
  const manifest = openManifestOfRun(fs, copy.root, keyContext.keys, unproved);
  if (manifest === undefined) throw manifestIsMissing(copy.root);
  const isOver = manifest.header.epoch === unproved.epoch;
  // The manifest takes its place by the last entry.
  const judge = (found: FoundRun): void => {
    assertManifestOfRun(fs, copy.root, keyContext.keys, found);
    if (found.content.committed || found.standing === "ended" || !isOver) return;
    throw new IntegrityError(
      `"${OWN_FILES.journal}" in "${displayPath(copy.root)}" is an older one of the run that made "${OWN_FILES.manifest}"`,
      { hint: "Nothing was changed. Restore the directory as a whole from a backup." },
    );
  };
  return { ...DirectoryRun.resume<SyncPlan>(fs, copy.root, keyContext, unproved, judge), manifest };
}

/** @returns whether all was in its place, the manifest, too: then the run is ended now. */
export function endSyncIfDone(
  fs: FileSystem,
  keyContext: KeyContext,
  copy: Datadir,
  { run, content, manifest, standing }: ResumedSync,
): boolean {
  if (standing === "ended") {
    manifestOfEndedRun(copy, manifest, run.header, keyContext);
    run.endAgain();
    return true;
  }
  removeWorkingFiles(fs, copy);
  if (!content.committed) return false;
  const made = openManifestOfRun(fs, copy.root, keyContext.keys, run.header);
  if (made?.header.epoch !== run.header.epoch) throw manifestIsMissing(copy.root);
  run.end({ kind: "seen", seen: seenAsManifest(copy, made) });
  return true;
}

/** One comparison, and what is written after it: they share their workers. */
class Session {
  private readonly engine: EngineContext;
  private readonly keyContext: KeyContext;
  private readonly pair: SyncPair;
  private readonly runner: TaskRunner;

  private constructor(
    engine: EngineContext,
    keyContext: KeyContext,
    pair: SyncPair,
    runner: TaskRunner,
  ) {
    this.engine = engine;
    this.keyContext = keyContext;
    this.pair = pair;
    this.runner = runner;
  }

  static async open(
    engine: EngineContext,
    keyContext: KeyContext,
    pair: Omit<SyncPair, "sealConfig" | "resumed">,
    resumed: boolean,
  ): Promise<Session> {
    let sealConfig = false;
    let bytes = 0;
    for (const { path, class: kind, sizeBytes } of pair.manifest.entries()) {
      bytes += sizeBytes;
      sealConfig ||= kind === "S" && classify(path, "file", pair.copy).class === "readable";
    }
    engine.progress.begin("comparing", bytes);
    const context = runContextOf(pair.source, keyContext, { ...pair, saltKey: undefined });
    const runner = engine.startRunner(context, (done) => engine.progress.advance(done));
    return new Session(engine, keyContext, { ...pair, sealConfig, resumed }, runner);
  }

  async compare(): Promise<SyncChanges> {
    const { engine, pair, keyContext } = this;
    const { source, copy } = pair;
    const changes = await compareTrees(engine, this.runner, pair);
    if (isNewBackupManifest(engine, pair)) changes.backupManifest = "changed";
    const { systemIdentifier } = copy.control;
    const kept = openOriginalAutoConf(engine.fs, copy.root, {
      keys: keyContext.keys,
      systemIdentifier,
    });
    const original = readAutoConf(engine.fs, source.root);
    changes.autoConf =
      original === "guard" || !sameOriginal(original, kept) || !hasBareGuard(engine.fs, copy.root);
    engine.progress.end();
    return changes;
  }

  async write(
    run: DirectoryRun,
    changes: SyncChanges,
    tablespaces: ReadonlyMap<BytePath, BytePath>,
    options: SyncOptions,
  ): Promise<SyncReport> {
    const { engine, pair, keyContext } = this;
    const { fs } = engine;
    const { source } = pair;
    const { keys } = keyContext;
    try {
      const { copy } = pair;
      engine.progress.begin("writing", changes.figures.bytesToWrite);
      const writer = new SyncWriter(engine, this.runner, run, { source, copy, tablespaces });
      await writer.write(changes, runContextOf(copy, keyContext, run), keys);
      await copyAttributes(fs, source, copy);
      const after = openBoth(fs, options);
      assertStillSame(source, after.source);

      engine.progress.end();
      engine.progress.begin("proving", 0);
      const { directoryId, epoch } = run.header;
      const header = {
        ...pair.manifest.header,
        directoryId,
        keyId: keys.currentKeyId,
        epoch,
        control: after.copy.controlBytes,
      };
      const { signal } = engine;
      const patched = new Set(changes.patched.map(({ path }) => path));
      const readBefore = { files: "all-but-patched", pages: "none" } as const;
      const { proof, root, steps } = await writeManifests(
        engine,
        this.runner,
        after.copy,
        { header, keys },
        new Proof(fs, after.copy, { header, keys, readBefore, patched, signal }),
      );
      run.commitLast([...steps, ...ownClaimRemovals(fs, after.copy, run.header.runId)]);
      const { load, newestPages } = proof;
      const pages = newestPages + writer.containers.pages;
      const bytes = newestPages * copy.control.blockSizeBytes + writer.containers.bytes;
      const written = new Map([[keys.currentKeyId, { pages, bytes }]]);
      const seen = { directoryId, epoch, root, path: copy.realRoot, load, written };
      run.end({ kind: "seen", seen });
      const manifestBytes = fs.stat(joinPath(copy.root, OWN_FILES.manifest))?.sizeBytes ?? 0;
      return {
        outcome: "synced",
        figures: changes.figures,
        bytesWritten: writer.bytesWritten + manifestBytes,
        epoch,
        keyId: keys.currentKeyId,
        proof: { ...proof, root },
      };
    } catch (error) {
      run.abandon(() => removeWorkingFiles(fs, pair.copy));
      throw error;
    }
  }

  async close(): Promise<void> {
    this.engine.progress.end();
    await this.runner.close();
  }
}

/** Where tablespaces go that the copy does not have. @throws {UsageError} {StateError}. */
function newTablespaces(
  fs: FileSystem,
  source: Datadir,
  copy: Datadir,
  { tablespaceMapping }: SyncOptions,
  runId?: Buffer,
): Map<BytePath, BytePath> {
  const known = new Set(copy.tablespaces.map(({ path }) => path));
  const places = placesOfTablespaces(source, tablespaceMapping, (path) => !known.has(path));
  const taken = [source, copy].flatMap(({ realRoot, tablespaces, walTarget }) => [
    realRoot,
    ...tablespaces.map(({ realPath }) => realPath),
    ...(walTarget === undefined ? [] : [walTarget]),
  ]);
  for (const place of places.values()) {
    // An interrupted run has claimed it, and had not made the link yet.
    const isClaimed = runId !== undefined && isClaimedAlone(fs, place, runId);
    assertFreePlace(fs, place, taken, { isClaimed });
    taken.push(place);
  }
  return places;
}

/** New files stand beside the old ones for a moment, and the journal holds what is written in place. */
function assertRoom(fs: FileSystem, { root }: Datadir, { figures }: SyncChanges): void {
  const needed = figures.growthBytes + figures.largestFileBytes;
  const free = fs.freeBytes(root);
  if (free >= needed) return;
  throw new StorageError(
    `not enough space in "${displayPath(root)}": ${needed} bytes are needed, ${free} are free`,
    { errno: "ENOSPC", hint: "Free some space, and run the same command again." },
  );
}
