/**
 * Reads a sealed relation file with its sidecar, checks every page and tag, and hands on the plain pages when asked.
 * Problems go to a collector; a caller that writes stops at the first.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { runsOf } from "../bytes/runs.ts";
import { type KeyObject, runningSha256 } from "../crypto/primitives.ts";
import { KeyError } from "../errors.ts";
import type { Chunk } from "../format/chunk.ts";
import { derivePageKey, deriveSidecarMacKey, type PageKey } from "../format/file-keys.ts";
import { describeIdentity, sameIdentity } from "../format/identity.ts";
import { ChunkOpener, chosenPages, type FileKeys, type PageChoice } from "../format/open-chunk.ts";
import type { Problem } from "../format/problem.ts";
import { parseSidecarPage, type SidecarHead } from "../format/sidecar-page.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { readExactly, readUpTo } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { type RelationFiles, type RunFacts, type SlotRange, slotCountOf } from "./relation-job.ts";

export interface OpenSource {
  readonly sealed: OpenFile;
  readonly sidecar: OpenFile;
}

/**
 * Takes the originals of one chunk, which stand in its data buffer, after every tag of it held.
 * @param firstSlot - number, within the file, of the chunk's first slot.
 */
export type TakeChunk = (firstSlot: number, dataBytes: number) => void;

export interface OpenResult {
  readonly pagesByKey: ReadonlyMap<number, number>;
  readonly macKeyIds: ReadonlySet<number>;
  /** Slots of the newest epoch that there can be, `facts.epoch`. */
  readonly newestSlots: number;
  readonly wrongChecksums: number;
  /** SHA-256 over the sidecar pages that were checked, where none of the range was missing. */
  readonly sidecarDigest: Buffer | undefined;
  /** Of the file's first sidecar page, where there is one. */
  readonly fileSalt?: Buffer | undefined;
}

/** How far a check of pages goes. */
export interface OpenDepth {
  /** "form" needs no key; "macs" adds those of the sidecar; "tags" those of every page. */
  readonly check: "form" | "macs" | "tags";
  /** Others than these are not read. Left out: all. */
  readonly pages?: PageChoice | undefined;
}

/**
 * Checks one range and, where `take` is given, decrypts it.
 * @param report - may throw: then nothing of the chunk in hand is taken.
 * @param take - called chunk by chunk, up to the first problem.
 */
export function openRange(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  source: OpenSource,
  range: SlotRange,
  { check, pages = "all" }: OpenDepth,
  report: (problem: Problem) => void,
  onBytes: (bytes: number) => void,
  take?: TakeChunk,
): OpenResult {
  const path = displayPath(files.path);
  let opener: ChunkOpener | undefined;
  let fileSalt: Buffer | undefined;
  let clean = true;
  const digest = readSlots(
    chunk,
    files,
    source.sidecar,
    range,
    report,
    ({ head, firstSlot, dataBytes, position }) => {
      const withoutKeys = facts.keys === undefined || check === "form";
      fileSalt ??= head.fileSalt;
      opener ??= new ChunkOpener(chunk, {
        head,
        keys: withoutKeys ? undefined : new DerivedFileKeys(facts.keys, head, path),
        pageTags: check === "tags",
        slotCount: slotCountOf(files.sizeBytes, facts.blockSizeBytes),
        maxEpoch: facts.epoch,
        pages,
        path,
        report: (problem) => {
          clean = false;
          report(problem);
        },
      });
      readPages(chunk, source.sealed, dataBytes, position, pages);
      opener.open(firstSlot, dataBytes, take !== undefined);
      if (clean) take?.(firstSlot, dataBytes);
      onBytes(dataBytes);
    },
  );
  return { ...resultOf(opener, digest), fileSalt };
}

/** A part of a file whose sidecar pages are in the chunk's buffer. */
export interface SlotsRead {
  /** What the file's first sidecar page says. */
  readonly head: SidecarHead;
  /** Number, within the file, of the first slot. */
  readonly firstSlot: number;
  /** How many bytes of the file belong to it, and where they begin. */
  readonly dataBytes: number;
  readonly position: number;
}

/**
 * Reads the sidecar pages of a range, a chunk at a time, and hands each on. Nothing of what they say is checked but that
 * they are there, and whose the first one is.
 * @returns SHA-256 over all of them; undefined where some were missing.
 */
export function readSlots(
  chunk: Chunk,
  files: RelationFiles,
  sidecar: OpenFile,
  range: SlotRange,
  report: (problem: Problem) => void,
  take: (slots: SlotsRead) => void,
): Buffer | undefined {
  const { blockSizeBytes } = chunk;
  const path = displayPath(files.path);
  const sidecarProblem = (message: string): void => report({ kind: "sidecar", path, message });
  const hash = runningSha256();
  const end = range.firstSlot + range.slotCount;
  let head: SidecarHead | undefined;
  for (let firstSlot = range.firstSlot; firstSlot < end; firstSlot += chunk.slotCapacity) {
    const lastSlot = Math.min(firstSlot + chunk.slotCapacity, end);
    const position = firstSlot * blockSizeBytes;
    const dataBytes = Math.min(lastSlot * blockSizeBytes, files.sizeBytes) - position;
    const sidecarBytes = Math.ceil((lastSlot - firstSlot) / chunk.slotsPerPage) * blockSizeBytes;
    const sidecarPosition = (firstSlot / chunk.slotsPerPage) * blockSizeBytes;
    const found = readUpTo(sidecar, chunk.sidecar, 0, sidecarBytes, sidecarPosition);
    if (found < sidecarBytes) {
      sidecarProblem(
        `the sidecar ends at ${sidecarPosition + found}, in the slots of block ${firstSlot} and after`,
      );
      return undefined;
    }
    hash.update(chunk.sidecar.subarray(0, sidecarBytes));
    if (head === undefined) {
      const first = headOf(chunk, sidecar, firstSlot);
      if (typeof first === "string") {
        sidecarProblem(`sidecar page 0: ${first}`);
        return undefined;
      }
      if (!sameIdentity(first.identity, files.identity)) {
        report({ kind: "identity", path, message: identityMessage(first, files) });
      }
      head = first;
    }
    take({ head, firstSlot, dataBytes, position });
  }
  return hash.digest();
}

/** Reads a chunk's pages, or, of a chunk whose sidecar pages have been read, some of them. */
function readPages(
  chunk: Chunk,
  sealed: OpenFile,
  dataBytes: number,
  position: number,
  pages: PageChoice,
): void {
  if (pages === "all") return readExactly(sealed, chunk.data, 0, dataBytes, position);
  const { blockSizeBytes } = chunk;
  const slotCount = Math.ceil(dataBytes / blockSizeBytes);
  const isWanted = chosenPages(chunk, pages, position / blockSizeBytes, slotCount);
  for (const { start, end } of runsOf(slotCount, isWanted)) {
    const at = start * blockSizeBytes;
    const length = Math.min(end * blockSizeBytes, dataBytes) - at;
    readExactly(sealed, chunk.data, at, length, position + at);
  }
}

/** @param opener - that has counted. */
export function resultOf(
  opener: Omit<OpenResult, "sidecarDigest"> | undefined,
  sidecarDigest: Buffer | undefined,
): OpenResult {
  return {
    pagesByKey: opener?.pagesByKey ?? new Map(),
    macKeyIds: opener?.macKeyIds ?? new Set(),
    newestSlots: opener?.newestSlots ?? 0,
    wrongChecksums: opener?.wrongChecksums ?? 0,
    sidecarDigest,
  };
}

/** What the first sidecar page of the file says; of the first chunk it is in the buffer. */
function headOf(chunk: Chunk, sidecar: OpenFile, firstSlot: number): SidecarHead | string {
  if (firstSlot === 0) return parseSidecarPage(chunk.sidecarPage(0));
  return readHead(sidecar, chunk.blockSizeBytes);
}

/** What the first sidecar page of a file says, in words where it is none. */
export function readHead(sidecar: OpenFile, blockSizeBytes: number): SidecarHead | string {
  const page = Buffer.alloc(blockSizeBytes);
  const count = readUpTo(sidecar, page, 0, page.length, 0);
  return count < page.length ? "it is cut" : parseSidecarPage(page);
}

/** That a file is sealed for another place than the one where it was found. */
export function identityMessage(head: SidecarHead, files: RelationFiles): string {
  const { systemIdentifier } = head.identity;
  return systemIdentifier === files.identity.systemIdentifier
    ? `this is ${describeIdentity(head.identity)}, found at ${displayPath(files.path)}`
    : `this is ${describeIdentity(head.identity)} of cluster ${systemIdentifier}, found in cluster ${files.identity.systemIdentifier}`;
}

/** Derives the keys of one file when a slot first names them. */
export class DerivedFileKeys implements FileKeys {
  private readonly keys: DataKeys;
  private readonly head: SidecarHead;
  private readonly path: string;
  private readonly pageKeys: Map<number, PageKey | string> = new Map();
  private readonly macKeys: Map<number, KeyObject | string> = new Map();

  constructor(keys: DataKeys, head: SidecarHead, path: string) {
    this.keys = keys;
    this.head = head;
    this.path = path;
  }

  pageKey(keyId: number): PageKey | string {
    return remember(this.pageKeys, keyId, () =>
      derivePageKey(this.dek(keyId), this.head.fileSalt, keyId, this.head.identity),
    );
  }

  macKey(keyId: number): KeyObject | string {
    return remember(this.macKeys, keyId, () =>
      deriveSidecarMacKey(this.dek(keyId), this.head.fileSalt, this.head.identity),
    );
  }

  private dek(keyId: number): KeyObject {
    return dekFor(this.keys, this.head.keyringId, keyId, this.path);
  }
}

function remember<T>(cache: Map<number, T | string>, keyId: number, derive: () => T): T | string {
  let value = cache.get(keyId);
  if (value === undefined) {
    try {
      value = derive();
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      value = error.message;
    }
    cache.set(keyId, value);
  }
  return value;
}

/**
 * The file root: SHA-256 over the bytes of the sidecar, and how many there are.
 * @param buffer - what to read into.
 * @param limitBytes - what the sidecar can have: of a larger one no more is read than tells that it is larger.
 * @param rangeBytes - of the sidecar of each range that the file is checked in.
 * @returns also the digests of the ranges, so that each can be held against the one of the bytes that were checked.
 */
export function digestSidecar(
  sidecar: OpenFile,
  buffer: Buffer,
  limitBytes: number,
  rangeBytes: number = Number.POSITIVE_INFINITY,
): { root: Buffer; ranges: Buffer[]; sizeBytes: number } {
  const hash = runningSha256();
  const ranges: Buffer[] = [];
  let range = runningSha256();
  let left = rangeBytes;
  let position = 0;
  for (;;) {
    const wanted = Math.min(buffer.length, left, limitBytes + 1 - position);
    const count = wanted === 0 ? 0 : sidecar.read(buffer, 0, wanted, position);
    const bytes = buffer.subarray(0, count);
    hash.update(bytes);
    range.update(bytes);
    position += count;
    left -= count;
    if (count > 0 && left > 0) continue;
    if (left < rangeBytes) ranges.push(range.digest());
    if (count === 0) break;
    [range, left] = [runningSha256(), rangeBytes];
  }
  return { root: hash.digest(), ranges, sizeBytes: position };
}
