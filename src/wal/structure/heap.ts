/** Heap tuples and pages, sequences. Rows, keys and old tuples are content; offsets, transactions and flags are not. */
import { type KeepRule, type Rows, type StructureOf, structureOf } from "./rows.ts";
import { keepInvalidations } from "./rules.ts";

/** xl_heap_inplace of 18: without padding; the messages stand behind their count. */
const keepInplace: KeepRule = (parts, { bytes }, at, end, format) => {
  parts.keep(at, at + 2);
  parts.keep(at + 4, at + 13);
  if (at + 20 > end) return;
  parts.keep(at + 16, at + 20);
  keepInvalidations(parts, bytes, at + 20, end, bytes.readUInt32LE(at + 16), format);
};

/** Behind these 14 bytes stands the old key or, with REPLICA IDENTITY FULL, the old tuple. */
const UPDATE = { 13: "0-14" } as const;

export const heap: StructureOf = structureOf(
  {
    0x00: { 13: "0-3" }, // INSERT
    0x10: { 13: "4-8", 16: "0-8" }, // DELETE: then the old key or tuple
    0x20: UPDATE,
    0x30: { 13: "4-9 12-" }, // TRUNCATE
    0x40: UPDATE, // HOT_UPDATE
    0x50: { 13: "0-2" }, // CONFIRM
    0x60: { 13: "0-8" }, // LOCK
    0x70: { 13: "0-2", 18: keepInplace }, // INPLACE
  },
  { masksHighBit: true },
);

/** xl_heap_multi_insert: flags, padding, ntuples, then an offset number for each. */
const keepOffsets: KeepRule = (parts, { bytes }, at, end) => {
  parts.keep(at, at + 1);
  if (at + 4 > end) return;
  parts.keep(at + 2, at + 4);
  parts.keep(at + 4, at + 4 + 2 * bytes.readUInt16LE(at + 2));
};

/** From 16 on the arrays in block data are printed: offset numbers and freeze plans, no tuples. */
function prune(rows: { readonly 13: string; readonly 14: string }): Rows {
  return {
    ...rows,
    16: { main: "0-", data0: "0-" },
    17: { main: "1-", data0: "0-" },
    19: { main: "0-", data0: "0-" },
  };
}

export const heap2: StructureOf = structureOf(
  {
    // 0x00 REWRITE: a mapping of tuple ids, content.
    0x10: prune({ 13: "0-4", 14: "0-8" }), // CLEAN; PRUNE; PRUNE_ON_ACCESS
    0x20: prune({ 13: "0-6", 14: "0-2" }), // FREEZE_PAGE; VACUUM; PRUNE_VACUUM_SCAN
    0x30: prune({ 13: "12-16", 14: "0-6" }), // CLEANUP_INFO; FREEZE_PAGE; PRUNE_VACUUM_CLEANUP
    0x40: { 13: "0-5", 19: null }, // VISIBLE
    0x50: { 13: "0-1 2-4", 16: keepOffsets }, // MULTI_INSERT
    0x60: { 13: "0-8" }, // LOCK_UPDATED
    0x70: { 13: "4-34" }, // NEW_CID
    0xd0: { 13: "0-1 2-4" }, // MULTI_INSERT+INIT
  },
  { masksHighBit: true },
);

export const seq: StructureOf = structureOf({
  0x00: { 13: "0-12" }, // LOG: then the tuple with last_value
});
