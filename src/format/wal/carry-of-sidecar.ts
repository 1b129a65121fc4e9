/**
 * The carry slots of a WAL segment's sidecar, which stand behind those of the blocks, in its last pages.
 */
import { slotsPerPage } from "../sidecar-page.ts";
import { isUnusedSlot, SLOT_BYTES } from "../slot.ts";
import { walSlotAt } from "./seal-segment.ts";
import { type Carry, parseCarrySlots, WAL_SIDECAR_PAGE_BYTES } from "./wal-slot.ts";

const SLOTS_PER_PAGE = slotsPerPage(WAL_SIDECAR_PAGE_BYTES);

/** Where in a sidecar the page begins that has the first slot behind those of the blocks. */
export function carryPagesFrom(blockCount: number): number {
  return Math.floor(blockCount / SLOTS_PER_PAGE) * WAL_SIDECAR_PAGE_BYTES;
}

/**
 * @param pages - of the sidecar from `carryPagesFrom` on to its end; whole pages.
 * @returns in words what is wrong with the form of what is there. Says nothing about authenticity.
 */
export function carryOf(pages: Buffer, blockCount: number): Carry | string {
  const from = carryPagesFrom(blockCount);
  const slotCount = ((from + pages.length) / WAL_SIDECAR_PAGE_BYTES) * SLOTS_PER_PAGE;
  const at = (slot: number): number => walSlotAt(slot) - from;
  const slots: Buffer[] = [];
  let i = blockCount;
  for (; i < slotCount && !isUnusedSlot(pages, at(i)); i++) {
    slots.push(pages.subarray(at(i), at(i) + SLOT_BYTES));
  }
  if (Math.ceil(i / SLOTS_PER_PAGE) * SLOTS_PER_PAGE !== slotCount) return "a page without slots";
  for (; i < slotCount; i++) {
    if (!isUnusedSlot(pages, at(i))) return "a slot behind an unused one";
  }
  return parseCarrySlots(slots);
}
