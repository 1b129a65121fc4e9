/**
 * Reads a sealed relation file with its sidecar and writes both anew under the current key: a new salt, new nonces,
 * tags and MACs. Each chunk is decrypted and sealed again in one buffer, so that no plaintext reaches a disk, and only
 * after every tag of it held. The files that it writes are new and nobody's yet.
 */
import { type RunningHash, runningSha256 } from "../crypto/primitives.ts";
import type { Chunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import type { SealCounts } from "../format/seal-chunk.ts";
import { openRange, type OpenSource } from "./open-relation.ts";
import type { RelationFiles, RunFacts, SlotRange } from "./relation-job.ts";
import { ChunkWriter, type SealTarget } from "./seal-relation.ts";

export interface ResealedRange extends SealCounts {
  /** Of the plaintext that was sealed anew. */
  readonly plainDigest: Buffer;
}

/**
 * Seals one range anew.
 * @param stop - called with the first problem, and throws: nothing of the chunk in hand is written.
 * @param onBytes - called with the bytes of each chunk done.
 * @throws {KeyError} {StorageError}.
 */
export function resealRange(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  source: OpenSource,
  target: SealTarget,
  range: SlotRange,
  stop: (problem: Problem) => never,
  onBytes: (bytes: number) => void,
): ResealedRange {
  const writer = new ChunkWriter(chunk, facts, files, target);
  const digest = new PlainDigest(chunk);
  openRange(
    chunk,
    facts,
    files,
    source,
    range,
    { check: "tags" },
    stop,
    onBytes,
    (firstSlot, dataBytes) => {
      digest.take(dataBytes);
      writer.write(firstSlot, dataBytes);
    },
  );
  return { ...writer.counts, plainDigest: digest.finish() };
}

/**
 * What the plaintext of a range comes to, chunk by chunk: the same again for the same bytes in the same chunks. It never
 * leaves the process; from here on nothing else tells that what was opened is what was sealed.
 */
export class PlainDigest {
  private readonly chunk: Chunk;
  private readonly hash: RunningHash = runningSha256();

  /** @param chunk - whose data buffer will hold the plain pages. */
  constructor(chunk: Chunk) {
    this.chunk = chunk;
  }

  take(dataBytes: number): void {
    this.hash.update(this.chunk.sumUpData(dataBytes));
  }

  finish(): Buffer {
    return this.hash.digest();
  }
}
