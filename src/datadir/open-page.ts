/**
 * Reads one page of a sealed relation file, as it is stored and, given keys, as it was: without its neighbours, which
 * may be damaged. The original is handed out only where nothing of the page, its slot or its sidecar page is wrong.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { Chunk } from "../format/chunk.ts";
import { sameIdentity } from "../format/identity.ts";
import { ChunkOpener } from "../format/open-chunk.ts";
import type { Problem } from "../format/problem.ts";
import { SLOT_BYTES } from "../format/slot.ts";
import { readExactly, readUpTo } from "../storage/file-io.ts";
import { DerivedFileKeys, identityMessage, type OpenSource, readHead } from "./open-relation.ts";
import { type RelationFiles, type RunFacts, slotCountOf } from "./relation-job.ts";

export interface OpenedPage {
  /** 128 bytes; undefined where the sidecar ends before. */
  readonly slot: Buffer | undefined;
  /** One block, or less of an odd tail; undefined without keys, and where there is a problem. */
  readonly original: Buffer | undefined;
  readonly problems: readonly Problem[];
}

/**
 * @param facts - without keys only checksums and form are checked.
 * @param block - its number within the file; the file has it.
 */
export function openPage(
  facts: RunFacts,
  files: RelationFiles,
  source: OpenSource,
  block: number,
): OpenedPage {
  const { blockSizeBytes } = facts;
  const path = displayPath(files.path);
  const problems: Problem[] = [];
  const sidecarProblem = (message: string): OpenedPage => {
    problems.push({ kind: "sidecar", path, message });
    return { slot: undefined, original: undefined, problems };
  };
  const head = readHead(source.sidecar, blockSizeBytes);
  if (typeof head === "string") return sidecarProblem(`sidecar page 0: ${head}`);
  if (!sameIdentity(head.identity, files.identity))
    problems.push({ kind: "identity", path, message: identityMessage(head, files) });

  const chunk = new Chunk(blockSizeBytes);
  const sidecarPage = Math.floor(block / chunk.slotsPerPage);
  const sidecarAt = sidecarPage * blockSizeBytes;
  if (readUpTo(source.sidecar, chunk.sidecar, 0, blockSizeBytes, sidecarAt) < blockSizeBytes)
    return sidecarProblem(`the sidecar ends before the slot of block ${block}`);
  const firstSlot = sidecarPage * chunk.slotsPerPage;
  const lastSlot = Math.min(
    firstSlot + chunk.slotsPerPage,
    slotCountOf(files.sizeBytes, blockSizeBytes),
  );
  const index = block - firstSlot;
  const pageAt = index * blockSizeBytes;
  const pageBytes = Math.min(blockSizeBytes, files.sizeBytes - block * blockSizeBytes);
  readExactly(source.sealed, chunk.data, pageAt, pageBytes, block * blockSizeBytes);

  const blockNumber = files.identity.firstBlock + block;
  const opener = new ChunkOpener(chunk, {
    head,
    keys: facts.keys === undefined ? undefined : new DerivedFileKeys(facts.keys, head, path),
    pageTags: true,
    slotCount: slotCountOf(files.sizeBytes, blockSizeBytes),
    maxEpoch: facts.epoch,
    pages: { index },
    path,
    report: (problem) => {
      if (problem.block === undefined || problem.block === blockNumber) problems.push(problem);
    },
  });
  const dataBytes =
    Math.min(lastSlot * blockSizeBytes, files.sizeBytes) - firstSlot * blockSizeBytes;
  opener.open(firstSlot, dataBytes, facts.keys !== undefined);
  const slotAt = chunk.slotAt(index);
  const isOpen = facts.keys !== undefined && problems.length === 0;
  return {
    slot: Buffer.from(chunk.sidecar.subarray(slotAt, slotAt + SLOT_BYTES)),
    original: isOpen ? Buffer.from(chunk.data.subarray(pageAt, pageAt + pageBytes)) : undefined,
    problems,
  };
}
