/**
 * Cuts the changed pages of files into patches that fit into an entry of the journal. Each leaves its file whole: when
 * a file grows by more than one entry holds, it has a size in between and a last sidecar page that says so, and when it
 * shrinks it does so at the end.
 */
import { type ChangedSlots, isSlotChanged } from "../datadir/compare-relation.ts";
import { type SlotRange, slotCountOf } from "../datadir/relation-job.ts";
import { slotsPerChunk } from "../format/chunk.ts";
import type { PatchedFile } from "./sync-changes.ts";

export interface FilePart {
  readonly range: SlotRange;
  /** Of the sealed file before and after this part. */
  readonly sizeBeforeBytes: number;
  readonly sizeAfterBytes: number;
  /** Undefined: to be found out. */
  readonly changed: ChangedSlots | undefined;
  /** At most so much goes into the journal. */
  readonly bytes: number;
}

/**
 * The parts of one file, to be carried out in this order. One that changes the size must be in place before the next
 * is begun; others do not depend on each other.
 * @param limitBytes - of one part, about: at least one chunk is in it.
 */
export function* partsOf(
  file: PatchedFile,
  blockSizeBytes: number,
  limitBytes: number,
): Generator<FilePart> {
  const { sourceBytes, sealedBytes } = file;
  const chunkSlots = slotsPerChunk(blockSizeBytes);
  const before = slotCountOf(sealedBytes, blockSizeBytes);
  const after = slotCountOf(sourceBytes, blockSizeBytes);
  const isResized = sourceBytes !== sealedBytes;
  // The chunk with the last slot that stays: it has the sidecar page that is no more the last one, or becomes it.
  const pivot = Math.floor((Math.min(before, after) - 1) / chunkSlots) * chunkSlots;
  const part = (
    firstSlot: number,
    end: number,
    sizeBefore: number,
    sizeAfter: number,
  ): FilePart => {
    const bits = bitsOf(file, firstSlot, end);
    return {
      range: { firstSlot, slotCount: end - firstSlot },
      sizeBeforeBytes: sizeBefore,
      sizeAfterBytes: sizeAfter,
      changed: bits,
      bytes: costOf(file, bits, firstSlot, end, blockSizeBytes),
    };
  };

  const steadyEnd = isResized ? pivot : after;
  let start = 0;
  let bytes = 0;
  for (let at = 0; at < steadyEnd; at += chunkSlots) {
    const end = Math.min(at + chunkSlots, steadyEnd);
    const cost = costOf(file, bitsOf(file, at, end), at, end, blockSizeBytes);
    if (bytes > 0 && bytes + cost > limitBytes) {
      yield part(start, at, sealedBytes, sealedBytes);
      bytes = 0;
    }
    if (bytes === 0) start = at;
    bytes += cost;
  }
  if (bytes > 0) yield part(start, steadyEnd, sealedBytes, sealedBytes);
  if (!isResized) return;

  const slotsAtOnce =
    Math.max(1, Math.floor(limitBytes / blockSizeBytes / chunkSlots)) * chunkSlots;
  let size = sealedBytes;
  let done = pivot;
  do {
    // From the chunk that was the last one before: its sidecar page is so no more. What is done there stays.
    const slots = slotCountOf(size, blockSizeBytes);
    const first = Math.floor((Math.min(slots, after) - 1) / chunkSlots) * chunkSlots;
    const from = Math.max(first, done);
    const end = Math.min(after, from + slotsAtOnce);
    const next = end === after ? sourceBytes : end * blockSizeBytes;
    const step = part(from, end, size, next);
    yield { ...step, range: { firstSlot: first, slotCount: end - first } };
    done = end;
    size = next;
  } while (size !== sourceBytes);
}

/** The bits of slots from `start` to below `end`, which are counted from `start`. */
function bitsOf(file: PatchedFile, start: number, end: number): ChangedSlots | undefined {
  if (file.changed === undefined) return undefined;
  const bits = new Uint8Array(Math.ceil(Math.max(0, end - start) / 8));
  let count = 0;
  for (const changed of file.changed) {
    const from = Math.max(start, changed.firstSlot);
    const to = Math.min(end, changed.firstSlot + 8 * changed.bits.length);
    for (let slot = from; slot < to; slot++) {
      if (!isSlotChanged(changed, slot)) continue;
      const index = slot - start;
      bits[index >> 3] = (bits[index >> 3] ?? 0) | (1 << (index & 7));
      count++;
    }
  }
  return { firstSlot: start, bits, count };
}

/** Pages and a sidecar page for each, at most those that there are. 0 only where nothing has changed. */
function costOf(
  { sealedBytes }: PatchedFile,
  changed: ChangedSlots | undefined,
  start: number,
  end: number,
  blockSizeBytes: number,
): number {
  const before = slotCountOf(sealedBytes, blockSizeBytes);
  const added = Math.max(0, end - Math.max(start, before));
  const pages = changed === undefined ? end - start : changed.count + added;
  return 2 * pages * blockSizeBytes;
}
