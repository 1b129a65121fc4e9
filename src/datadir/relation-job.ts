/**
 * One relation file with its sidecar, as the work of a worker: where both are, what they are, and which part of
 * them to work on. Plain data that crosses to a worker thread.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { KeyObject } from "../crypto/primitives.ts";
import type { FileIdentity } from "../format/identity.ts";
import { slotsPerPage } from "../format/sidecar-page.ts";
import type { DataKeys } from "../keyring/data-keys.ts";

/** What is the same for every file of a run. */
export interface RunFacts {
  readonly blockSizeBytes: number;
  readonly dataChecksums: boolean;
  /** Undefined where only form and checksums are checked. */
  readonly keys: DataKeys | undefined;
  /** The keyring that the directory names, 16 hex digits. */
  readonly keyringId: string;
  /** When sealing: the epoch of this run. When opening: no slot can be later than this one. */
  readonly epoch: bigint;
  /** When opening, where it is not `epoch`: no slot can be later than this one. */
  readonly latestEpoch?: bigint | undefined;
  /** When sealing: makes salts that name this run. Undefined where no run is to be gone on with. */
  readonly saltKey?: KeyObject | undefined;
}

/** A run of slots of a file: a whole number of sidecar pages, but for the end of the file. */
export interface SlotRange {
  readonly firstSlot: number;
  readonly slotCount: number;
}

export interface RelationFiles {
  /** Relative to the data directory, as messages name it. */
  readonly path: BytePath;
  /** The plain file; where verify only reads, the same as `sealed`. */
  readonly plain: BytePath;
  readonly sealed: BytePath;
  readonly sidecar: BytePath;
  readonly identity: FileIdentity;
  readonly sizeBytes: number;
}

/** Where no manifest says how late a slot can be: files that stand by themselves. */
export const ANY_EPOCH: bigint = 2n ** 64n - 1n;

export function slotCountOf(sizeBytes: number, blockSizeBytes: number): number {
  return Math.ceil(sizeBytes / blockSizeBytes);
}

/** How large the sidecar of a file of that size is. */
export function sidecarSizeBytes(sizeBytes: number, blockSizeBytes: number): number {
  const slots = slotCountOf(sizeBytes, blockSizeBytes);
  return Math.ceil(slots / slotsPerPage(blockSizeBytes)) * blockSizeBytes;
}

export function wholeRange(sizeBytes: number, blockSizeBytes: number): SlotRange {
  return { firstSlot: 0, slotCount: slotCountOf(sizeBytes, blockSizeBytes) };
}

/** Cuts a large file into ranges that can be worked on side by side. @param slotsPerRange - of whole chunks. */
export function splitRange(range: SlotRange, slotsPerRange: number): SlotRange[] {
  const ranges: SlotRange[] = [];
  const end = range.firstSlot + range.slotCount;
  for (let firstSlot = range.firstSlot; firstSlot < end; firstSlot += slotsPerRange) {
    ranges.push({ firstSlot, slotCount: Math.min(slotsPerRange, end - firstSlot) });
  }
  return ranges;
}
