/**
 * Carries out one task over a file system: opens and creates files, lets datadir/ do the work chunk by chunk, and
 * syncs what it made. Runs in a worker thread, or in the engine's own thread.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { randomBytes, runningSha256 } from "../crypto/primitives.ts";
import { type ChangedSlots, joinChanged, PageComparison } from "../datadir/compare-relation.ts";
import { digestSidecar, openRange, type TakeChunk } from "../datadir/open-relation.ts";
import { notAsCompared, patchRange } from "../datadir/patch-relation.ts";
import {
  type RelationFiles,
  type RunFacts,
  type SlotRange,
  splitRange,
  wholeRange,
} from "../datadir/relation-job.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { resealRange } from "../datadir/reseal-relation.ts";
import { sealRange, type SealTarget, writeNonZero } from "../datadir/seal-relation.ts";
import {
  compareSealedFile,
  inspectSealedFile,
  resealFile,
  sealFile,
  unsealFile,
  verifySealedFile,
} from "../datadir/sealed-file.ts";
import { SegmentMemory } from "../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import { BackupChecksum } from "../format/backup-manifest-file.ts";
import { Chunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import { FILE_SALT_BYTES } from "../format/sidecar-page.ts";
import { type DataKeys } from "../keyring/data-keys.ts";
import { readExactly, withFile, writeAll } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";
import { NewFiles } from "./new-files.ts";
import { checkWal, openWal, resealWal, sealWal } from "./perform-wal.ts";
import { ProblemCollector } from "./problem-collector.ts";
import type { OnBytes } from "./runner.ts";
import {
  type CheckDepth,
  type ContentItem,
  type Item,
  type ItemResult,
  type ItemTask,
  type Original,
  pathOf,
  type PatchItem,
  type ReadableItem,
  type RelationItem,
  type Task,
  type WalItem,
} from "./tasks.ts";

/** A digest alone. */
const NO_DEPTH: { readonly depth?: CheckDepth; readonly wholeFiles?: CheckDepth } = {};

/** New files that wait for their sync in one go; each keeps a descriptor. */
const SYNC_GROUP = 64;

export interface RunContext extends RunFacts {
  readonly systemIdentifier: bigint;
}

export class TaskPerformer {
  private readonly fs: FileSystem;
  private readonly context: RunContext;
  private readonly onBytes: OnBytes;
  private readonly chunk: Chunk;
  /** Pages to compare with; made when it is needed. */
  private otherPages: Buffer | undefined;
  private readonly walMemory: SegmentMemory = new SegmentMemory();

  constructor(fs: FileSystem, context: RunContext, onBytes: OnBytes) {
    this.fs = fs;
    this.context = context;
    this.onBytes = onBytes;
    this.chunk = new Chunk(context.blockSizeBytes);
  }

  /**
   * Tasks may overlap: while the new files of one are synced, the next one's pages are worked on.
   * @throws {TdeError} the first that an item of a writing task meets; checks report problems instead.
   */
  async perform(task: Task): Promise<ItemResult[]> {
    if (task.kind === "patch") return task.items.map((item) => this.patch(item));
    const results: ItemResult[] = [];
    const newFiles = new NewFiles(this.fs, task.kind === "open" ? task.access : undefined);
    try {
      for (const item of task.items) {
        results.push(
          item.kind === "wal"
            ? this.performWal(task, item, newFiles)
            : this.performItem(task, item, newFiles),
        );
        if (newFiles.count >= SYNC_GROUP) await newFiles.sync();
      }
      await newFiles.sync();
    } finally {
      newFiles.close();
    }
    return results;
  }

  private performWal(task: ItemTask, item: WalItem, newFiles: NewFiles): ItemResult {
    const { fs } = this;
    // A segment is read and written before anything is waited for.
    const facts = { ...this.context, memory: this.walMemory };
    const result = ((): ItemResult => {
      switch (task.kind) {
        case "seal":
          return sealWal(fs, facts, item, newFiles);
        case "open":
          return openWal(fs, facts, item, newFiles);
        case "reseal":
          return resealWal(fs, facts, item, newFiles);
        case "checksum":
          throw new assert.AssertionError({ message: "backup_manifest lists no WAL" });
        case "check":
        case "digest": {
          const depth = task.kind === "check" ? walDepth(task) : undefined;
          return new ProblemCollector(item.files.path).collect((report) =>
            checkWal(fs, facts, item, depth, report),
          );
        }
      }
    })();
    this.onBytes(item.sizeBytes);
    return result;
  }

  private performItem(
    task: ItemTask,
    item: Exclude<Item, WalItem>,
    newFiles: NewFiles,
  ): ItemResult {
    switch (task.kind) {
      case "seal":
        if (item.kind === "relation") return this.sealRelation(item, newFiles);
        return item.kind === "content"
          ? this.sealContent(item, newFiles)
          : this.copy(item, newFiles);
      case "open":
        if (item.kind === "relation") return this.openRelation(item, newFiles);
        return item.kind === "content"
          ? this.openContent(item, newFiles)
          : this.copy(item, newFiles);
      case "reseal":
        assert(item.kind !== "readable", "what is sealed anew is sealed");
        return item.kind === "relation"
          ? this.resealRelation(item, newFiles)
          : this.resealContent(item, newFiles);
      case "checksum":
        assert(item.kind === "readable", "backup_manifest lists stored files as they are");
        return this.checksum(item);
      case "check":
      case "digest": {
        const { depth, wholeFiles = depth } = task.kind === "check" ? task : NO_DEPTH;
        const sinceEpoch = task.kind === "check" ? task.sinceEpoch : undefined;
        return new ProblemCollector(pathOf(item)).collect((report) => {
          if (item.kind === "relation") return this.checkRelation(item, depth, sinceEpoch, report);
          if (item.kind === "content") return this.checkContent(item, wholeFiles);
          return this.digestReadable(item, report);
        });
      }
    }
  }

  private sealRelation(item: RelationItem, newFiles: NewFiles): ItemResult {
    const { files, range } = item;
    return withFile(this.fs, files.plain, (source) => {
      const target = this.sealTarget(item, files, source, newFiles);
      const part = range ?? this.whole(files);
      const { chunk, context, onBytes } = this;
      return {
        path: files.path,
        ...sealRange(chunk, context, files, source, target, part, onBytes),
      };
    });
  }

  private resealRelation(item: RelationItem, newFiles: NewFiles): ItemResult {
    const { files, range, target: paths } = item;
    assert(paths !== undefined, "sealing anew needs new files");
    return withFile(this.fs, files.sealed, (sealed) =>
      withFile(this.fs, files.sidecar, (sidecar) => {
        const target = this.sealTarget(item, paths, sealed, newFiles);
        const part = range ?? this.whole(files);
        const { chunk, context, onBytes } = this;
        const source = { sealed, sidecar };
        return {
          path: files.path,
          ...resealRange(chunk, context, files, source, target, part, stop, onBytes),
        };
      }),
    );
  }

  /** The new files of one relation file: created, or of a range opened. */
  private sealTarget(
    { files, fileSalt, range }: RelationItem,
    paths: { readonly sealed: BytePath; readonly sidecar: BytePath },
    like: OpenFile,
    newFiles: NewFiles,
  ): SealTarget {
    const whole = range === undefined;
    return {
      sealed: newFiles.open(paths.sealed, whole, like, files.sizeBytes),
      sidecar: newFiles.open(paths.sidecar, whole, like),
      fileSalt: fileSalt === undefined ? randomBytes(FILE_SALT_BYTES) : Buffer.from(fileSalt),
    };
  }

  private openRelation({ files, range }: RelationItem, newFiles: NewFiles): ItemResult {
    return withFile(this.fs, files.sealed, (sealed) =>
      withFile(this.fs, files.sidecar, (sidecar) => {
        const plain = newFiles.open(files.plain, range === undefined, sealed, files.sizeBytes);
        const part = range ?? this.whole(files);
        const source = { sealed, sidecar };
        const { chunk, context, onBytes } = this;
        const take: TakeChunk = (firstSlot, dataBytes) =>
          writeNonZero(chunk, plain, dataBytes, firstSlot * context.blockSizeBytes);
        const opened = openRange(
          chunk,
          context,
          files,
          source,
          part,
          { check: "tags" },
          stop,
          onBytes,
          take,
        );
        return { path: files.path, pages: part.slotCount, wrongChecksums: opened.wrongChecksums };
      }),
    );
  }

  private checkRelation(
    { files, range, against }: RelationItem,
    depth: CheckDepth | undefined,
    sinceEpoch: bigint | undefined,
    report: (problem: Problem) => void,
  ): ItemResult {
    const { chunk, context, onBytes } = this;
    return withFile(this.fs, files.sidecar, (sidecar) => {
      let result: ItemResult = { path: files.path, sizeBytes: files.sizeBytes };
      let checked: Buffer | undefined;
      // A digest reads no page, but what cannot be opened must show before a run begins.
      if (depth === undefined) this.fs.open(files.sealed).close();
      else {
        const check = sinceEpoch === undefined ? depth : "tags";
        result = withFile(this.fs, files.sealed, (sealed) =>
          this.withComparison(files, range, against, (comparison) => {
            const part = range ?? this.whole(files);
            const source = { sealed, sidecar };
            const how = { check, sinceEpoch };
            const take: TakeChunk | undefined =
              comparison &&
              ((firstSlot, bytes) => comparison.take(bytes, firstSlot * context.blockSizeBytes));
            const opened = openRange(
              chunk,
              context,
              files,
              source,
              part,
              how,
              report,
              onBytes,
              take,
            );
            const keys = new Map(opened.pagesByKey);
            for (const keyId of opened.macKeyIds) keys.set(keyId, keys.get(keyId) ?? 0);
            checked = opened.sidecarDigest;
            const { newestSlots: newestPages, wrongChecksums } = opened;
            const changed = comparison?.changed && [comparison.changed];
            return { ...result, keys, pages: part.slotCount, newestPages, wrongChecksums, changed };
          }),
        );
      }
      if (range !== undefined && checked !== undefined) {
        result = { ...result, rangeDigests: [checked.toString("hex")] };
      }
      // The file root is of the whole sidecar: the first range takes it.
      if (range !== undefined && range.firstSlot > 0) return result;
      return { ...result, ...this.fileRoot(files, range, sidecar, checked, report) };
    });
  }

  /** @param checked - of the sidecar pages that have been checked: all of them where there is no range. */
  private fileRoot(
    files: RelationFiles,
    range: SlotRange | undefined,
    sidecar: OpenFile,
    checked: Buffer | undefined,
    report: (problem: Problem) => void,
  ): Pick<ItemResult, "digest" | "digestedRanges"> {
    const { chunk, context } = this;
    const sidecarBytes = (slots: number): number =>
      Math.ceil(slots / chunk.slotsPerPage) * context.blockSizeBytes;
    const expected = sidecarBytes(this.whole(files).slotCount);
    const hasOtherSize = (sizeBytes: number): boolean => {
      if (sizeBytes === expected) return false;
      const message = `the sidecar has ${sizeBytes} bytes where the file needs ${expected}`;
      report({ kind: "sidecar", path: displayPath(files.path), message });
      return true;
    };
    // Before anything of it is hashed: it may be as large as somebody likes.
    if (hasOtherSize(sidecar.stat().sizeBytes)) return {};
    if (range === undefined && checked !== undefined) return { digest: checked.toString("hex") };
    const rangeBytes = range && sidecarBytes(range.slotCount);
    const digested = digestSidecar(sidecar, chunk.data, expected, rangeBytes);
    if (hasOtherSize(digested.sizeBytes)) return {};
    const digestedRanges = range && digested.ranges.map((digest) => digest.toString("hex"));
    return { digest: digested.root.toString("hex"), digestedRanges };
  }

  private withComparison<T>(
    files: RelationFiles,
    range: SlotRange | undefined,
    against: Original | undefined,
    use: (comparison: PageComparison | undefined) => T,
  ): T {
    if (against === undefined) return use(undefined);
    return withFile(this.fs, against.path, (other) => {
      const slots = range ?? this.whole(files);
      return use(
        new PageComparison(this.chunk, other, against.sizeBytes, slots, this.comparisonBuffer()),
      );
    });
  }

  private comparisonBuffer(): Buffer {
    this.otherPages ??= Buffer.allocUnsafe(this.chunk.data.length);
    return this.otherPages;
  }

  private patch(item: PatchItem): ItemResult {
    const { files, range, sizeAfterBytes, sidecarDigests } = item;
    const { fs, chunk, context } = this;
    return withFile(fs, files.plain, (original) =>
      withFile(fs, files.sidecar, (sidecar) => {
        const order = {
          range,
          sizeAfterBytes,
          changed: item.changed ?? this.findChanged(item),
          sidecarDigests,
        };
        const source = { original, sidecar };
        const parts = patchRange(chunk, context, files, source, order, stop);
        const patches = [
          { path: sidecarName(files.path), sizeBytes: parts.sidecarBytes, parts: parts.sidecar },
          { path: files.path, sizeBytes: sizeAfterBytes, parts: parts.sealed },
        ];
        const patchedDigests = parts.sidecarDigests;
        return { path: files.path, pages: parts.pages, patches, patchedDigests };
      }),
    );
  }

  /** Chunk by chunk, so that each can be held against what was compared before. */
  private findChanged(item: PatchItem): ChangedSlots | undefined {
    const { files, plainSizeBytes, sidecarDigests } = item;
    const { firstSlot, slotCount } = item.range;
    const end = Math.min(firstSlot + slotCount, this.whole(files).slotCount);
    const against = { path: files.plain, sizeBytes: plainSizeBytes };
    const found: ChangedSlots[] = [];
    for (const range of splitRange(
      { firstSlot, slotCount: Math.max(0, end - firstSlot) },
      this.chunk.slotCapacity,
    )) {
      const part = { kind: "relation", files, range, against } as const;
      const { changed = [], rangeDigests } = this.checkRelation(part, "tags", undefined, stop);
      const chunkIndex = (range.firstSlot - firstSlot) / this.chunk.slotCapacity;
      if (rangeDigests?.[0] !== sidecarDigests[chunkIndex]) throw notAsCompared(files);
      found.push(...changed);
    }
    return joinChanged(found);
  }

  private sealContent(item: ContentItem, newFiles: NewFiles): ItemResult {
    const { systemIdentifier } = this.context;
    withFile(this.fs, item.plain, (source) => {
      const sealed = newFiles.open(item.sealed, true, source);
      const options = { keys: this.keys(), systemIdentifier, context: item.context };
      sealFile(this.fs, item.plain, sealed, options);
    });
    this.onBytes(item.sizeBytes);
    return { path: item.path };
  }

  private resealContent(item: ContentItem, newFiles: NewFiles): ItemResult {
    const { target } = item;
    assert(target !== undefined, "sealing anew needs a new file");
    withFile(this.fs, item.sealed, (source) => {
      const sealed = newFiles.open(target, true, source);
      resealFile(this.fs, item.sealed, sealed, this.openingOptions(item));
    });
    this.onBytes(item.sizeBytes);
    return { path: item.path, pages: 1 };
  }

  private openContent(item: ContentItem, newFiles: NewFiles): ItemResult {
    withFile(this.fs, item.sealed, (source) => {
      const plain = newFiles.open(item.plain, true, source);
      unsealFile(this.fs, item.sealed, plain, this.openingOptions(item));
    });
    this.onBytes(item.sizeBytes);
    return { path: item.path };
  }

  private checkContent(item: ContentItem, depth: CheckDepth | undefined): ItemResult {
    const { path, sizeBytes } = item;
    if (depth === "tags" && item.against !== undefined) {
      const { fs, against } = { fs: this.fs, against: item.against };
      const options = this.openingOptions(item);
      const { header, digest, same } = compareSealedFile(fs, item.sealed, against.path, options);
      this.onBytes(sizeBytes);
      const keys = new Map([[header.keyId, 1]]);
      return { path, digest: digest.toString("hex"), sizeBytes, keys, differs: !same };
    }
    if (depth === "tags") {
      const { header, digest } = verifySealedFile(this.fs, item.sealed, this.openingOptions(item));
      this.onBytes(sizeBytes);
      const keys = new Map([[header.keyId, 1]]);
      return { path, digest: digest.toString("hex"), sizeBytes, keys };
    }
    const { header, digest } = inspectSealedFile(this.fs, item.sealed, item.context);
    this.onBytes(sizeBytes);
    return { path, digest: digest.toString("hex"), sizeBytes, keys: new Map([[header.keyId, 1]]) };
  }

  private digestReadable(item: ReadableItem, report: (problem: Problem) => void): ItemResult {
    const hash = runningSha256();
    const limit = item.sizeBytes;
    const sizeBytes = this.readThrough(item.from, limit, (bytes) => hash.update(bytes));
    if (sizeBytes > limit) {
      const message = `the file has grown from ${limit} to ${sizeBytes} bytes since it was looked at`;
      report({ kind: "size", path: displayPath(item.path), message });
      return { path: item.path, sizeBytes };
    }
    const digest = hash.digest().toString("hex");
    if (item.against === undefined) return { path: item.path, digest, sizeBytes };
    const other = runningSha256();
    const { path, sizeBytes: otherBytes } = item.against;
    const differs =
      this.readThrough(path, otherBytes, (bytes) => other.update(bytes)) !== sizeBytes ||
      other.digest().toString("hex") !== digest;
    return { path: item.path, digest, sizeBytes, differs };
  }

  private checksum({ path, from, algorithm, sizeBytes: limit }: ReadableItem): ItemResult {
    const sum = new BackupChecksum(algorithm ?? "NONE");
    const sizeBytes = this.readThrough(from, limit, (bytes) => sum.update(bytes));
    if (sizeBytes > limit) throw hasChanged(path);
    return { path, backupChecksum: sum.finish(), sizeBytes };
  }

  private copy(item: ReadableItem, newFiles: NewFiles): ItemResult {
    return withFile(this.fs, item.from, (source) => {
      const target = newFiles.open(item.to, true, source);
      const hash = item.digest === undefined ? undefined : runningSha256();
      const limit = item.sizeBytes;
      const sizeBytes = this.readThrough(item.from, limit, (bytes, position) => {
        hash?.update(bytes);
        writeAll(target, bytes, 0, bytes.length, position);
      });
      const isOther = hash !== undefined && hash.digest().toString("hex") !== item.digest;
      if (isOther || sizeBytes > limit) throw hasChanged(item.path);
      return { path: item.path, sizeBytes };
    });
  }

  /** @returns its size; where that is above the limit, nothing of it was read. */
  private readThrough(
    path: BytePath,
    limitBytes: number,
    take: (bytes: Buffer, position: number) => void,
  ): number {
    return withFile(this.fs, path, (file) => {
      const buffer = this.chunk.data;
      const { sizeBytes } = file.stat();
      if (sizeBytes > limitBytes) return sizeBytes;
      for (let position = 0; position < sizeBytes; position += buffer.length) {
        const length = Math.min(buffer.length, sizeBytes - position);
        readExactly(file, buffer, 0, length, position);
        take(buffer.subarray(0, length), position);
        this.onBytes(length);
      }
      return sizeBytes;
    });
  }

  private whole(files: { sizeBytes: number }): SlotRange {
    return wholeRange(files.sizeBytes, this.context.blockSizeBytes);
  }

  private keys(): DataKeys {
    if (this.context.keys === undefined) throw new KeyError("this needs an opened keyring");
    return this.context.keys;
  }

  private openingOptions(item: ContentItem): {
    keys: DataKeys;
    systemIdentifier: bigint;
    context: string;
  } {
    const { systemIdentifier } = this.context;
    return { keys: this.keys(), systemIdentifier, context: item.context };
  }
}

function hasChanged(path: BytePath): IntegrityError {
  return new IntegrityError(`${displayPath(path)} changed while it was read`, {
    file: displayPath(path),
    hint: "Check the disk, and that nothing else uses the directory. Then run the command again.",
  });
}

/** Of a segment all tags are checked or none: what was sealed since is most of what there is. */
function walDepth({ depth, sinceEpoch }: Extract<Task, { kind: "check" }>): CheckDepth {
  return sinceEpoch === undefined ? depth : "tags";
}

/** For a task that writes: the first problem ends it. */
function stop(problem: Problem): never {
  const block = problem.block === undefined ? "" : ` block ${problem.block}`;
  const message = `${problem.path}${block}: ${problem.message}`;
  const file = problem.path;
  if (problem.kind === "key") throw new KeyError(message, { file });
  throw new IntegrityError(message, {
    file,
    hint: 'Restore this file and its sidecar from a backup; "tde verify" lists every damaged block.',
  });
}
