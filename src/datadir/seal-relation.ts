/**
 * Reads a plain relation file and writes its sealed form and its sidecar beside it, a chunk at a time. The files
 * that it writes are new and nobody's yet: the caller syncs them, and only a journal entry makes them count.
 */
import { displayPath } from "../bytes/byte-path.ts";
import type { Chunk } from "../format/chunk.ts";
import { derivePageKey, deriveSidecarMacKey } from "../format/file-keys.ts";
import { ChunkSealer, type SealCounts } from "../format/seal-chunk.ts";
import { dekFor } from "../keyring/data-keys.ts";
import { KeyError } from "../errors.ts";
import { readExactly, writeAll } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { type RelationFiles, type RunFacts, type SlotRange, slotCountOf } from "./relation-job.ts";

export interface SealTarget {
  readonly sealed: OpenFile;
  readonly sidecar: OpenFile;
  /** 16 random bytes, the same for every range of one file. */
  readonly fileSalt: Buffer;
  /** Whether zero pages are left out. */
  readonly withHoles: boolean;
}

/** What seals the pages of one file under the current key. @throws {KeyError} when the keyring lacks it. */
export function sealerOf(
  chunk: Chunk,
  { keys, keyringId, epoch, dataChecksums }: RunFacts,
  { path, identity }: RelationFiles,
  fileSalt: Buffer,
): ChunkSealer {
  if (keys === undefined) throw new KeyError("sealing needs an opened keyring");
  const keyId = keys.currentKeyId;
  const dek = dekFor(keys, keyringId, keyId, displayPath(path));
  return new ChunkSealer(chunk, {
    head: { identity, keyringId, fileSalt },
    keyId,
    pageKey: derivePageKey(dek, fileSalt, keyId, identity),
    macKey: deriveSidecarMacKey(dek, fileSalt, identity),
    epoch,
    dataChecksums,
    describe: () => displayPath(path),
  });
}

/** Seals what a chunk holds and writes it to new files, under the current key and the target's salt. */
export class ChunkWriter {
  private readonly chunk: Chunk;
  private readonly target: SealTarget;
  private readonly fileSlots: number;
  private readonly sealer: ChunkSealer;

  constructor(chunk: Chunk, facts: RunFacts, files: RelationFiles, target: SealTarget) {
    this.chunk = chunk;
    this.target = target;
    this.fileSlots = slotCountOf(files.sizeBytes, facts.blockSizeBytes);
    this.sealer = sealerOf(chunk, facts, files, target.fileSalt);
  }

  get counts(): SealCounts {
    return this.sealer.counts;
  }

  /**
   * @param firstSlot - number, within the file, of the first block in the chunk's data buffer.
   * @param dataBytes - how much of it is filled.
   * @throws {StateError} on a page that is sealed already; {StorageError}.
   */
  write(firstSlot: number, dataBytes: number): void {
    const { chunk, target } = this;
    const { blockSizeBytes } = chunk;
    const lastSlot = firstSlot + slotCountOf(dataBytes, blockSizeBytes);
    const sidecarPages = this.sealer.seal(firstSlot, dataBytes, lastSlot === this.fileSlots);
    const position = firstSlot * blockSizeBytes;
    writeChunk(chunk, target.sealed, dataBytes, position, target.withHoles);
    const sidecarPosition = (firstSlot / chunk.slotsPerPage) * blockSizeBytes;
    writeAll(target.sidecar, chunk.sidecar, 0, sidecarPages * blockSizeBytes, sidecarPosition);
  }
}

/**
 * Seals one range of a plain file. Where zero runs are to be holes, the caller has set the sealed file's size.
 * @param onBytes - called with the bytes of each chunk done.
 * @throws {StateError} on a page that is sealed already; {StorageError}.
 */
export function sealRange(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  source: OpenFile,
  target: SealTarget,
  range: SlotRange,
  onBytes: (bytes: number) => void,
): SealCounts {
  const { blockSizeBytes } = facts;
  const writer = new ChunkWriter(chunk, facts, files, target);
  const end = range.firstSlot + range.slotCount;
  for (let firstSlot = range.firstSlot; firstSlot < end; firstSlot += chunk.slotCapacity) {
    const lastSlot = Math.min(firstSlot + chunk.slotCapacity, end);
    const position = firstSlot * blockSizeBytes;
    const dataBytes = Math.min(lastSlot * blockSizeBytes, files.sizeBytes) - position;
    readExactly(source, chunk.data, 0, dataBytes, position);
    writer.write(firstSlot, dataBytes);
    onBytes(dataBytes);
  }
  return writer.counts;
}

/**
 * Writes a chunk's data; with holes all but its zero pages, in as few calls as there are runs of other pages. A server takes
 * space for a page before it has anything to write there, so that it finds a full disk in time.
 */
export function writeChunk(
  chunk: Chunk,
  file: OpenFile,
  dataBytes: number,
  position: number,
  withHoles: boolean,
): void {
  if (!withHoles) return writeAll(file, chunk.data, 0, dataBytes, position);
  const blockCount = Math.floor(dataBytes / chunk.blockSizeBytes);
  let start = 0;
  const writeUpTo = (end: number): void => {
    if (end > start) writeAll(file, chunk.data, start, end - start, position + start);
  };
  for (let i = 0; i < blockCount; i++) {
    if (chunk.zero[i] !== 1) continue;
    writeUpTo(i * chunk.blockSizeBytes);
    start = (i + 1) * chunk.blockSizeBytes;
  }
  writeUpTo(dataBytes);
}
