/**
 * Pruning, vacuuming and freezing of heap pages as 16 has them: three records, whose arrays are in the data of
 * block 0. Sources: access/heapam_xlog.h, heapdesc.c.
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { firstBlockData } from "./blocks.ts";
import { markCutShort } from "./cut-short.ts";
import { fields } from "./fields.ts";
import { FREEZE_PLAN_BYTES, writeFreezePlans } from "./freeze-plans.ts";
import { writeArray, writeRedirection, writeU16 } from "./lists.ts";

/** xl_heap_prune. */
const PRUNE = fields("snapshotConflictHorizon: {0:u32}, nredirected: {4:u16}, ndead: {6:u16}");

/** Block data: redirections of two offset numbers each, dead ones, and whatever is left are unused ones. */
export function describePrune16(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!PRUNE(out, bytes, mainStart, mainStart + record.mainLength)) return;
  const block = firstBlockData(record);
  if (block === undefined) return;
  const redirected = bytes.readUInt16LE(mainStart + 4);
  const dead = bytes.readUInt16LE(mainStart + 6);
  const end = block.dataStart + block.dataLength;
  const unused = Math.trunc((block.dataLength - 4 * redirected - 2 * dead) / 2);
  out.text(", nunused: ");
  out.signed(unused);
  if (unused < 0) return markCutShort(out);
  out.text(", redirected:");
  let at = writeArray(out, bytes, block.dataStart, end, redirected, 4, writeRedirection);
  out.text(", dead:");
  at = writeArray(out, bytes, at, end, dead, 2, writeU16);
  out.text(", unused:");
  writeArray(out, bytes, at, end, unused, 2, writeU16);
}

/** xl_heap_vacuum. */
const VACUUM = fields("nunused: {0:u16}");

export function describeVacuum(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!VACUUM(out, bytes, mainStart, mainStart + record.mainLength)) return;
  const block = firstBlockData(record);
  if (block === undefined) return;
  out.text(", unused:");
  const end = block.dataStart + block.dataLength;
  writeArray(out, bytes, block.dataStart, end, bytes.readUInt16LE(mainStart), 2, writeU16);
}

/** xl_heap_freeze_page. */
const FREEZE = fields("snapshotConflictHorizon: {0:u32}, nplans: {4:u16}");

/** Block data: the plans, then the offset numbers of all of them. */
export function describeFreeze(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!FREEZE(out, bytes, mainStart, mainStart + record.mainLength)) return;
  const block = firstBlockData(record);
  if (block === undefined) return;
  const { dataStart, dataLength } = block;
  const count = bytes.readUInt16LE(mainStart + 4);
  const offsets = dataStart + count * FREEZE_PLAN_BYTES;
  writeFreezePlans(out, bytes, dataStart, count, offsets, dataStart + dataLength);
}
