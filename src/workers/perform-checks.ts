/**
 * Looks at files and tells what it found of each; writes nothing. What is wrong with one of them is a problem in its
 * result, so that the others are looked at, too.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import { PageComparison } from "../datadir/compare-relation.ts";
import {
  digestSidecar,
  openRange,
  type OpenResult,
  readHead,
  type TakeChunk,
} from "../datadir/open-relation.ts";
import { holdAgainstTags } from "../datadir/container-tags.ts";
import { checkPlainRange } from "../datadir/plain-relation.ts";
import type { RelationFiles, SlotRange } from "../datadir/relation-job.ts";
import {
  compareSealedFile,
  containerHeaderOf,
  inspectSealedFile,
  verifySealedFile,
} from "../datadir/sealed-file.ts";
import { walFileSalt } from "../datadir/wal-segment.ts";
import { BackupChecksum } from "../format/backup-manifest-file.ts";
import { isSaltOfRun } from "../format/file-salt.ts";
import type { Problem } from "../format/problem.ts";
import { withFile } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { checkPlainWal, checkWal } from "./perform-wal.ts";
import { ProblemCollector } from "./problem-collector.ts";
import { hasChanged, readThrough } from "./read-through.ts";
import {
  type CheckDepth,
  type CheckTask,
  type ContentItem,
  type Item,
  type ItemResult,
  type Original,
  pathOf,
  type ReadableItem,
  type ReadBefore,
  type RelationItem,
  type WalItem,
} from "./tasks.ts";
import type { Tools } from "./tools.ts";

type Report = (problem: Problem) => void;

interface Depth {
  /** Undefined: a digest alone. */
  readonly depth: CheckDepth | undefined;
  readonly readBefore?: ReadBefore | undefined;
}

export function checkItem(tools: Tools, task: CheckTask, item: Item): ItemResult {
  if (task.kind === "checksum") {
    assert(item.kind === "readable", "backup_manifest lists stored files as they are");
    return checksum(tools, item);
  }
  return new ProblemCollector(pathOf(item)).collect((report) =>
    task.kind === "check-plain"
      ? checkPlainItem(tools, item, report)
      : checkSealedItem(tools, depthOf(task), item, report),
  );
}

function depthOf(task: CheckTask): Depth {
  return task.kind === "check" ? task : { depth: undefined };
}

function checkSealedItem(tools: Tools, how: Depth, item: Item, report: Report): ItemResult {
  switch (item.kind) {
    case "relation":
      return checkRelation(tools, item, how, report);
    case "content":
      return checkContent(tools, item, how);
    case "readable":
      return digestReadable(tools, item, report);
    case "wal": {
      const result = checkWal(tools.fs, tools.walFacts, item, walDepth(tools, item, how), report);
      tools.onBytes(item.sizeBytes);
      return result;
    }
  }
}

function checkPlainItem(tools: Tools, item: Item, report: Report): ItemResult {
  switch (item.kind) {
    case "relation":
      return checkPlainRelation(tools, item, report);
    case "wal":
      return checkPlainSegment(tools, item, report);
    case "content":
      return checkPlainContent(tools, item, report);
    case "readable":
      assert.fail("what is sealed has tags to be checked against");
  }
}

function checkPlainSegment(tools: Tools, item: WalItem, report: Report): ItemResult {
  const result = checkPlainWal(tools.fs, tools.walFacts, item, report);
  tools.onBytes(item.sizeBytes);
  return result;
}

function checkPlainRelation(
  tools: Tools,
  { files, range }: RelationItem,
  report: Report,
): ItemResult {
  const { fs, chunk, context, onBytes } = tools;
  return withFile(fs, files.sidecar, (sidecar) => {
    const part = range ?? tools.whole(files);
    const opened = withFile(fs, files.plain, (plain) =>
      checkPlainRange(chunk, context, files, { plain, sidecar }, part, report, onBytes),
    );
    const result = { path: files.path, sizeBytes: files.sizeBytes, ...countsOf(opened, part) };
    return withDigests(tools, { files, range, sidecar }, result, opened.sidecarDigest, report);
  });
}

function checkPlainContent(tools: Tools, item: ContentItem, report: Report): ItemResult {
  const { path, plain, sizeBytes, keptTags } = item;
  assert(keptTags !== undefined, "a plain file is held against the tags of its container");
  const options = tools.containerOptions(item);
  const { isOriginal, digest } = holdAgainstTags(tools.fs, plain, keptTags, options);
  if (!isOriginal)
    report({ kind: "tag", path: displayPath(path), message: "it is not what was encrypted" });
  tools.onBytes(sizeBytes);
  return { path, digest: digest?.toString("hex"), sizeBytes };
}

/** @param how - without a depth the digest alone. */
export function checkRelation(
  tools: Tools,
  { files, range, against, patched }: RelationItem,
  { depth, readBefore }: Depth,
  report: Report,
): ItemResult {
  const { fs, chunk, context, onBytes } = tools;
  return withFile(fs, files.sidecar, (sidecar) => {
    const saltOf = (): Buffer | undefined => {
      const head = readHead(sidecar, context.blockSizeBytes);
      return typeof head === "string" ? undefined : head.fileSalt;
    };
    const isRead = patched !== true && wasRead(tools, files.path, readBefore, saltOf);
    let result: ItemResult = { path: files.path, sizeBytes: files.sizeBytes };
    let checked: Buffer | undefined;
    // A digest reads no page, but what cannot be opened must show before a run begins.
    if (depth === undefined) fs.open(files.sealed).close();
    else {
      result = withFile(fs, files.sealed, (sealed) =>
        withComparison(tools, files, range, against, (comparison) => {
          const part = range ?? tools.whole(files);
          const source = { sealed, sidecar };
          const take: TakeChunk | undefined =
            comparison &&
            ((firstSlot, bytes) => comparison.take(bytes, firstSlot * context.blockSizeBytes));
          const opened = openRange(
            chunk,
            context,
            files,
            source,
            part,
            isRead ? { check: "macs", pages: isRead.pages } : { check: depth },
            report,
            onBytes,
            take,
          );
          checked = opened.sidecarDigest;
          const changed = comparison?.changed && [comparison.changed];
          return { ...result, ...countsOf(opened, part), changed };
        }),
      );
    }
    return withDigests(tools, { files, range, sidecar }, result, checked, report);
  });
}

function countsOf(opened: OpenResult, part: SlotRange): Partial<ItemResult> {
  const keys = new Map(opened.pagesByKey);
  for (const keyId of opened.macKeyIds) keys.set(keyId, keys.get(keyId) ?? 0);
  const { newestSlots: newestPages, wrongChecksums } = opened;
  const fileSalt = opened.fileSalt?.toString("hex");
  return { keys, pages: part.slotCount, newestPages, wrongChecksums, fileSalt };
}

interface OpenSidecar {
  readonly files: RelationFiles;
  readonly range: SlotRange | undefined;
  readonly sidecar: OpenFile;
}

/** @param checked - of the sidecar pages that have been checked: all of them where there is no range. */
function withDigests(
  tools: Tools,
  { files, range, sidecar }: OpenSidecar,
  result: ItemResult,
  checked: Buffer | undefined,
  report: Report,
): ItemResult {
  const rangeDigests = range && checked && [checked.toString("hex")];
  // The file root is of the whole sidecar: the first range takes it.
  if (range !== undefined && range.firstSlot > 0) return { ...result, rangeDigests };
  const root = fileRoot(tools, { files, range, sidecar }, checked, report);
  return { ...result, rangeDigests, ...root };
}

function fileRoot(
  tools: Tools,
  { files, range, sidecar }: OpenSidecar,
  checked: Buffer | undefined,
  report: Report,
): Pick<ItemResult, "digest" | "digestedRanges"> {
  const { chunk, context } = tools;
  const sidecarBytes = (slots: number): number =>
    Math.ceil(slots / chunk.slotsPerPage) * context.blockSizeBytes;
  const expected = sidecarBytes(tools.whole(files).slotCount);
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

function withComparison<T>(
  tools: Tools,
  files: RelationFiles,
  range: SlotRange | undefined,
  against: Original | undefined,
  use: (comparison: PageComparison | undefined) => T,
): T {
  if (against === undefined) return use(undefined);
  return withFile(tools.fs, against.path, (other) => {
    const slots = range ?? tools.whole(files);
    const { chunk, otherPages } = tools;
    return use(new PageComparison(chunk, other, against.sizeBytes, slots, otherPages));
  });
}

/**
 * Whether, and then how, a file was read by this run already. Its salt is not authenticated yet: but what is under
 * another than the run's own fails, as what authenticates the sidecar or header is under a key that the salt gives.
 */
function wasRead(
  { context }: Tools,
  path: BytePath,
  readBefore: ReadBefore | undefined,
  saltOf: () => Buffer | undefined,
): ReadBefore | undefined {
  if (readBefore?.files !== "of-run") return readBefore;
  const { saltKey } = context;
  const salt = saltKey && saltOf();
  return saltKey && salt && isSaltOfRun(saltKey, path, salt) ? readBefore : undefined;
}

function walDepth(
  tools: Tools,
  { files }: WalItem,
  { depth, readBefore }: Depth,
): CheckDepth | "sidecar" | undefined {
  const isRead = wasRead(tools, files.path, readBefore, () => walFileSalt(tools.fs, files.sidecar));
  return isRead ? "sidecar" : depth;
}

function checkContent(tools: Tools, item: ContentItem, { depth, readBefore }: Depth): ItemResult {
  const { fs, onBytes } = tools;
  const { path, sizeBytes, against } = item;
  const saltOf = (): Buffer | undefined => containerHeaderOf(fs, item.sealed)?.fileSalt;
  const isRead = wasRead(tools, path, readBefore, saltOf);
  const options = depth === "tags" && !isRead ? tools.containerOptions(item) : undefined;
  let differs: boolean | undefined;
  const { header, digest } = ((): ReturnType<typeof inspectSealedFile> => {
    if (options === undefined) return inspectSealedFile(fs, item.sealed, item.context);
    if (against === undefined) return verifySealedFile(fs, item.sealed, options);
    const compared = compareSealedFile(fs, item.sealed, against.path, options);
    differs = !compared.same;
    return compared;
  })();
  onBytes(sizeBytes);
  const keys = new Map([[header.keyId, 1]]);
  const fileSalt = header.fileSalt.toString("hex");
  return { path, digest: digest.toString("hex"), sizeBytes, keys, differs, fileSalt };
}

function digestReadable(
  tools: Tools,
  { path, from, against, sizeBytes: limit }: ReadableItem,
  report: Report,
): ItemResult {
  const hash = runningSha256();
  const sizeBytes = readThrough(tools, from, limit, (bytes) => hash.update(bytes));
  if (sizeBytes > limit) {
    const message = `the file has grown from ${limit} to ${sizeBytes} bytes since it was looked at`;
    report({ kind: "size", path: displayPath(path), message });
    return { path, sizeBytes };
  }
  const digest = hash.digest().toString("hex");
  if (against === undefined) return { path, digest, sizeBytes };
  const other = runningSha256();
  const otherBytes = readThrough(tools, against.path, against.sizeBytes, (bytes) =>
    other.update(bytes),
  );
  const differs = otherBytes !== sizeBytes || other.digest().toString("hex") !== digest;
  return { path, digest, sizeBytes, differs };
}

function checksum(
  tools: Tools,
  { path, from, algorithm, sizeBytes: limit }: ReadableItem,
): ItemResult {
  const sum = new BackupChecksum(algorithm ?? "NONE");
  const sizeBytes = readThrough(tools, from, limit, (bytes) => sum.update(bytes));
  if (sizeBytes > limit) throw hasChanged(path);
  return { path, backupChecksum: sum.finish(), sizeBytes };
}
