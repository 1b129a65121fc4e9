/**
 * Makes the new files of a task: plain ones of sealed ones, sealed ones of plain ones, copies. Nothing of them is synced
 * or looked at here.
 */
import assert from "node:assert/strict";
import type { BytePath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import { openRange, type TakeChunk } from "../datadir/open-relation.ts";
import { resealRange } from "../datadir/reseal-relation.ts";
import { sealRange, type SealTarget, writeChunk } from "../datadir/seal-relation.ts";
import { resealFile, sealFile, unsealFile } from "../datadir/sealed-file.ts";
import { newFileSalt } from "../format/file-salt.ts";
import { withFile, writeAll } from "../storage/file-io.ts";
import { hasHoles, type OpenFile } from "../storage/file-system.ts";
import type { NewFiles } from "./new-files.ts";
import { openWal, resealWal, sealWal } from "./perform-wal.ts";
import { hasChanged, readThrough } from "./read-through.ts";
import type {
  ContentItem,
  Item,
  ItemResult,
  ReadableItem,
  RelationItem,
  WritingTask,
} from "./tasks.ts";
import { stop, type Tools } from "./tools.ts";

/** @throws {TdeError} the first that it meets; what was made by then is worth nothing. */
export function writeItem(
  tools: Tools,
  kind: WritingTask["kind"],
  item: Item,
  newFiles: NewFiles,
): ItemResult {
  switch (item.kind) {
    case "relation":
      return RELATION[kind](tools, item, newFiles);
    case "content":
      return CONTENT[kind](tools, item, newFiles);
    case "wal": {
      const result = WAL[kind](tools.fs, tools.walFacts, item, newFiles);
      tools.onBytes(item.sizeBytes);
      return result;
    }
    case "readable":
      assert(kind !== "reseal", "what is sealed anew is sealed");
      return copy(tools, item, newFiles);
  }
}

const RELATION = { seal: sealRelation, open: openRelation, reseal: resealRelation };
const CONTENT = { seal: sealContent, open: openContent, reseal: resealContent };
const WAL = { seal: sealWal, open: openWal, reseal: resealWal };

function sealRelation(tools: Tools, item: RelationItem, newFiles: NewFiles): ItemResult {
  const { fs, chunk, context, onBytes } = tools;
  const { files, range } = item;
  return withFile(fs, files.plain, (source) => {
    const target = sealTarget(tools, item, files, source, newFiles);
    const part = range ?? tools.whole(files);
    return { path: files.path, ...sealRange(chunk, context, files, source, target, part, onBytes) };
  });
}

function resealRelation(tools: Tools, item: RelationItem, newFiles: NewFiles): ItemResult {
  const { fs, chunk, context, onBytes } = tools;
  const { files, range, target: paths } = item;
  assert(paths !== undefined, "sealing anew needs new files");
  return withFile(fs, files.sealed, (sealed) =>
    withFile(fs, files.sidecar, (sidecar) => {
      const target = sealTarget(tools, item, paths, sealed, newFiles);
      const part = range ?? tools.whole(files);
      const source = { sealed, sidecar };
      const { plainDigest, ...counts } = resealRange(
        chunk,
        context,
        files,
        source,
        target,
        part,
        stop,
        onBytes,
      );
      return { path: files.path, ...counts, plainDigest: plainDigest.toString("hex") };
    }),
  );
}

/** The new files of one relation file: created, or of a range opened. */
function sealTarget(
  { context }: Tools,
  { files, fileSalt, range }: RelationItem,
  paths: { readonly sealed: BytePath; readonly sidecar: BytePath },
  like: OpenFile,
  newFiles: NewFiles,
): SealTarget {
  const whole = range === undefined;
  return {
    sealed: newFiles.open(paths.sealed, whole, like, files.sizeBytes),
    sidecar: newFiles.open(paths.sidecar, whole, like),
    withHoles: hasHoles(like.stat()),
    fileSalt:
      fileSalt === undefined ? newFileSalt(context.saltKey, files.path) : Buffer.from(fileSalt),
  };
}

function openRelation(
  tools: Tools,
  { files, range }: RelationItem,
  newFiles: NewFiles,
): ItemResult {
  const { fs, chunk, context, onBytes } = tools;
  return withFile(fs, files.sealed, (sealed) =>
    withFile(fs, files.sidecar, (sidecar) => {
      const plain = newFiles.open(files.plain, range === undefined, sealed, files.sizeBytes);
      const part = range ?? tools.whole(files);
      const source = { sealed, sidecar };
      const withHoles = hasHoles(sealed.stat());
      const take: TakeChunk = (firstSlot, dataBytes) =>
        writeChunk(chunk, plain, dataBytes, firstSlot * context.blockSizeBytes, withHoles);
      const { wrongChecksums } = openRange(
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
      return { path: files.path, pages: part.slotCount, wrongChecksums };
    }),
  );
}

function sealContent(tools: Tools, item: ContentItem, newFiles: NewFiles): ItemResult {
  const { fs, onBytes } = tools;
  withFile(fs, item.plain, (source) => {
    const sealed = newFiles.open(item.sealed, true, source);
    const fileSalt = newFileSalt(tools.context.saltKey, item.path);
    sealFile(fs, item.plain, sealed, { ...tools.containerOptions(item), fileSalt });
  });
  onBytes(item.sizeBytes);
  return { path: item.path };
}

function resealContent(tools: Tools, item: ContentItem, newFiles: NewFiles): ItemResult {
  const { fs, onBytes } = tools;
  const { target } = item;
  assert(target !== undefined, "sealing anew needs a new file");
  withFile(fs, item.sealed, (source) => {
    const sealed = newFiles.open(target, true, source);
    const fileSalt = newFileSalt(tools.context.saltKey, item.path);
    resealFile(fs, item.sealed, sealed, { ...tools.containerOptions(item), fileSalt });
  });
  onBytes(item.sizeBytes);
  return { path: item.path, pages: 1 };
}

function openContent(tools: Tools, item: ContentItem, newFiles: NewFiles): ItemResult {
  const { fs, onBytes } = tools;
  withFile(fs, item.sealed, (source) => {
    const plain = newFiles.open(item.plain, true, source);
    unsealFile(fs, item.sealed, plain, tools.containerOptions(item));
  });
  onBytes(item.sizeBytes);
  return { path: item.path };
}

function copy(tools: Tools, item: ReadableItem, newFiles: NewFiles): ItemResult {
  return withFile(tools.fs, item.from, (source) => {
    const target = newFiles.open(item.to, true, source);
    const hash = item.digest === undefined ? undefined : runningSha256();
    const limit = item.sizeBytes;
    const sizeBytes = readThrough(tools, item.from, limit, (bytes, position) => {
      hash?.update(bytes);
      writeAll(target, bytes, 0, bytes.length, position);
    });
    const isOther = hash !== undefined && hash.digest().toString("hex") !== item.digest;
    if (isOther || sizeBytes > limit) throw hasChanged(item.path);
    return { path: item.path, sizeBytes };
  });
}
