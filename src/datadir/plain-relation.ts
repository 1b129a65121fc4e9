/**
 * Holds a plain relation file against the sidecar that its sealed form had: whether it is, bit for bit, what was
 * encrypted. For the plain file that a decryption has just written, and for one that an earlier run left.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { KeyError } from "../errors.ts";
import type { Chunk } from "../format/chunk.ts";
import { PlainChunkChecker } from "../format/check-plain-chunk.ts";
import type { Problem } from "../format/problem.ts";
import { readUpTo } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { DerivedFileKeys, type OpenResult, readSlots, resultOf } from "./open-relation.ts";
import {
  type RelationFiles,
  type RunFacts,
  sidecarSizeBytes,
  type SlotRange,
  slotCountOf,
} from "./relation-job.ts";

export interface PlainSource {
  readonly plain: OpenFile;
  readonly sidecar: OpenFile;
}

/**
 * Checks one range of a plain file: every sidecar page of it, and every page against its slot. Also that both files have
 * the size that they should have, and no byte more.
 * @param files - `sizeBytes` is that of the file that was encrypted.
 * @param report - may throw.
 * @returns counts as openRange; its digest is of the sidecar pages that were checked.
 * @throws {KeyError} without keys; {StorageError}.
 */
export function checkPlainRange(
  chunk: Chunk,
  facts: RunFacts,
  files: RelationFiles,
  source: PlainSource,
  range: SlotRange,
  report: (problem: Problem) => void,
  onBytes: (bytes: number) => void,
): OpenResult {
  const { keys, epoch, blockSizeBytes } = facts;
  if (keys === undefined) throw new KeyError("checking plain pages needs an opened keyring");
  const path = displayPath(files.path);
  const problem = (kind: "size" | "sidecar", what: string, has: number, needs: number): void =>
    report({ kind, path, message: `${what} has ${has} bytes where ${needs} are right` });
  const plainBytes = source.plain.stat().sizeBytes;
  if (plainBytes !== files.sizeBytes)
    problem("size", "the plain file", plainBytes, files.sizeBytes);
  const sidecarBytes = source.sidecar.stat().sizeBytes;
  const expected = sidecarSizeBytes(files.sizeBytes, blockSizeBytes);
  if (sidecarBytes !== expected) problem("sidecar", "the sidecar", sidecarBytes, expected);

  let checker: PlainChunkChecker | undefined;
  const digest = readSlots(chunk, files, source.sidecar, range, report, (slots) => {
    const { head, firstSlot, dataBytes, position } = slots;
    checker ??= new PlainChunkChecker(chunk, {
      head,
      keys: new DerivedFileKeys(keys, head, path),
      slotCount: slotCountOf(files.sizeBytes, blockSizeBytes),
      maxEpoch: epoch,
      path,
      report,
    });
    const count = readUpTo(source.plain, chunk.data, 0, dataBytes, position);
    // What is missing has been reported as a size; in the buffer are other pages.
    chunk.data.fill(0, count, dataBytes);
    checker.check(firstSlot, dataBytes);
    onBytes(dataBytes);
  });
  return resultOf(checker, digest);
}
