/**
 * Opens what can be opened of damaged files: each page or chunk whose own tag holds, wherever others fail, are missing or
 * cannot be read. What is lost comes back as zeros, as the server's zero_damaged_pages has it, and is told. Nothing that does
 * not authenticate is handed on.
 */
import assert from "node:assert/strict";
import { displayPath } from "../bytes/byte-path.ts";
import { runsOf } from "../bytes/runs.ts";
import { TAG_BYTES } from "../crypto/primitives.ts";
import { StorageError, TdeError } from "../errors.ts";
import type { Chunk } from "../format/chunk.ts";
import {
  chunkCount,
  CONTAINER_HEADER_LIMIT_BYTES,
  containerHeaderSizeBytes,
  containerSizeBytes,
  parseContainerHeader,
} from "../format/container.ts";
import {
  openContainerChunk,
  openContainerHeader,
  type OpeningOptions,
} from "../format/container-opener.ts";
import { sameIdentity } from "../format/identity.ts";
import { ChunkOpener } from "../format/open-chunk.ts";
import { parseSidecarPage, type SidecarHead, sidecarMacHolds } from "../format/sidecar-page.ts";
import { readSlotFields, SLOT_KIND } from "../format/slot.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { readUpTo } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { DerivedFileKeys, type OpenSource, type TakeChunk } from "./open-relation.ts";
import {
  type RelationFiles,
  type RunFacts,
  sidecarSizeBytes,
  slotCountOf,
} from "./relation-job.ts";

/** Blocks of a relation file, as its fork counts them, or bytes of another file, that are lost. */
export interface LostPart {
  readonly first: number;
  readonly count: number;
}

/** Parts come in their order; neighbours are joined. */
class LostParts {
  readonly parts: LostPart[] = [];

  add(first: number, count: number): void {
    const last = this.parts.at(-1);
    if (last === undefined || last.first + last.count !== first) this.parts.push({ first, count });
    else this.parts[this.parts.length - 1] = { first: last.first, count: last.count + count };
  }
}

/**
 * The whole of a relation file.
 * @param files - `sizeBytes` is what it is to have, whatever it has.
 * @param take - gets chunk after chunk, in the chunk's data buffer, with zeros for pages that are lost.
 * @returns the blocks that are lost; undefined when nothing can be opened, since no sidecar page is this file's.
 */
export function salvageRelation(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  { sealed, sidecar }: OpenSource,
  take: TakeChunk,
): LostPart[] | undefined {
  const { blockSizeBytes, keys } = facts;
  assert(keys !== undefined, "what is opened needs keys");
  const [head, ...others] = headsOf(sidecar, files, blockSizeBytes, keys);
  if (head === undefined) return undefined;
  const source = { sealed, sidecar };
  if (others.length === 0) return salvageUnder(head, chunk, facts, files, source, take);
  // Pages of sidecars that another encryption made do not belong together: one is taken, under which most opens.
  const lostUnder = (candidate: SidecarHead): number =>
    sum(salvageUnder(candidate, chunk, facts, files, source, () => {}));
  const best = [head, ...others]
    .map((candidate) => ({ candidate, lost: lostUnder(candidate) }))
    .reduce((a, b) => (b.lost < a.lost ? b : a));
  return salvageUnder(best.candidate, chunk, facts, files, source, take);
}

function sum(parts: readonly LostPart[]): number {
  return parts.reduce((total, { count }) => total + count, 0);
}

/** The same, under the salt of one of its sidecar pages. */
function salvageUnder(
  head: SidecarHead,
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  { sealed, sidecar }: OpenSource,
  take: TakeChunk,
): LostPart[] {
  const { blockSizeBytes, keys } = facts;
  assert(keys !== undefined, "what is opened needs keys");
  const lost = new LostParts();
  const slotCount = slotCountOf(files.sizeBytes, blockSizeBytes);
  const path = displayPath(files.path);
  const opener = new ChunkOpener(chunk, {
    head,
    keys: new DerivedFileKeys(keys, head, path),
    pageTags: true,
    slotCount,
    maxEpoch: facts.epoch,
    path,
    // The tag of each page says all that matters here.
    report: () => {},
  });
  for (let firstSlot = 0; firstSlot < slotCount; firstSlot += chunk.slotCapacity) {
    const slots = Math.min(chunk.slotCapacity, slotCount - firstSlot);
    const position = firstSlot * blockSizeBytes;
    const dataBytes = Math.min(slots * blockSizeBytes, files.sizeBytes - position);
    const sidecarBytes = Math.ceil(slots / chunk.slotsPerPage) * blockSizeBytes;
    const sidecarPosition = (firstSlot / chunk.slotsPerPage) * blockSizeBytes;
    readWhatThereIs(sealed, chunk.data, dataBytes, position, blockSizeBytes);
    readWhatThereIs(sidecar, chunk.sidecar, sidecarBytes, sidecarPosition, blockSizeBytes);
    opener.open(firstSlot, dataBytes, true);
    const isLost = (slot: number): boolean => opener.authentic[slot] !== 1;
    for (const { start, end } of runsOf(slots, (slot) => isLost(slot) || isZeroPage(chunk, slot)))
      chunk.data.fill(0, start * blockSizeBytes, Math.min(end * blockSizeBytes, dataBytes));
    for (const { start, end } of runsOf(slots, isLost))
      lost.add(files.identity.firstBlock + firstSlot + start, end - start);
    take(firstSlot, dataBytes);
  }
  return lost.parts;
}

/** Its slot says so, and authenticates: whatever stands in the file, the page is zero. */
function isZeroPage(chunk: Chunk, slot: number): boolean {
  return readSlotFields(chunk.sidecar, chunk.slotAt(slot)).kind === SLOT_KIND.zeroPage;
}

/**
 * Salt and keyring of the file, which every sidecar page has: of those pages whose MACs hold, each salt once; where none does,
 * of the first that looks like one of this file.
 */
function headsOf(
  sidecar: OpenFile,
  { path, identity, sizeBytes }: RelationFiles,
  blockSizeBytes: number,
  keys: DataKeys,
): SidecarHead[] {
  const page = Buffer.alloc(blockSizeBytes);
  const end = sidecarSizeBytes(sizeBytes, blockSizeBytes);
  const heads = new Map<string, SidecarHead>();
  let first: SidecarHead | undefined;
  for (let position = 0; position < end; position += blockSizeBytes) {
    readWhatThereIs(sidecar, page, page.length, position, blockSizeBytes);
    const head = parseSidecarPage(page);
    if (typeof head === "string" || !sameIdentity(head.identity, identity)) continue;
    const macKey = new DerivedFileKeys(keys, head, displayPath(path)).macKey(head.macKeyId);
    const salt = head.fileSalt.toString("hex");
    if (typeof macKey !== "string" && sidecarMacHolds(page, macKey) && !heads.has(salt))
      heads.set(salt, head);
    first ??= head;
  }
  if (heads.size > 0) return [...heads.values()];
  return first === undefined ? [] : [first];
}

/**
 * The content of a container.
 * @param sizeBytes - of the whole container, as it was: a header that says something else is not believed.
 * @param take - gets its parts one after the other, with zeros for those that are lost.
 * @returns the bytes that are lost; undefined when nothing can be opened, since its header is damaged or it is compressed.
 */
export function salvageContainer(
  file: OpenFile,
  sizeBytes: number,
  options: OpeningOptions,
  take: (part: Buffer, position: number) => void,
): LostPart[] | undefined {
  const start = Buffer.alloc(CONTAINER_HEADER_LIMIT_BYTES);
  readWhatThereIs(file, start, start.length, 0, start.length);
  try {
    const header = parseContainerHeader(start, options.where);
    const key = openContainerHeader(header, options);
    const { contentSizeBytes, chunkSizeBytes } = header;
    if (contentSizeBytes === undefined) return undefined;
    const whole = containerSizeBytes(contentSizeBytes, header.context.length, chunkSizeBytes);
    if (whole !== sizeBytes) return undefined;
    const lost = new LostParts();
    const chunks = chunkCount(contentSizeBytes, chunkSizeBytes);
    const body = containerHeaderSizeBytes(header.context.length);
    for (let i = 0; i < chunks; i++) {
      const position = i * chunkSizeBytes;
      const length = Math.min(chunkSizeBytes, contentSizeBytes - position);
      const stored = Buffer.alloc(length + TAG_BYTES);
      readWhatThereIs(file, stored, stored.length, body + i * (chunkSizeBytes + TAG_BYTES), length);
      const content = openContainerChunk(key, i, i === chunks - 1, stored);
      if (content === undefined) lost.add(position, length);
      take(content ?? Buffer.alloc(length), position);
    }
    return lost.parts;
  } catch (error) {
    if (error instanceof TdeError && !(error instanceof StorageError)) return undefined;
    throw error;
  }
}

/** Reads, piece by piece where the disk fails; zeros stand for what cannot be read or is not there. */
function readWhatThereIs(
  file: OpenFile,
  buffer: Buffer,
  length: number,
  position: number,
  pieceBytes: number,
): void {
  try {
    buffer.fill(0, readUpTo(file, buffer, 0, length, position), length);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    if (length <= pieceBytes) {
      buffer.fill(0, 0, length);
      return;
    }
    for (let at = 0; at < length; at += pieceBytes) {
      const piece = Math.min(pieceBytes, length - at);
      readWhatThereIs(file, buffer.subarray(at, at + piece), piece, position + at, pieceBytes);
    }
  }
}
