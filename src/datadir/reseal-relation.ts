/**
 * Reads a sealed relation file with its sidecar and writes both anew under the current key: a new salt, new nonces,
 * tags and MACs. Each chunk is decrypted and sealed again in one buffer, so that no plaintext reaches a disk, and only
 * after every tag of it held. The files that it writes are new and nobody's yet.
 */
import type { Chunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import type { SealCounts } from "../format/seal-chunk.ts";
import { openRange, type OpenSource } from "./open-relation.ts";
import type { RelationFiles, RunFacts, SlotRange } from "./relation-job.ts";
import { ChunkWriter, type SealTarget } from "./seal-relation.ts";

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
): SealCounts {
  const writer = new ChunkWriter(chunk, facts, files, target);
  openRange(
    chunk,
    facts,
    files,
    source,
    range,
    { check: "tags" },
    stop,
    onBytes,
    (firstSlot, dataBytes) => writer.write(firstSlot, dataBytes),
  );
  return writer.counts;
}
