/** Plans of freezing tuples, 16 and later. Sources: access/heapam_xlog.h (xlhp_freeze_plan), heapdesc.c. */
import type { TextBuffer } from "../text-buffer.ts";
import { fields } from "./fields.ts";
import { writeArray, writeU16 } from "./lists.ts";

/** xlhp_freeze_plan (xl_heap_freeze_plan in 16): xmax, t_infomask2, t_infomask, frzflags, ntuples at 10. */
export const FREEZE_PLAN_BYTES = 12;
const PLAN = fields("{ xmax: {0:u32}, infomask: {6:u16}, infomask2: {4:u16}, ntuples: {10:u16}");

/**
 * Writes plans, each with the offset numbers of its tuples.
 * @param offsets - where those of the first plan begin; those of the next follow.
 */
export function writeFreezePlans(
  out: TextBuffer,
  bytes: Buffer,
  plans: number,
  count: number,
  offsets: number,
  end: number,
): boolean {
  out.text(", plans: [");
  let next = offsets;
  for (let i = 0; i < count; i++) {
    if (i > 0) out.text(", ");
    const plan = plans + i * FREEZE_PLAN_BYTES;
    if (!PLAN(out, bytes, plan, end)) return false;
    out.text(", offsets:");
    next = writeArray(out, bytes, next, end, bytes.readUInt16LE(plan + 10), 2, writeU16);
    if (next < 0) return false;
    out.text(" }");
  }
  out.text("]");
  return true;
}
