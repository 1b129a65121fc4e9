/** Access methods. Index tuples, and so keys, are content; posting lists hold only tuple ids. */
import { blockAt } from "../decode-record.ts";
import { type KeepRule, type StructureOf, structureOf } from "./rows.ts";

const INSERT = { 13: "0-2" } as const;
const SPLIT = { 13: "0-10" } as const;
const UNLINK = { 13: "0-", 14: "0-12 16-" } as const;

export const nbt: StructureOf = structureOf({
  0x00: INSERT, // INSERT_LEAF
  0x10: INSERT, // INSERT_UPPER
  0x20: INSERT, // INSERT_META
  0x30: SPLIT, // SPLIT_L
  0x40: SPLIT, // SPLIT_R
  0x50: INSERT, // INSERT_POST
  0x60: { 13: "0-2" }, // DEDUP
  0x70: { 13: "0-8", 16: { main: "0-9", data0: "0-" } }, // DELETE
  0x80: UNLINK, // UNLINK_PAGE
  0x90: UNLINK, // UNLINK_PAGE_META
  0xa0: { 13: "4-8" }, // NEWROOT
  0xb0: { 13: "4-20" }, // MARK_PAGE_HALFDEAD
  0xc0: { 13: "0-4", 16: { main: "0-4", data0: "0-" } }, // VACUUM
  0xd0: { 13: "0-12 16-" }, // REUSE_PAGE
  0xe0: { 13: { data0: "20-32" }, 14: { data0: "20-24" } }, // META_CLEANUP
});

export const hash: StructureOf = structureOf({
  0x00: { 13: "0-14" }, // INIT_META_PAGE
  0x10: { 13: "0-2" }, // INIT_BITMAP_PAGE
  0x20: { 13: "0-2" }, // INSERT
  0x30: { 13: "0-3" }, // ADD_OVFL_PAGE
  0x40: { 13: "0-4 8-9", 19: "0-9" }, // SPLIT_ALLOCATE_PAGE
  0x60: { 13: "0-4" }, // SPLIT_COMPLETE
  0x70: { 13: "0-3" }, // MOVE_PAGE_CONTENTS
  0x80: { 13: "0-11", 19: "0-12" }, // SQUEEZE_PAGE
  0x90: { 13: "0-2" }, // DELETE
  0xb0: { 13: "0-8" }, // UPDATE_META_PAGE
  0xc0: { 13: "0-8", 16: "0-7" }, // VACUUM_ONE_PAGE
});

/** GIN_INSERT_ISDATA and GIN_INSERT_ISLEAF of ginxlogInsert's flags, a u16. */
const IS_DATA = 1;
const IS_LEAF = 2;
/** Of ginxlogInsertEntry: offset and the flag isDelete; the index tuple behind them holds the key. */
const ENTRY_BYTES = 3;

const keepGinInsert: KeepRule = (parts, { bytes }, at, end) => {
  if (at + 2 > end) return;
  const isLeaf = (bytes.readUInt16LE(at) & IS_LEAF) !== 0;
  parts.keep(at, at + (isLeaf ? 2 : 10));
};

/** What is inserted into a posting tree is tuple ids; into the tree of entries, a key. */
const keepGinInsertData: KeepRule = (parts, record, at, end) => {
  const { bytes, mainStart, mainLength } = record;
  if (blockAt(record, 0).hasImage || mainLength < 2) return;
  const isData = (bytes.readUInt16LE(mainStart) & IS_DATA) !== 0;
  parts.keep(at, isData ? end : at + ENTRY_BYTES);
};

const keepWithoutImage: KeepRule = (parts, record, at, end) => {
  if (!blockAt(record, 0).hasImage) parts.keep(at, end);
};

export const gin: StructureOf = structureOf({
  0x20: { 13: { main: keepGinInsert, data0: keepGinInsertData } }, // INSERT
  0x30: { 13: "24-25", 19: "0-26" }, // SPLIT
  0x60: { 19: "0-84" }, // UPDATE_META_PAGE
  0x70: { 19: "0-" }, // INSERT_LISTPAGE
  0x80: { 13: "56-60" }, // DELETE_LISTPAGE
  0x90: { 13: { data0: keepWithoutImage } }, // VACUUM_DATA_LEAF_PAGE
});

export const gist: StructureOf = structureOf({
  0x10: { 13: "0-6", 16: "0-7" }, // DELETE
  0x20: { 13: "0-" }, // PAGE_REUSE
  0x30: { 13: "18-20" }, // PAGE_SPLIT
  0x60: { 13: "0-10" }, // PAGE_DELETE
});

export const spg: StructureOf = structureOf({
  0x10: { 13: "0-8", 14: "0-10" }, // ADD_LEAF
  0x20: { 13: "0-2", 14: "0-10" }, // MOVE_LEAFS
  0x30: { 13: "0-2", 14: "0-10" }, // ADD_NODE
  0x40: { 13: "0-6" }, // SPLIT_TUPLE
  0x50: { 13: "0-13", 14: "0-18" }, // PICKSPLIT
  0x60: { 14: "0-8" }, // VACUUM_LEAF
  0x70: { 14: "0-2" }, // VACUUM_ROOT
  0x80: { 13: "0-8", 16: "0-9" }, // VACUUM_REDIRECT
});

export const brin: StructureOf = structureOf(
  {
    0x00: { 13: "0-6" }, // CREATE_INDEX
    0x10: { 13: "0-10" }, // INSERT
    0x20: { 13: "0-2 4-14" }, // UPDATE
    0x30: { 13: "0-2" }, // SAMEPAGE_UPDATE
    0x40: { 13: "0-4" }, // REVMAP_EXTEND
    0x50: { 13: "0-10" }, // DESUMMARIZE
  },
  { masksHighBit: true },
);
