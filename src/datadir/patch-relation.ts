/**
 * Seals some pages of a relation file anew, under the salt that is there, and makes the sidecar pages that change with
 * them. Nothing is written: what is to be written comes back, for the journal. The other pages keep key and nonce.
 *
 * Their slots are authenticated anew, with the sidecar pages that they stand in. So these pages must be the very ones that
 * were compared: an older one, put back since with its older page, would authenticate as well as they do.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { runsOf } from "../bytes/runs.ts";
import { sha256 } from "../crypto/primitives.ts";
import { FormatError, IntegrityError, KeyError } from "../errors.ts";
import type { Chunk } from "../format/chunk.ts";
import { ChunkOpener } from "../format/open-chunk.ts";
import type { Problem } from "../format/problem.ts";
import type { ChunkSealer } from "../format/seal-chunk.ts";
import { slotOffset, SPECIAL_BYTES } from "../format/sidecar-page.ts";
import { PAGE_HEADER_BYTES } from "../postgres/page.ts";
import { readExactly } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import type { PatchPart } from "../storage/journal.ts";
import { type ChangedSlots, isSlotChanged } from "./compare-relation.ts";
import { DerivedFileKeys, readHead } from "./open-relation.ts";
import { type RelationFiles, type RunFacts, type SlotRange, slotCountOf } from "./relation-job.ts";
import { sealerOf } from "./seal-relation.ts";

export interface PatchSource {
  /** The plain file that the pages come from. */
  readonly original: OpenFile;
  readonly sidecar: OpenFile;
}

export interface PatchOrder {
  /** Of the file afterwards, a whole number of chunks; it ends with the file where the size changes. */
  readonly range: SlotRange;
  /** Of the file when this patch is done. Before, it has `files.sizeBytes`. */
  readonly sizeAfterBytes: number;
  /** Of the slots that the file has before; those that it gets are sealed in any case. Undefined: none. */
  readonly changed: ChangedSlots | undefined;
  /** SHA-256 in hex of the sidecar pages of each chunk of the range, as far as the file has it before. */
  readonly sidecarDigests: readonly string[];
}

export interface PatchedParts {
  readonly sealed: PatchPart[];
  readonly sidecar: PatchPart[];
  /** Of the sidecar afterwards. */
  readonly sidecarBytes: number;
  readonly pages: number;
  /** Of the sidecar pages of each chunk of the range afterwards; undefined where nothing of it changes. */
  readonly sidecarDigests: readonly (string | undefined)[];
}

/**
 * @param report - must throw: pages are not sealed beside others that do not authenticate.
 * @throws {StateError} on a page that is sealed already; {IntegrityError} when a sidecar page is not one that was compared;
 *   {FormatError} {KeyError} {StorageError}.
 */
export function patchRange(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  source: PatchSource,
  { range, sizeAfterBytes, changed, sidecarDigests }: PatchOrder,
  report: (problem: Problem) => never,
): PatchedParts {
  const { blockSizeBytes } = facts;
  const slotsBefore = slotCountOf(files.sizeBytes, blockSizeBytes);
  const slotsAfter = slotCountOf(sizeAfterBytes, blockSizeBytes);
  const pagesBefore = Math.ceil(slotsBefore / chunk.slotsPerPage);
  const pagesAfter = Math.ceil(slotsAfter / chunk.slotsPerPage);
  const { opener, sealer } = workersOf(chunk, facts, files, source.sidecar, slotsBefore, report);
  const digestsAfter: (string | undefined)[] = [];
  const parts: PatchedParts = {
    sealed: [],
    sidecar: [],
    sidecarBytes: pagesAfter * blockSizeBytes,
    pages: 0,
    sidecarDigests: digestsAfter,
  };
  const end = Math.min(range.firstSlot + range.slotCount, slotsAfter);
  for (let firstSlot = range.firstSlot; firstSlot < end; firstSlot += chunk.slotCapacity) {
    const slotCount = Math.min(chunk.slotCapacity, slotsAfter - firstSlot);
    const isChanged = (index: number): boolean => {
      const slot = firstSlot + index;
      return slot >= slotsBefore || (changed !== undefined && isSlotChanged(changed, slot));
    };
    const firstPage = firstSlot / chunk.slotsPerPage;
    const isAnew = (index: number): boolean => {
      const page = firstPage + index;
      const firstOfPage = index * chunk.slotsPerPage;
      // It is the last one no more, or it has become so, or it loses slots.
      if ((page === pagesBefore - 1) !== (page === pagesAfter - 1)) return true;
      if (page === pagesAfter - 1 && slotsAfter < slotsBefore) return true;
      const slotsOfPage = Math.min(chunk.slotsPerPage, slotCount - firstOfPage);
      return !runsOf(slotsOfPage, (i) => isChanged(firstOfPage + i)).next().done;
    };
    const sidecarPages = Math.ceil(slotCount / chunk.slotsPerPage);
    const chunkIndex = (firstSlot - range.firstSlot) / chunk.slotCapacity;
    digestsAfter[chunkIndex] = undefined;
    if (runsOf(sidecarPages, isAnew).next().done === true) continue;

    const position = firstSlot * blockSizeBytes;
    const sidecarPosition = firstPage * blockSizeBytes;
    const bytesBefore = Math.min(
      chunk.slotCapacity * blockSizeBytes,
      Math.max(0, files.sizeBytes - position),
    );
    if (bytesBefore > 0) {
      const pages = Math.ceil(bytesBefore / blockSizeBytes / chunk.slotsPerPage);
      const { sidecar } = source;
      readExactly(sidecar, chunk.sidecar, 0, pages * blockSizeBytes, sidecarPosition);
      if (sidecarDigest(chunk, pages) !== sidecarDigests[chunkIndex]) throw notAsCompared(files);
      opener.open(firstSlot, bytesBefore, false);
    }
    const bytesAfter = Math.min(slotCount * blockSizeBytes, sizeAfterBytes - position);
    const runs = [...runsOf(slotCount, isChanged)].map(({ start, end: endSlot }) => ({
      start: start * blockSizeBytes,
      end: Math.min(endSlot * blockSizeBytes, bytesAfter),
    }));
    for (const { start, end: endByte } of runs)
      readExactly(source.original, chunk.data, start, endByte - start, position + start);
    sealer.sealAnew(firstSlot, bytesAfter, firstSlot + slotCount === slotsAfter, isChanged, isAnew);
    digestsAfter[chunkIndex] = sidecarDigest(chunk, sidecarPages);
    for (const run of runs) parts.sealed.push(partOf(chunk.data, run, position));
    for (let i = 0; i < sidecarPages; i++) {
      if (!isAnew(i)) continue;
      const isWhole = firstPage + i >= pagesBefore || slotsAfter < slotsBefore;
      const pieces = isWhole ? [{ start: 0, end: blockSizeBytes }] : piecesOf(chunk, i, isChanged);
      for (const { start, end: endOfPiece } of pieces) {
        const at = i * blockSizeBytes;
        const run = { start: at + start, end: at + endOfPiece };
        parts.sidecar.push(partOf(chunk.sidecar, run, sidecarPosition));
      }
    }
  }
  return { ...parts, pages: sealer.counts.pages };
}

/** SHA-256 in hex of the first sidecar pages that a chunk holds. */
function sidecarDigest({ sidecar, blockSizeBytes }: Chunk, pages: number): string {
  return sha256(sidecar.subarray(0, pages * blockSizeBytes)).toString("hex");
}

/** That a sidecar is another than the one that was held against the manifest and the source. */
export function notAsCompared({ path }: Pick<RelationFiles, "path">): IntegrityError {
  return new IntegrityError(
    `${displayPath(path)}: the sidecar is not the one any more that was compared with the source`,
    {
      file: displayPath(path),
      hint: 'Something else writes to the encrypted copy, or put an older file back. Stop it; "tde verify" says what differs.',
    },
  );
}

function workersOf(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  sidecar: OpenFile,
  slotCount: number,
  report: (problem: Problem) => never,
): { opener: ChunkOpener; sealer: ChunkSealer } {
  const { keys, keyringId, blockSizeBytes, epoch } = facts;
  if (keys === undefined) throw new KeyError("sealing needs an opened keyring");
  const path = displayPath(files.path);
  const found = readHead(sidecar, blockSizeBytes);
  if (typeof found === "string") throw new FormatError(`${path}: sidecar page 0: ${found}`);
  const { fileSalt } = found;
  const head = { identity: files.identity, keyringId, fileSalt };
  const opener = new ChunkOpener(chunk, {
    head,
    keys: new DerivedFileKeys(keys, head, path),
    pageTags: false,
    slotCount,
    maxEpoch: epoch,
    // The pages that stay are not in the buffer.
    pages: "none",
    path,
    report,
  });
  return { opener, sealer: sealerOf(chunk, facts, files, fileSalt) };
}

/** What of a sidecar page that was there differs after some of its slots were made anew: header, slots, special space. */
function piecesOf(
  { slotsPerPage, blockSizeBytes }: Chunk,
  page: number,
  isChanged: (index: number) => boolean,
): { readonly start: number; readonly end: number }[] {
  const slots = runsOf(slotsPerPage, (slot) => isChanged(page * slotsPerPage + slot));
  return [
    { start: 0, end: PAGE_HEADER_BYTES },
    ...[...slots].map(({ start, end }) => ({ start: slotOffset(start), end: slotOffset(end) })),
    { start: blockSizeBytes - SPECIAL_BYTES, end: blockSizeBytes },
  ];
}

/** A copy: the buffer is filled anew for the next chunk. */
function partOf(
  buffer: Buffer,
  { start, end }: { readonly start: number; readonly end: number },
  position: number,
): PatchPart {
  return { position: position + start, bytes: Buffer.from(buffer.subarray(start, end)) };
}
