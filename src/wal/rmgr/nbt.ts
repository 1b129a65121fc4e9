/** B-tree indexes. Sources: access/nbtxlog.h, nbtdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { firstBlockData } from "./blocks.ts";
import { markCutShort } from "./cut-short.ts";
import { fields, type WriteFields } from "./fields.ts";
import { writeArray, writeU16 } from "./lists.ts";
import {
  type Describe,
  resourceManager,
  type Versions,
  type ResourceManagerOf,
} from "./record-types.ts";

const SPLIT_13 = "level {0:u32}, firstrightoff {4:u16}, newitemoff {6:u16}, postingoff {8:u16}";
const SPLIT_16 = "level: {0:u32}, firstrightoff: {4:u16}, newitemoff: {6:u16}, postingoff: {8:u16}";

const UNLINK_13 =
  "left {0:u32}; right {4:u32}; btpo_xact {20:u32}; " +
  "leafleft {8:u32}; leafright {12:u32}; topparent {16:u32}";
const UNLINK_14 =
  "left {0:u32}; right {4:u32}; level {8:u32}; safexid {16:xid64}; " +
  "leafleft {24:u32}; leafright {28:u32}; leaftopparent {32:u32}";
const UNLINK_16 =
  "left: {0:u32}, right: {4:u32}, level: {8:u32}, safexid: {16:xid64}, " +
  "leafleft: {24:u32}, leafright: {28:u32}, leaftopparent: {32:u32}";

const VACUUM_16 = fields("ndeleted: {0:u16}, nupdated: {2:u16}");
const DELETE_16 = fields("snapshotConflictHorizon: {0:u32}, ndeleted: {4:u16}, nupdated: {6:u16}");
const DELETE_17 = fields(
  "snapshotConflictHorizon: {0:u32}, ndeleted: {4:u16}, nupdated: {6:u16}, isCatalogRel: {8:tf}",
);

/** xl_btree_metadata, the data of block 0. */
const META_13 = fields("oldest_btpo_xact {20:u32}; last_cleanup_num_heap_tuples: {24:f}");
const META_14 = fields("last_cleanup_num_delpages {20:u32}");
const META_16 = fields("last_cleanup_num_delpages: {20:u32}");

export const nbt: ResourceManagerOf = resourceManager("Btree", {
  0x00: insert("INSERT_LEAF"),
  0x10: insert("INSERT_UPPER"),
  0x20: insert("INSERT_META"),
  0x30: {
    13: { name: "SPLIT_L", describe: SPLIT_13 },
    16: { name: "SPLIT_L", describe: SPLIT_16 },
  },
  0x40: {
    13: { name: "SPLIT_R", describe: SPLIT_13 },
    16: { name: "SPLIT_R", describe: SPLIT_16 },
  },
  0x50: insert("INSERT_POST"),
  0x60: {
    13: { name: "DEDUP", describe: "nintervals {0:u16}" },
    16: { name: "DEDUP", describe: "nintervals: {0:u16}" },
  },
  0x70: {
    13: { name: "DELETE", describe: "latestRemovedXid {0:u32}; ndeleted {4:u32}" },
    14: {
      name: "DELETE",
      describe: "latestRemovedXid {0:u32}; ndeleted {4:u16}; nupdated {6:u16}",
    },
    16: { name: "DELETE", describe: withOffsets(DELETE_16, 4) },
    17: { name: "DELETE", describe: withOffsets(DELETE_17, 4) },
  },
  0x80: unlink("UNLINK_PAGE"),
  0x90: unlink("UNLINK_PAGE_META"),
  0xa0: {
    13: { name: "NEWROOT", describe: "lev {4:u32}" },
    16: { name: "NEWROOT", describe: "level: {4:u32}" },
  },
  0xb0: {
    13: {
      name: "MARK_PAGE_HALFDEAD",
      describe: "topparent {16:u32}; leaf {4:u32}; left {8:u32}; right {12:u32}",
    },
    16: {
      name: "MARK_PAGE_HALFDEAD",
      describe: "topparent: {16:u32}, leaf: {4:u32}, left: {8:u32}, right: {12:u32}",
    },
  },
  0xc0: {
    13: { name: "VACUUM", describe: "ndeleted {0:u16}; nupdated {2:u16}" },
    16: { name: "VACUUM", describe: withOffsets(VACUUM_16, 0) },
  },
  0xd0: {
    13: { name: "REUSE_PAGE", describe: "rel {0:rel}; latestRemovedXid {16:u32}" },
    14: { name: "REUSE_PAGE", describe: "rel {0:rel}; latestRemovedXid {16:xid64}" },
    16: { name: "REUSE_PAGE", describe: "rel: {0:rel}, snapshotConflictHorizon: {16:xid64}" },
    17: {
      name: "REUSE_PAGE",
      describe: "rel: {0:rel}, snapshotConflictHorizon: {16:xid64}, isCatalogRel: {24:tf}",
    },
  },
  0xe0: {
    13: { name: "META_CLEANUP", describe: ofFirstBlock(META_13) },
    14: { name: "META_CLEANUP", describe: ofFirstBlock(META_14) },
    16: { name: "META_CLEANUP", describe: ofFirstBlock(META_16) },
  },
});

function insert(name: string): Versions {
  return { 13: { name, describe: "off {0:u16}" }, 16: { name, describe: "off: {0:u16}" } };
}

function unlink(name: string): Versions {
  return {
    13: { name, describe: UNLINK_13 },
    14: { name, describe: UNLINK_14 },
    16: { name, describe: UNLINK_16 },
  };
}

function ofFirstBlock(write: WriteFields): Describe {
  return (out, record) => {
    const block = firstBlockData(record);
    if (block === undefined) markCutShort(out);
    else write(out, record.bytes, block.dataStart, block.dataStart + block.dataLength);
  };
}

/** @param countsOffset - of ndeleted in the main data, a u16; nupdated follows it. */
function withOffsets(write: WriteFields, countsOffset: number): Describe {
  return (out, record) => {
    const { bytes, mainStart } = record;
    if (!write(out, bytes, mainStart, mainStart + record.mainLength)) return;
    const deleted = bytes.readUInt16LE(mainStart + countsOffset);
    const updated = bytes.readUInt16LE(mainStart + countsOffset + 2);
    describeOffsets(out, record, deleted, updated);
  };
}

/** Data of block 0: offsets of deleted tuples, offsets of updated ones, then an xl_btree_update for each of these. */
function describeOffsets(
  out: TextBuffer,
  record: WalRecord,
  deleted: number,
  updated: number,
): void {
  const block = firstBlockData(record);
  if (block === undefined) return;
  const { bytes } = record;
  const end = block.dataStart + block.dataLength;
  out.text(", deleted:");
  const offsets = writeArray(out, bytes, block.dataStart, end, deleted, 2, writeU16);
  if (offsets < 0) return;
  out.text(", updated: [");
  let update = offsets + 2 * updated;
  for (let i = 0; i < updated; i++) {
    if (i > 0) out.text(", ");
    update = describeUpdate(out, bytes, offsets + 2 * i, update, end);
    if (update < 0) return;
  }
  out.text("]");
}

/**
 * @param offset - where the tuple's offset number is.
 * @param update - where its xl_btree_update is: a count, then which tuple ids of its posting list are deleted.
 * @returns where the next one is; -1 where the data ends before.
 */
function describeUpdate(
  out: TextBuffer,
  bytes: Buffer,
  offset: number,
  update: number,
  end: number,
): number {
  if (update + 2 > end) {
    markCutShort(out);
    return -1;
  }
  const count = bytes.readUInt16LE(update);
  out.text("{ off: ");
  out.unsigned(bytes.readUInt16LE(offset));
  out.text(", nptids: ");
  out.unsigned(count);
  out.text(", ptids:");
  const next = writeArray(out, bytes, update + 2, end, count, 2, writeU16);
  if (next >= 0) out.text(" }");
  return next;
}
