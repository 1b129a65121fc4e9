/** Heap pages, and what Heap has no info value left for. Sources: access/heapam_xlog.h, heapdesc.c. */
import { firstBlockData } from "./blocks.ts";
import { fields, type WriteFields } from "./fields.ts";
import { describeFreeze, describePrune16, describeVacuum } from "./heap-prune-16.ts";
import { describePrune } from "./heap-prune.ts";
import { describeTuple, describeTupleBefore16 } from "./heap-tuple.ts";
import { writeArray, writeU16 } from "./lists.ts";
import {
  type Describe,
  resourceManager,
  type Versions,
  type ResourceManagerOf,
} from "./record-types.ts";

const PRUNE_14 = "latestRemovedXid {0:u32} nredirected {4:u16} ndead {6:u16}";
const FREEZE_13 = "cutoff xid {0:u32} ntuples {4:u16}";

const MULTI_INSERT_16 = fields("ntuples: {2:u16}, flags: 0x{0:x02}");

export const heap2: ResourceManagerOf = resourceManager(
  "Heap2",
  {
    0x00: { 13: { name: "REWRITE" } },
    0x10: {
      13: { name: "CLEAN", describe: "remxid {0:u32}" },
      14: { name: "PRUNE", describe: PRUNE_14 },
      16: { name: "PRUNE", describe: describePrune16 },
      ...pruneSince17("PRUNE_ON_ACCESS"),
    },
    0x20: {
      13: { name: "FREEZE_PAGE", describe: FREEZE_13 },
      14: { name: "VACUUM", describe: "nunused {0:u16}" },
      16: { name: "VACUUM", describe: describeVacuum },
      ...pruneSince17("PRUNE_VACUUM_SCAN"),
    },
    0x30: {
      13: { name: "CLEANUP_INFO", describe: "remxid {12:u32}" },
      14: { name: "FREEZE_PAGE", describe: FREEZE_13 },
      16: { name: "FREEZE_PAGE", describe: describeFreeze },
      ...pruneSince17("PRUNE_VACUUM_CLEANUP"),
    },
    0x40: {
      13: { name: "VISIBLE", describe: "cutoff xid {0:u32} flags 0x{4:x02}" },
      16: { name: "VISIBLE", describe: "snapshotConflictHorizon: {0:u32}, flags: 0x{4:x02}" },
      19: null,
    },
    0x50: {
      13: { name: "MULTI_INSERT", describe: "{2:u16} tuples flags 0x{0:x02}" },
      16: { name: "MULTI_INSERT", describe: describeMultiInsert(0) },
      19: { name: "MULTI_INSERT", describe: describeMultiInsert(0x20) },
    },
    0x60: {
      13: {
        name: "LOCK_UPDATED",
        describe: describeTupleBefore16("off {4:u16}: xmax {0:u32}: flags 0x{7:x02} "),
      },
      16: { name: "LOCK_UPDATED", describe: describeTuple },
    },
    0x70: {
      13: {
        name: "NEW_CID",
        describe: "rel {16:rel}; tid {28:tid}; cmin: {4:u32}, cmax: {8:u32}, combo: {12:u32}",
      },
      16: {
        name: "NEW_CID",
        describe: "rel: {16:rel}, tid: {28:tid}, cmin: {4:u32}, cmax: {8:u32}, combo: {12:u32}",
      },
    },
    // XLOG_HEAP_INIT_PAGE
    0xd0: { 13: { name: "MULTI_INSERT+INIT" } },
  },
  { describe: 0x70 }, // XLOG_HEAP_OPMASK
);

/** 17 has one record for pruning, vacuuming and freezing; its info value only tells why. 19 has more flags. */
function pruneSince17(name: string): Versions {
  return {
    17: { name, describe: describePrune(1) },
    19: { name, describe: describePrune(2) },
  };
}

/** XLOG_HEAP_INIT_PAGE. */
const INIT_PAGE = 0x80;

/**
 * xl_heap_multi_insert: flags u8, ntuples u16 at 2, then the offsets, unless the page was new.
 * @param allFrozenSet - XLH_INSERT_ALL_FROZEN_SET where it is printed, 0 where not.
 */
function describeMultiInsert(allFrozenSet: number): Describe {
  const write: WriteFields = MULTI_INSERT_16;
  return (out, record) => {
    const { bytes, mainStart } = record;
    const end = mainStart + record.mainLength;
    if (!write(out, bytes, mainStart, end)) return;
    if ((bytes.readUInt8(mainStart) & allFrozenSet) !== 0) out.text(", vm_flags: 0x03");
    if (firstBlockData(record) === undefined || (record.info & INIT_PAGE) !== 0) return;
    out.text(", offsets:");
    const count = bytes.readUInt16LE(mainStart + 2);
    writeArray(out, bytes, mainStart + 4, end, count, 2, writeU16);
  };
}
