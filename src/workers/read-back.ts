/**
 * Reads back what writing tasks wrote, before anything that it is to replace goes: opened anew by its name, the whole of
 * it, authenticated to its last tag and held, byte for byte, against what it was made from.
 */
import assert from "node:assert/strict";
import type { BytePath } from "../bytes/byte-path.ts";
import { runsOf } from "../bytes/runs.ts";
import { PageComparison } from "../datadir/compare-relation.ts";
import { openRange, type TakeChunk } from "../datadir/open-relation.ts";
import { checkPlainRange } from "../datadir/plain-relation.ts";
import {
  type RelationFiles,
  sidecarSizeBytes,
  type SlotRange,
  slotCountOf,
} from "../datadir/relation-job.ts";
import { chosenPages } from "../format/open-chunk.ts";
import { PlainDigest } from "../datadir/reseal-relation.ts";
import { compareSealedFile, compareSealedFiles } from "../datadir/sealed-file.ts";
import type { StorageError } from "../errors.ts";
import { readExactly, withFile } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { haveSameContent, notAsWritten, readingBack } from "../storage/read-back.ts";
import { notAsWrittenIn } from "./new-file-problem.ts";
import { readBackOpenedWal, readBackResealedWal, readBackSealedWal } from "./perform-wal.ts";
import type {
  ContentItem,
  ItemResult,
  PatchItem,
  ReadableItem,
  RelationItem,
  WritingTask,
  WrittenItem,
} from "./tasks.ts";
import type { Tools } from "./tools.ts";

/** @throws {StorageError} when a new file is not, byte for byte, what it should be. */
export function readBack(
  tools: Tools,
  written: WritingTask["kind"],
  { item, plainDigest }: WrittenItem,
): ItemResult {
  switch (item.kind) {
    case "relation":
      RELATION[written](tools, item, plainDigest);
      return { path: item.files.path };
    case "wal":
      WAL[written](tools, item, plainDigest);
      return { path: item.files.path };
    case "content":
      CONTENT[written](tools, item);
      return { path: item.path };
    case "readable":
      readBackCopy(tools, item);
      return { path: item.path };
  }
}

const RELATION = {
  seal: readBackSealed,
  open: readBackPlain,
  reseal: readBackResealed,
};
const WAL = {
  seal: readBackSealedWal,
  open: readBackOpenedWal,
  reseal: readBackResealedWal,
};
const CONTENT = {
  seal: readBackSealedContent,
  open: readBackOpenedContent,
  reseal: readBackResealedContent,
};

function readBackSealed(tools: Tools, { files, range }: RelationItem): void {
  const { fs, chunk, context, otherPages } = tools;
  const part = range ?? tools.whole(files);
  withFile(fs, files.plain, (plain) => {
    requireSize(files.path, plain, files.sizeBytes, "the original");
    const comparison = new PageComparison(chunk, plain, files.sizeBytes, part, otherPages);
    readSealed(tools, files, part, (firstSlot, dataBytes) => {
      comparison.take(dataBytes, firstSlot * context.blockSizeBytes);
      if (comparison.changed !== undefined) throw differs(files.path);
    });
  });
}

function readBackResealed(
  tools: Tools,
  { files, range, target }: RelationItem,
  plainDigest: string | undefined,
): void {
  assert(target !== undefined, "sealing anew has new files");
  const digest = new PlainDigest(tools.chunk);
  readSealed(tools, { ...files, ...target }, range ?? tools.whole(files), (_slot, dataBytes) =>
    digest.take(dataBytes),
  );
  if (digest.finish().toString("hex") !== plainDigest) throw differs(files.path);
}

/** @param files - with the paths of the new files. */
function readSealed(tools: Tools, files: RelationFiles, part: SlotRange, take: TakeChunk): void {
  const { fs, chunk, context } = tools;
  withFile(fs, files.sidecar, (sidecar) =>
    withFile(fs, files.sealed, (sealed) => {
      requireSize(files.path, sealed, files.sizeBytes);
      const sidecarBytes = sidecarSizeBytes(files.sizeBytes, context.blockSizeBytes);
      requireSize(files.path, sidecar, sidecarBytes, "the sidecar");
      const report = notAsWrittenIn(files.path);
      const opened = openRange(
        chunk,
        context,
        files,
        { sealed, sidecar },
        part,
        { check: "tags" },
        report,
        uncounted,
        take,
      );
      if (opened.newestSlots !== part.slotCount)
        throw notAsWritten(files.path, "it has slots that this run did not write");
    }),
  );
}

function readBackPlain(tools: Tools, { files, range }: RelationItem): void {
  const { fs, chunk, context } = tools;
  withFile(fs, files.sidecar, (sidecar) =>
    withFile(fs, files.plain, (plain) => {
      const part = range ?? tools.whole(files);
      const report = notAsWrittenIn(files.path);
      checkPlainRange(chunk, context, files, { plain, sidecar }, part, report, uncounted);
    }),
  );
}

/** Pages that were written in place: those of this run, with the sidecar pages around them. */
export function readBackPatches(
  tools: Tools,
  { files: before, range, sizeAfterBytes }: PatchItem,
): ItemResult {
  const { fs, chunk, context, otherPages } = tools;
  const { blockSizeBytes } = context;
  const pages = { sinceEpoch: context.epoch };
  const files = { ...before, sizeBytes: sizeAfterBytes };
  const slots = slotCountOf(sizeAfterBytes, blockSizeBytes);
  const slotCount = Math.max(0, Math.min(range.slotCount, slots - range.firstSlot));
  const part = { firstSlot: range.firstSlot, slotCount };
  withFile(fs, files.plain, (plain) =>
    withFile(fs, files.sidecar, (sidecar) =>
      withFile(fs, files.sealed, (sealed) => {
        const take: TakeChunk = (firstSlot, dataBytes) => {
          const count = Math.ceil(dataBytes / blockSizeBytes);
          const isNew = chosenPages(chunk, pages, firstSlot, count);
          for (const { start, end } of runsOf(count, isNew)) {
            const at = start * blockSizeBytes;
            const length = Math.min(end * blockSizeBytes, dataBytes) - at;
            readExactly(plain, otherPages, at, length, firstSlot * blockSizeBytes + at);
            if (chunk.data.compare(otherPages, at, at + length, at, at + length) !== 0)
              throw differs(files.path);
          }
        };
        openRange(
          chunk,
          context,
          files,
          { sealed, sidecar },
          part,
          { check: "tags", pages },
          notAsWrittenIn(files.path),
          uncounted,
          take,
        );
      }),
    ),
  );
  return { path: files.path };
}

function readBackSealedContent(tools: Tools, item: ContentItem): void {
  const options = tools.containerOptions(item);
  const { same } = readingBack(item.path, () =>
    compareSealedFile(tools.fs, item.sealed, item.plain, options),
  );
  if (!same) throw differs(item.path);
}

function readBackOpenedContent(tools: Tools, item: ContentItem): void {
  const options = tools.containerOptions(item);
  const { same } = compareSealedFile(tools.fs, item.sealed, item.plain, options);
  if (!same) throw differs(item.path);
}

function readBackResealedContent(tools: Tools, item: ContentItem): void {
  const { target } = item;
  assert(target !== undefined, "sealing anew has a new file");
  const options = tools.containerOptions(item);
  const same = readingBack(item.path, () =>
    compareSealedFiles(tools.fs, target, item.sealed, options),
  );
  if (!same) throw differs(item.path);
}

function readBackCopy({ fs, chunk, otherPages }: Tools, { path, from, to }: ReadableItem): void {
  if (!haveSameContent(fs, from, to, [chunk.data, otherPages])) throw differs(path);
}

function requireSize(
  path: BytePath,
  file: OpenFile,
  expected: number,
  what = "the new file",
): void {
  const { sizeBytes } = file.stat();
  if (sizeBytes === expected) return;
  throw notAsWritten(path, `${what} has ${sizeBytes} bytes where ${expected} are right`);
}

function differs(path: BytePath): StorageError {
  return notAsWritten(path, "it does not hold what its original holds");
}

/** What is done has been shown when it was written. */
const uncounted = (): void => {};
