/**
 * Pruning, vacuuming and freezing of heap pages in one record, 17 and later. Sources: access/heapam_xlog.h
 * (xl_heap_prune, XLHP_*), heapdesc.c.
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { firstBlockData } from "./blocks.ts";
import { markCutShort } from "./cut-short.ts";
import { FREEZE_PLAN_BYTES, writeFreezePlans } from "./freeze-plans.ts";
import { writeArray, type WriteElement, writeRedirection, writeU16 } from "./lists.ts";
import type { Describe } from "./record-types.ts";

/** XLHP_* */
const IS_CATALOG_REL = 1 << 1;
const HAS_CONFLICT_HORIZON = 1 << 3;
const HAS_FREEZE_PLANS = 1 << 4;
const HAS_REDIRECTIONS = 1 << 5;
const HAS_DEAD_ITEMS = 1 << 6;
const HAS_NOW_UNUSED_ITEMS = 1 << 7;
const VM_ALL_VISIBLE = 1 << 8;
const VM_ALL_FROZEN = 1 << 9;

/** Of xl_heap_prune; the conflict horizon, if there is one, follows it unaligned. */
const PRUNE_BYTES = 2;

/** @param flagBytes - 1: a byte of flags after a byte that tells nothing here; 2: both bytes are flags. */
export function describePrune(flagBytes: 1 | 2): Describe {
  return (out, record) => {
    const { bytes, mainStart, mainLength } = record;
    if (mainLength < PRUNE_BYTES) return markCutShort(out);
    const flags = flagBytes === 1 ? bytes.readUInt8(mainStart + 1) : bytes.readUInt16LE(mainStart);
    if ((flags & HAS_CONFLICT_HORIZON) !== 0) {
      if (mainLength < PRUNE_BYTES + 4) return markCutShort(out);
      out.text("snapshotConflictHorizon: ");
      out.unsigned(bytes.readUInt32LE(mainStart + PRUNE_BYTES));
    }
    out.text((flags & IS_CATALOG_REL) === 0 ? ", isCatalogRel: F" : ", isCatalogRel: T");
    if ((flags & VM_ALL_VISIBLE) !== 0) {
      out.text((flags & VM_ALL_FROZEN) === 0 ? ", vm_flags: 0x01" : ", vm_flags: 0x03");
    }
    describeItems(out, record, flags);
  };
}

/**
 * Data of block 0, each part if its flag is set: freeze plans, redirections, dead and unused offset numbers, every
 * one behind its count (u16; plans are aligned to 4), then the offset numbers of the plans.
 */
function describeItems(out: TextBuffer, record: WalRecord, flags: number): void {
  const block = firstBlockData(record);
  if (block === undefined) return;
  const { bytes } = record;
  const end = block.dataStart + block.dataLength;
  let at = block.dataStart;
  // Where each count is and where what it counts ends; -1 where the data ends before.
  const plans = at;
  if ((flags & HAS_FREEZE_PLANS) !== 0) at = skip(bytes, at, end, 4, FREEZE_PLAN_BYTES);
  const redirections = at;
  if ((flags & HAS_REDIRECTIONS) !== 0) at = skip(bytes, at, end, 2, 4);
  const dead = at;
  if ((flags & HAS_DEAD_ITEMS) !== 0) at = skip(bytes, at, end, 2, 2);
  const unused = at;
  if ((flags & HAS_NOW_UNUSED_ITEMS) !== 0) at = skip(bytes, at, end, 2, 2);
  if (at < 0) return markCutShort(out);

  const planCount = (flags & HAS_FREEZE_PLANS) === 0 ? 0 : bytes.readUInt16LE(plans);
  const redirectedCount = (flags & HAS_REDIRECTIONS) === 0 ? 0 : bytes.readUInt16LE(redirections);
  const deadCount = (flags & HAS_DEAD_ITEMS) === 0 ? 0 : bytes.readUInt16LE(dead);
  const unusedCount = (flags & HAS_NOW_UNUSED_ITEMS) === 0 ? 0 : bytes.readUInt16LE(unused);
  writeCount(out, ", nplans: ", planCount);
  writeCount(out, ", nredirected: ", redirectedCount);
  writeCount(out, ", ndead: ", deadCount);
  writeCount(out, ", nunused: ", unusedCount);
  if (planCount > 0 && !writeFreezePlans(out, bytes, plans + 4, planCount, at, end)) return;
  writeItems(out, ", redirected:", bytes, redirections + 2, end, redirectedCount, 4);
  writeItems(out, ", dead:", bytes, dead + 2, end, deadCount, 2);
  writeItems(out, ", unused:", bytes, unused + 2, end, unusedCount, 2);
}

/** @returns where a part ends whose count is at `at` and whose items begin `headerBytes` later. */
function skip(
  bytes: Buffer,
  at: number,
  end: number,
  headerBytes: number,
  itemBytes: number,
): number {
  if (at < 0 || at + headerBytes > end) return -1;
  const next = at + headerBytes + bytes.readUInt16LE(at) * itemBytes;
  return next > end ? -1 : next;
}

function writeCount(out: TextBuffer, label: string, count: number): void {
  out.text(label);
  out.unsigned(count);
}

function writeItems(
  out: TextBuffer,
  label: string,
  bytes: Buffer,
  at: number,
  end: number,
  count: number,
  itemBytes: 2 | 4,
): void {
  if (count === 0) return;
  out.text(label);
  const write: WriteElement = itemBytes === 4 ? writeRedirection : writeU16;
  writeArray(out, bytes, at, end, count, itemBytes, write);
}
