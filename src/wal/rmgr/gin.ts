/** GIN indexes. Sources: access/ginxlog.h, access/ginblock.h, gindesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { firstBlockData, firstBlockImage } from "./blocks.ts";
import { markCutShort } from "./cut-short.ts";
import { fields } from "./fields.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

const SPLIT = "isrootsplit: {24:bit2} isdata: {24:bit0} isleaf: {24:bit1}";

export const gin: ResourceManagerOf = resourceManager("Gin", {
  0x10: { 13: { name: "CREATE_PTREE" } },
  0x20: {
    13: { name: "INSERT", describe: describeInsertBefore19 },
    19: { name: "INSERT", describe: describeInsert },
  },
  0x30: {
    13: { name: "SPLIT", describe: SPLIT },
    19: { name: "SPLIT", describe: describeSplit },
  },
  0x40: { 13: { name: "VACUUM_PAGE" } },
  0x50: { 13: { name: "DELETE_PAGE" } },
  0x60: {
    13: { name: "UPDATE_META_PAGE" },
    19: { name: "UPDATE_META_PAGE", describe: describeUpdateMeta },
  },
  0x70: {
    13: { name: "INSERT_LISTPAGE" },
    19: { name: "INSERT_LISTPAGE", describe: describeInsertListPage },
  },
  0x80: { 13: { name: "DELETE_LISTPAGE", describe: "ndeleted: {56:i32}" } },
  0x90: {
    13: { name: "VACUUM_DATA_LEAF_PAGE", describe: describeVacuumLeafBefore19 },
    19: { name: "VACUUM_DATA_LEAF_PAGE", describe: describeVacuumLeaf },
  },
});

/** GIN_INSERT_ISDATA and GIN_INSERT_ISLEAF. */
const IS_DATA = 1;
const IS_LEAF = 2;
const INVALID_BLOCK = 0xffffffff;

const INSERT_FLAGS = fields("isdata: {0:bit0} isleaf: {0:bit1}");
/** Of an insertion that is not into a leaf: the children it connects. */
const INSERT_CHILDREN = fields(" children: {2:block}/{6:block}");
/** ginxlogInsertEntry: offset, isDelete, tuple. */
const ENTRY = fields(" isdelete: {2:tf}");
/** ginxlogInsertDataInternal: offset, then a PostingItem of child block and heap tuple. */
const POSTING_ITEM = fields(" pitem: {2:block}-{6:tid}");

function describeInsertBefore19(out: TextBuffer, record: WalRecord): void {
  if (!describeInsertHead(out, record)) return;
  if (!describeImage(out, record)) describeInsertData(out, record);
}

function describeInsert(out: TextBuffer, record: WalRecord): void {
  if (!describeInsertHead(out, record)) return;
  if (firstBlockImage(record) === undefined) describeInsertData(out, record);
}

/** ginxlogInsert. */
function describeInsertHead(out: TextBuffer, record: WalRecord): boolean {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (!INSERT_FLAGS(out, bytes, mainStart, end)) return false;
  if ((bytes.readUInt8(mainStart) & IS_LEAF) !== 0) return true;
  return INSERT_CHILDREN(out, bytes, mainStart, end);
}

function describeInsertData(out: TextBuffer, record: WalRecord): void {
  const flags = record.bytes.readUInt8(record.mainStart);
  if ((flags & IS_DATA) !== 0 && (flags & IS_LEAF) !== 0) {
    describeSegments(out, record);
    return;
  }
  const block = firstBlockData(record);
  if (block === undefined) {
    markCutShort(out);
    return;
  }
  const write = (flags & IS_DATA) === 0 ? ENTRY : POSTING_ITEM;
  write(out, record.bytes, block.dataStart, block.dataStart + block.dataLength);
}

function describeVacuumLeafBefore19(out: TextBuffer, record: WalRecord): void {
  if (!describeImage(out, record)) describeSegments(out, record);
}

function describeVacuumLeaf(out: TextBuffer, record: WalRecord): void {
  if (firstBlockImage(record) === undefined) describeSegments(out, record);
}

/** @returns whether there is an image. */
function describeImage(out: TextBuffer, record: WalRecord): boolean {
  const block = firstBlockImage(record);
  if (block === undefined) return false;
  out.text(block.applyImage ? " (full page image)" : " (full page image, for WAL verification)");
  return true;
}

/** GIN_SEGMENT_* of access/ginxlog.h. */
const SEGMENT_DELETE = 1;
const SEGMENT_INSERT = 2;
const SEGMENT_REPLACE = 3;
const SEGMENT_ADD_ITEMS = 4;
/** ItemPointerData. */
const ITEM_BYTES = 6;
/** GinPostingList up to its bytes; their count is in its last u16. */
const POSTING_LIST_HEADER_BYTES = 8;

/** ginxlogRecompressDataLeaf, block 0's data: a count of actions, each of segment number, action and what it needs. */
function describeSegments(out: TextBuffer, record: WalRecord): void {
  const { bytes } = record;
  const block = firstBlockData(record);
  if (block === undefined || block.dataLength < 2) {
    markCutShort(out);
    return;
  }
  const end = block.dataStart + block.dataLength;
  const count = bytes.readUInt16LE(block.dataStart);
  out.text(" ");
  out.unsigned(count);
  out.text(" segments:");
  for (let i = 0, at = block.dataStart + 2; i < count; i++) {
    at = describeSegment(out, bytes, at, end);
    if (at < 0) return;
  }
}

/** @returns where the next one begins; -1 where none can follow. */
function describeSegment(out: TextBuffer, bytes: Buffer, at: number, end: number): number {
  if (at + 2 > end) return cutShort(out);
  const action = bytes.readUInt8(at + 1);
  const rest = at + 2;
  out.text(" ");
  out.unsigned(bytes.readUInt8(at));
  switch (action) {
    case SEGMENT_DELETE:
      out.text(" (delete)");
      return rest;
    case SEGMENT_INSERT:
    case SEGMENT_REPLACE: {
      if (rest + POSTING_LIST_HEADER_BYTES > end) return cutShort(out);
      out.text(action === SEGMENT_INSERT ? " (insert)" : " (replace)");
      const listBytes = bytes.readUInt16LE(rest + POSTING_LIST_HEADER_BYTES - 2);
      return rest + POSTING_LIST_HEADER_BYTES + listBytes + (listBytes & 1);
    }
    case SEGMENT_ADD_ITEMS: {
      if (rest + 2 > end) return cutShort(out);
      const items = bytes.readUInt16LE(rest);
      out.text(" (add ");
      out.unsigned(items);
      out.text(" items)");
      return rest + 2 + items * ITEM_BYTES;
    }
    default:
      out.text(" unknown action ");
      out.unsigned(action);
      out.text(" ???");
      return -1;
  }
}

function cutShort(out: TextBuffer): -1 {
  markCutShort(out);
  return -1;
}

const SPLIT_FLAGS = fields(SPLIT);

/** ginxlogSplit; a split of leaf pages names no children. */
function describeSplit(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!SPLIT_FLAGS(out, bytes, mainStart, mainStart + record.mainLength)) return;
  const left = bytes.readUInt32LE(mainStart + 16);
  if (left === INVALID_BLOCK) return;
  out.text(" children: ");
  out.unsigned(left);
  out.text("/");
  out.unsigned(bytes.readUInt32LE(mainStart + 20));
}

const UPDATE_META = fields("ntuples: {80:i32}");

/** ginxlogUpdateMeta. */
function describeUpdateMeta(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!UPDATE_META(out, bytes, mainStart, mainStart + record.mainLength)) return;
  writeValidBlock(out, " prevTail: ", bytes.readUInt32LE(mainStart + 72));
  writeValidBlock(out, " newRightlink: ", bytes.readUInt32LE(mainStart + 76));
}

const INSERT_LIST_PAGE = fields("ntuples: {4:i32}");

/** ginxlogInsertListPage. */
function describeInsertListPage(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (!INSERT_LIST_PAGE(out, bytes, mainStart, mainStart + record.mainLength)) return;
  writeValidBlock(out, " rightlink: ", bytes.readUInt32LE(mainStart));
}

function writeValidBlock(out: TextBuffer, label: string, blockNumber: number): void {
  if (blockNumber === INVALID_BLOCK) return;
  out.text(label);
  out.unsigned(blockNumber);
}
