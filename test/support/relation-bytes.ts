/** Seals and opens relation files that are buffers, through the product's own code. */
import assert from "node:assert/strict";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { type OpenResult, openRange, type TakeChunk } from "../../src/datadir/open-relation.ts";
import { type RunFacts, wholeRange } from "../../src/datadir/relation-job.ts";
import { sealRange, writeChunk } from "../../src/datadir/seal-relation.ts";
import { Chunk, slotsPerChunk } from "../../src/format/chunk.ts";
import type { FileIdentity } from "../../src/format/identity.ts";
import type { Problem } from "../../src/format/problem.ts";
import { slotsPerPage } from "../../src/format/sidecar-page.ts";
import type { SealCounts } from "../../src/format/seal-chunk.ts";
import type { FileStat, OpenFile } from "../../src/storage/file-system.ts";
import type { BookIdentity } from "./sealed-by-the-book.ts";

export interface SealedBytes {
  readonly stored: Buffer;
  readonly sidecar: Buffer;
}

export interface Opened {
  readonly problems: readonly Problem[];
  /** Undefined where a problem was reported. */
  readonly plain: Buffer | undefined;
  readonly result: OpenResult;
}

/** The path that the problems of these files name. */
export const RELATION_PATH = "base/5/16384" as BytePath;

export function sealBytes(
  facts: RunFacts,
  identity: FileIdentity,
  original: Buffer,
  fileSalt: Buffer = Buffer.alloc(16, 0x40),
): SealedBytes & { readonly counts: SealCounts } {
  const chunk = chunkOf(facts.blockSizeBytes);
  const sealed = new BufferFile(Buffer.alloc(original.length));
  const sidecar = new BufferFile(Buffer.alloc(0));
  const counts = sealRange(
    chunk,
    facts,
    relationFiles(identity, original.length),
    new BufferFile(original),
    { sealed, sidecar, fileSalt, withHoles: true },
    wholeRange(original.length, facts.blockSizeBytes),
    () => {},
  );
  return { stored: sealed.bytes, sidecar: sidecar.bytes, counts };
}

export function openBytes(
  facts: RunFacts,
  identity: FileIdentity,
  { stored, sidecar }: SealedBytes,
  depth: "form" | "macs" | "tags" = "tags",
  takeAlso: TakeChunk = () => {},
): Opened {
  const problems: Problem[] = [];
  const plain = new BufferFile(Buffer.alloc(stored.length));
  const source = {
    sealed: new BufferFile(stored),
    sidecar: new BufferFile(sidecar),
  };
  const chunk = chunkOf(facts.blockSizeBytes);
  const take: TakeChunk = (firstSlot, dataBytes) => {
    writeChunk(chunk, plain, dataBytes, firstSlot * facts.blockSizeBytes, true);
    takeAlso(firstSlot, dataBytes);
  };
  const result = openRange(
    chunk,
    facts,
    relationFiles(identity, stored.length),
    source,
    wholeRange(stored.length, facts.blockSizeBytes),
    { check: depth },
    (problem) => problems.push(problem),
    () => {},
    depth === "tags" ? take : undefined,
  );
  return { problems, plain: problems.length === 0 ? plain.bytes : undefined, result };
}

/** The identity as the product has it. */
export function fileIdentity(identity: BookIdentity): FileIdentity {
  return {
    systemIdentifier: BigInt(identity.systemIdentifier),
    tablespaceOid: identity.tablespace,
    databaseOid: identity.database,
    relfilenumber: BigInt(identity.relfilenumber),
    fork: identity.fork,
    relationSegment: identity.segment,
    firstBlock: identity.firstBlock,
    backend: identity.backend,
  };
}

const chunks = new Map<number, Chunk>();

/** One for each block size: their memory is the largest part of a small test. */
export function chunkOf(blockSizeBytes: number): Chunk {
  let chunk = chunks.get(blockSizeBytes);
  if (chunk === undefined) {
    chunk = new Chunk(blockSizeBytes);
    chunks.set(blockSizeBytes, chunk);
  }
  return chunk;
}

/** SHA-256 of the sidecar pages of each chunk. */
export function chunkDigests(sidecar: Buffer, blockSize: number): string[] {
  const chunkBytes = (slotsPerChunk(blockSize) / slotsPerPage(blockSize)) * blockSize;
  return Array.from({ length: Math.ceil(sidecar.length / chunkBytes) }, (_, i) =>
    sha256(sidecar.subarray(i * chunkBytes, (i + 1) * chunkBytes)).toString("hex"),
  );
}

export function relationFiles(
  identity: FileIdentity,
  sizeBytes: number,
): Parameters<typeof openRange>[2] {
  const path = RELATION_PATH;
  return { path, plain: path, sealed: path, sidecar: path, identity, sizeBytes };
}

export class BufferFile implements OpenFile {
  readonly path: BytePath = RELATION_PATH;
  bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    const end = Math.min(position + length, this.bytes.length);
    if (end <= position) return 0;
    buffer.set(this.bytes.subarray(position, end), offset);
    return end - position;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    if (position + length > this.bytes.length) {
      const longer = Buffer.alloc(position + length);
      this.bytes.copy(longer);
      this.bytes = longer;
    }
    this.bytes.set(buffer.subarray(offset, offset + length), position);
    return length;
  }

  truncate(): void {
    assert.fail("not needed here");
  }
  stat(): FileStat {
    return {
      kind: "file",
      sizeBytes: this.bytes.length,
      mode: 0o600,
      uid: 0,
      gid: 0,
      accessTimeNs: 0n,
      modifyTimeNs: 0n,
      device: 1,
      inode: 1,
      linkCount: 1,
      allocatedBytes: 0,
    };
  }
  attributes(): FileStat {
    return this.stat();
  }
  setAttributes(): readonly string[] {
    return [];
  }
  sync(): void {}
  close(): void {}
}
