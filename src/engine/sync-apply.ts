/**
 * Writes what a comparison found into the encrypted copy. Order: what is gone, folders and links, whole files (new
 * ones beside the old, due by the journal), changed pages (redo in the journal, then in place, then read back), the original
 * postgresql.auto.conf, and pg_control last of all. A crash leaves a copy between two states, which its journal says;
 * the same run compares again and does the rest.
 */
import assert from "node:assert/strict";
import { type BytePath, directoryOf, joinPath } from "../bytes/byte-path.ts";
import { BACKUP_MANIFEST, classify, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { digestSidecar } from "../datadir/open-relation.ts";
import { notAsCompared } from "../datadir/patch-relation.ts";
import { sidecarSizeBytes } from "../datadir/relation-job.ts";
import { parseRelationPath, sidecarName, workingName } from "../datadir/relation-path.ts";
import type { WalFacts } from "../datadir/wal-segment.ts";
import { StateError } from "../errors.ts";
import { slotsPerChunk } from "../format/chunk.ts";
import { fileContext } from "../format/container.ts";
import { slotsPerPage } from "../format/sidecar-page.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { attributesAt, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import { notAsPatched } from "../storage/read-back.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { Item, PatchItem, ReadableItem } from "../workers/tasks.ts";
import { type Planned, writeBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import type { DirectoryRun } from "./run/directory-run.ts";
import { AUTO_CONF, readAutoConf, SEALED_AUTO_CONF, stageGuard } from "./guard.ts";
import { futureRealPath } from "./output-directory.ts";
import { claimPlace } from "./place-claims.ts";
import { emptyRelation, walItem } from "./plan-items.ts";
import { prepareLarge } from "./seal-all.ts";
import { WalToSeal } from "./seal-wal.ts";
import type { PatchedFile, SyncChanges, WholeFile } from "./sync-changes.ts";
import { partsOf } from "./sync-patches.ts";

export interface SyncPlaces {
  readonly source: Datadir;
  readonly copy: Datadir;
  /** New tablespaces: `pg_tblspc/<oid>` -> directory, absolute. */
  readonly tablespaces: ReadonlyMap<BytePath, BytePath>;
}

const CONTROL_PATH = "global/pg_control" as BytePath;
/** Steps of one entry: a million removals would not fit into one. */
const STEPS_AT_ONCE = 1000;
/** What an entry of the journal holds of pages, about. It stays far below the limit of one. */
const REDO_BYTES = 2 ** 23;
/** Each is open until it is synced, and so is its sidecar. */
const PATCHES_AT_ONCE = 64;

/** What lets a whole file take its place. */
interface WholeSteps {
  readonly steps: readonly DueStep[];
  /** The file, where it is one that is sealed whole. */
  readonly container?: BytePath;
}

/** A part of a file to patch. */
interface PlannedPatch {
  readonly item: PatchItem;
  /** Of all chunks of the file: kept up as it is patched. */
  readonly digests: string[];
  readonly firstChunk: number;
}

export class SyncWriter {
  /** Into the copy and its journal, but for the journal's own lines. */
  bytesWritten: number = 0;
  /** Whole files that were sealed, each of which counts as a page. */
  readonly containers: { pages: number; bytes: number } = { pages: 0, bytes: 0 };
  private readonly engine: EngineContext;
  private readonly fs: FileSystem;
  private readonly runner: TaskRunner;
  private readonly run: DirectoryRun;
  private readonly places: SyncPlaces;

  constructor(engine: EngineContext, runner: TaskRunner, run: DirectoryRun, places: SyncPlaces) {
    this.engine = engine;
    this.fs = engine.fs;
    this.runner = runner;
    this.run = run;
    this.places = places;
  }

  /** @throws {StateError} {StorageError} ...: the run is then unfinished. */
  async write(changes: SyncChanges, facts: WalFacts, keys: DataKeys): Promise<void> {
    this.remove(changes.removed);
    // What was removed must not be due any more when its folder goes; and from here on no entry tells of all that is done.
    this.run.mark();
    this.removeFolders(changes.removedFolders);
    this.makeFolders(changes.newFolders);
    this.makeLinks(changes.newLinks);
    await this.writeWhole(changes.whole.map(({ path, how }) => this.planWhole(path, how)));
    await this.writeSegments(changes, facts);
    await this.patch(changes);
    this.writeAutoConf(changes, keys);
    await this.writeBackupManifest(changes);
    if (changes.control) await this.writeWhole([this.planWhole(CONTROL_PATH, "readable")]);
  }

  /** A file before its sidecar: ciphertext without one must never exist. */
  private remove(paths: readonly BytePath[]): void {
    const steps = paths.flatMap((path): DueStep[] => {
      const sidecar = sidecarName(path);
      const removal: DueStep = { action: "remove", path };
      return this.mayHaveSidecar(path) ? [removal, { action: "remove", path: sidecar }] : [removal];
    });
    for (let i = 0; i < steps.length; i += STEPS_AT_ONCE) {
      this.engine.signal?.throwIfAborted();
      this.run.commit(steps.slice(i, i + STEPS_AT_ONCE));
    }
  }

  private removeFolders(paths: readonly BytePath[]): void {
    for (const path of paths.toReversed()) {
      const folder = this.inCopy(path);
      if (this.fs.stat(folder)?.kind === "link") this.fs.remove(folder);
      else if (this.fs.readDirectory(folder).length === 0) this.fs.removeDirectory(folder);
      else
        this.engine.notice(
          `"${path}" is not in the source any more, but holds something that is no part of a cluster`,
        );
      this.fs.syncDirectory(directoryOf(folder));
    }
  }

  private makeFolders(paths: readonly BytePath[]): void {
    for (const path of paths) {
      const folder = this.inCopy(path);
      const tablespace = this.places.tablespaces.get(path);
      if (tablespace === undefined) {
        this.fs.makeDirectory(folder, 0o700);
      } else {
        // By the claim a run that goes on knows the place again, whatever the link leads to by then.
        const place = futureRealPath(this.fs, tablespace);
        claimPlace(this.fs, place, this.run.header.runId, { isResumed: true });
        this.fs.makeLink(tablespace, folder);
      }
      this.fs.syncDirectory(directoryOf(folder));
    }
  }

  private makeLinks(paths: readonly BytePath[]): void {
    for (const path of paths) {
      const original = joinPath(this.places.source.root, path);
      const link = this.inCopy(path);
      const stat = this.fs.stat(original);
      this.fs.makeLink(this.fs.readLink(original), link);
      if (stat !== undefined) this.fs.setLinkOwner(link, stat.uid, stat.gid);
      this.fs.syncDirectory(directoryOf(link));
    }
  }

  private async writeWhole(planned: Iterable<Planned<WholeSteps>>): Promise<void> {
    const { blockSizeBytes } = this.places.copy.control;
    await writeBatches(
      this.runner,
      planned,
      {
        blockSizeBytes,
        splitLarge: true,
        task: (items) => ({ kind: "seal", items }),
        prepareLarge: (item) => prepareLarge(this.fs, this.run.saltKey, item),
        signal: this.engine.signal,
      },
      (done) => {
        this.run.commit(done.flatMap(({ extra }) => extra.steps));
        for (const { extra } of done) this.count(extra);
      },
    );
  }

  private planWhole(path: BytePath, how: WholeFile): Planned<WholeSteps> {
    const { source, copy } = this.places;
    const plain = joinPath(source.root, path);
    const sizeBytes = this.fs.stat(plain)?.sizeBytes;
    if (sizeBytes === undefined) throw sourceChanges(path);
    const sealed = this.inCopy(workingName(path));
    const rename = (to: BytePath): DueStep => ({ action: "rename", from: workingName(to), to });
    if (how === "content") {
      const item: Item = {
        kind: "content",
        path,
        plain,
        sealed,
        context: fileContext(path),
        sizeBytes,
      };
      const steps = [rename(path)];
      if (this.mayHaveSidecar(path)) steps.push({ action: "remove", path: sidecarName(path) });
      return { item, extra: { steps, container: path } };
    }
    const asItIs: ReadableItem = { kind: "readable", path, from: plain, to: sealed, sizeBytes };
    if (how === "readable") return { item: asItIs, extra: { steps: [rename(path)] } };
    if (how === "empty-relation") {
      const emptied: DueStep = { action: "remove", path: sidecarName(path) };
      return { item: emptyRelation(asItIs), extra: { steps: [rename(path), emptied] } };
    }
    const file = parseRelationPath(path, copy);
    assert(file !== undefined, `"${path}" is no relation file`);
    const sidecar = sidecarName(path);
    const files = {
      path,
      plain,
      sealed,
      sidecar: this.inCopy(workingName(sidecar)),
      identity: identityOf(copy, file),
      sizeBytes,
    };
    // The sidecar first: ciphertext without one must never exist.
    return { item: { kind: "relation", files }, extra: { steps: [rename(sidecar), rename(path)] } };
  }

  private async writeSegments(
    { segments, changedSegments, crossingSegments }: SyncChanges,
    facts: WalFacts,
  ): Promise<void> {
    const { source, copy } = this.places;
    const wal = new WalToSeal(copy, { source: copy.root, output: undefined }, source.root);
    for (const path of segments) {
      if (changedSegments.has(path)) wal.add(path);
      else wal.addUnchanged(path);
    }
    await wal.run(this.engine, this.runner, facts, (steps) => {
      this.run.commit(steps);
      this.count({ steps });
    });
    for (const patch of wal.crossingCrcs(this.engine, facts, crossingSegments)) {
      await this.run.redo([patch]);
      await this.requireStored(patch.path);
    }
  }

  /** A CRC was written into a segment: that, and nothing else of it. @throws {StorageError} when its tags do not hold. */
  private async requireStored(path: BytePath): Promise<void> {
    const { copy } = this.places;
    const item = walItem({ source: copy.root, output: undefined }, copy, path);
    assert(item !== undefined, `"${path}" is no WAL segment`);
    const [result] = await this.runner.run({ kind: "check", depth: "tags", items: [item] });
    if (result?.problemCount !== 0) throw notAsPatched(path);
  }

  private async patch({ patched }: SyncChanges): Promise<void> {
    const { blockSizeBytes } = this.places.copy.control;
    const limit = Math.min(REDO_BYTES, this.runner.limits?.rangeBytes ?? REDO_BYTES);
    const chunkSlots = slotsPerChunk(blockSizeBytes);
    let items: PlannedPatch[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      await this.patchAtOnce(items);
      [items, bytes] = [[], 0];
    };
    for (const file of patched) {
      const digests = this.chunkDigests(file);
      for (const part of partsOf(file, blockSizeBytes, limit)) {
        if (items.length >= PATCHES_AT_ONCE || (items.length > 0 && bytes + part.bytes > limit))
          await flush();
        const firstChunk = part.range.firstSlot / chunkSlots;
        const chunks = Math.ceil(part.range.slotCount / chunkSlots);
        const item = {
          files: this.filesToPatch(file.path, part.sizeBeforeBytes),
          plainSizeBytes: file.sourceBytes,
          range: part.range,
          sizeAfterBytes: part.sizeAfterBytes,
          changed: part.changed,
          sidecarDigests: digests.slice(firstChunk, firstChunk + chunks),
        };
        items.push({ item, digests, firstChunk });
        bytes += part.bytes;
        // The next part begins at the size that this one leaves.
        if (part.sizeAfterBytes !== part.sizeBeforeBytes) await flush();
      }
    }
    await flush();
  }

  /**
   * What a file's sidecar pages are to be when they are patched, chunk by chunk: those that were compared, as the digest
   * of all of them together shows.
   * @throws {IntegrityError} when the sidecar is another one by now.
   */
  private chunkDigests({ path, sealedBytes, sidecarDigest }: PatchedFile): string[] {
    const { blockSizeBytes } = this.places.copy.control;
    const chunkBytes =
      (slotsPerChunk(blockSizeBytes) / slotsPerPage(blockSizeBytes)) * blockSizeBytes;
    const limit = sidecarSizeBytes(sealedBytes, blockSizeBytes);
    const sidecar = this.inCopy(sidecarName(path));
    const found = withFile(this.fs, sidecar, (file) =>
      digestSidecar(file, Buffer.alloc(chunkBytes), limit, chunkBytes),
    );
    if (found.root.toString("hex") !== sidecarDigest) throw notAsCompared({ path });
    return found.ranges.map((digest) => digest.toString("hex"));
  }

  private filesToPatch(path: BytePath, sizeBytes: number): PatchItem["files"] {
    const { source, copy } = this.places;
    const file = parseRelationPath(path, copy);
    if (file === undefined) throw sourceChanges(path);
    return {
      path,
      plain: joinPath(source.root, path),
      sealed: this.inCopy(path),
      sidecar: this.inCopy(sidecarName(path)),
      identity: identityOf(copy, file),
      sizeBytes,
    };
  }

  private async patchAtOnce(planned: readonly PlannedPatch[]): Promise<void> {
    if (planned.length === 0) return;
    this.engine.signal?.throwIfAborted();
    const items = planned.map(({ item }) => item);
    const results = await this.runner.run({ kind: "patch", items });
    // What is patched now is what the next part of the same file has to find.
    for (const [i, { digests, firstChunk }] of planned.entries()) {
      for (const [chunk, digest] of (results[i]?.patchedDigests ?? []).entries())
        if (digest !== undefined) digests[firstChunk + chunk] = digest;
    }
    const patches = results.flatMap((result) => result.patches ?? []);
    await this.run.redo(patches);
    // While the journal still keeps what belongs there.
    await this.runner.run({ kind: "read-back-patches", items });
    for (const { parts } of patches) {
      for (const { bytes } of parts) this.bytesWritten += 2 * bytes.length;
    }
  }

  private writeAutoConf({ autoConf }: SyncChanges, keys: DataKeys): void {
    if (!autoConf) return;
    const { source, copy } = this.places;
    const original = readAutoConf(this.fs, source.root);
    const like = original !== "guard" && original.kind === "file" ? AUTO_CONF : "PG_VERSION";
    const attributes = attributesAt(this.fs, joinPath(source.root, like));
    if (original === "guard" || attributes === undefined) throw sourceChanges(AUTO_CONF);
    const { systemIdentifier } = copy.control;
    const guardKeys = { keys, systemIdentifier };
    const steps = stageGuard(this.fs, copy.root, original, guardKeys, attributes);
    this.run.commit(steps);
    this.count({ steps, container: SEALED_AUTO_CONF });
  }

  /** The sealed original alone: what stands under its name is made from it at the end. */
  private async writeBackupManifest({ backupManifest }: SyncChanges): Promise<void> {
    const sealed = OWN_FILES["backup-manifest"];
    if (backupManifest === "gone") this.remove([BACKUP_MANIFEST, sealed]);
    if (backupManifest !== "changed") return;
    const { item } = this.planWhole(BACKUP_MANIFEST, "content");
    if (item?.kind !== "content") return;
    const step: DueStep = { action: "rename", from: workingName(sealed), to: sealed };
    const renamed = { ...item, path: sealed, sealed: this.inCopy(workingName(sealed)) };
    await this.writeWhole([{ item: renamed, extra: { steps: [step], container: sealed } }]);
  }

  private mayHaveSidecar(path: BytePath): boolean {
    const { copy } = this.places;
    const { class: kind } = classify(path, "file", copy);
    return kind === "relation" || kind === "wal";
  }

  private count({ steps, container }: WholeSteps): void {
    const sizeOf = (path: BytePath): number => this.fs.stat(this.inCopy(path))?.sizeBytes ?? 0;
    for (const step of steps) if (step.action === "rename") this.bytesWritten += sizeOf(step.to);
    if (container === undefined) return;
    this.containers.pages++;
    this.containers.bytes += sizeOf(container);
  }

  private inCopy(path: BytePath): BytePath {
    return joinPath(this.places.copy.root, path);
  }
}

function sourceChanges(path: BytePath): StateError {
  return new StateError(`"${path}" of the source is changing while tde works on it`, {
    hint: "Stop whatever writes to the source, and run the same command again.",
  });
}
