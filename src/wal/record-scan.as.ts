/**
 * The inner loop over WAL records in AssemblyScript, compiled to WebAssembly by `npm run build`: their CRCs, and the
 * counting of whole runs of them, where nothing but numbers is wanted of each. It never says that a record is wrong:
 * it stops before one that it does not take, and reader.ts, whose checks these are, looks at it. It has no memory of
 * its own: record-scan.ts brings it and lays it out.
 */
import { makeTables, update } from "../postgres/crc32c.as";

/** XLogRecord of access/xlogrecord.h, as record-header.ts has it. */
const HEADER_BYTES: u32 = 24;
const CRC_OFFSET: u32 = 20;

const FORK_FLAGS_IMAGE: u32 = 0x10;
const FORK_FLAGS_DATA: u32 = 0x20;
const FORK_FLAGS_SAME_REL: u32 = 0x80;
const MAX_BLOCK_ID: u32 = 32;
const ID_DATA_SHORT: u32 = 255;
const ID_DATA_LONG: u32 = 254;
const ID_ORIGIN: u32 = 253;
const ID_TOPLEVEL_XID: u32 = 252;
const BLOCK_BYTES: u32 = 8192;

/** Not a size of images: the record is none that this module takes. */
const NOT_TAKEN: u32 = 0xffffffff;

/** What differs between the majors: WalFormat. */
let builtinRmgrs: u32 = 0;
let hasCustomRmgrs: bool = false;
let bitHole: u32 = 0;
let bitsCompressed: u32 = 0;

/** What `tally` found last. */
let lastRecord: usize = 0;

export function prepare(rmgrCount: u32, customRmgrs: bool, hole: u32, compressed: u32): void {
  makeTables();
  builtinRmgrs = rmgrCount;
  hasCustomRmgrs = customRmgrs;
  bitHole = hole;
  bitsCompressed = compressed;
}

/** What xl_crc has to be: of what follows the header, then of the header up to there. */
export function recordCrc(record: usize, totalLength: u32): u32 {
  const data = update(record + HEADER_BYTES, record + totalLength, 0xffffffff);
  return ~update(record, record + CRC_OFFSET, data);
}

/**
 * Counts the records from `record` on that are whole before `end`, in a page, and without fault.
 * @param lsnLow - with lsnHigh the LSN at `record`; prevLow and prevHigh: of the record before it.
 * @param tallies - for each rmgr id and type three f64: count, bytes without images, bytes of images.
 * @returns where the first record begins that it did not take; `last` gives the one before that.
 */
export function tally(
  record: usize,
  end: usize,
  lsnLow: u32,
  lsnHigh: u32,
  prevLow: u32,
  prevHigh: u32,
  tallies: usize,
): usize {
  let lsn = ((<u64>lsnHigh) << 32) | lsnLow;
  let prev = ((<u64>prevHigh) << 32) | prevLow;
  while (record + HEADER_BYTES <= end) {
    const total = load<u32>(record);
    if (total < HEADER_BYTES || total > <u32>(end - record)) break;
    if (load<u64>(record, 8) != prev) break;
    const info = <u32>load<u8>(record, 16);
    const rmid = <u32>load<u8>(record, 17);
    if (rmid >= builtinRmgrs && !(hasCustomRmgrs && rmid >= 128)) break;
    // XLOG_SWITCH: what follows it is not WAL.
    if (rmid == 0 && (info & 0xf0) == 0x40) break;
    if (recordCrc(record, total) != load<u32>(record, CRC_OFFSET)) break;
    const images = imageBytes(record + HEADER_BYTES, record + total);
    if (images == NOT_TAKEN) break;
    // The highest bit of a transaction's info is no part of the type.
    const type = (info >> 4) & (rmid == 1 ? 0x07 : 0x0f);
    const counted = tallies + 24 * ((rmid << 4) | type);
    store<f64>(counted, load<f64>(counted) + 1);
    store<f64>(counted, load<f64>(counted, 8) + <f64>(total - images), 8);
    store<f64>(counted, load<f64>(counted, 16) + <f64>images, 16);
    const step = (total + 7) & ~7;
    lastRecord = record;
    prev = lsn;
    lsn += step;
    record += step;
  }
  return record;
}

/** The record that `tally` counted last, where it counted any. */
export function last(): usize {
  return lastRecord;
}

/** Bytes of all images of a record, from what follows its header; NOT_TAKEN where decode-record.ts finds fault. */
function imageBytes(at: usize, end: usize): u32 {
  let images: u32 = 0;
  let announced: u32 = 0;
  let nextBlockId: u32 = 0;
  let hasRelation = false;
  while (<u32>(end - at) > announced) {
    const left = <u32>(end - at);
    const id = <u32>load<u8>(at);
    if (id == ID_DATA_SHORT) {
      if (left < 2) return NOT_TAKEN;
      announced += load<u8>(at, 1);
      at += 2;
      break;
    }
    if (id == ID_DATA_LONG) {
      if (left < 5) return NOT_TAKEN;
      const length = load<u32>(at, 1);
      if (length > left) return NOT_TAKEN;
      announced += length;
      at += 5;
      break;
    }
    if (id == ID_ORIGIN) {
      if (left < 3) return NOT_TAKEN;
      at += 3;
      continue;
    }
    if (id == ID_TOPLEVEL_XID) {
      if (left < 5) return NOT_TAKEN;
      at += 5;
      continue;
    }
    if (id > MAX_BLOCK_ID || id < nextBlockId || left < 4) return NOT_TAKEN;
    nextBlockId = id + 1;
    const flags = <u32>load<u8>(at, 1);
    const dataLength = <u32>load<u16>(at, 2);
    at += 4;
    if (((flags & FORK_FLAGS_DATA) != 0) != dataLength > 0) return NOT_TAKEN;
    announced += dataLength;
    if (flags & FORK_FLAGS_IMAGE) {
      // With the length of a hole, which may not be there; the block's number, which is, makes up for it.
      if (<u32>(end - at) < 7) return NOT_TAKEN;
      const length = <u32>load<u16>(at);
      const holeOffset = <u32>load<u16>(at, 2);
      const imageInfo = <u32>load<u8>(at, 4);
      at += 5;
      const compressed = (imageInfo & bitsCompressed) != 0;
      const hasHole = (imageInfo & bitHole) != 0;
      let holeLength: u32 = 0;
      if (!compressed) {
        holeLength = (BLOCK_BYTES - length) & 0xffff;
      } else if (hasHole) {
        holeLength = <u32>load<u16>(at);
        at += 2;
      }
      if (hasHole) {
        if (holeOffset == 0 || holeLength == 0 || length == BLOCK_BYTES) return NOT_TAKEN;
      } else if (holeOffset != 0 || holeLength != 0) {
        return NOT_TAKEN;
      }
      if (compressed) {
        if (length == BLOCK_BYTES) return NOT_TAKEN;
      } else if (!hasHole && length != BLOCK_BYTES) {
        return NOT_TAKEN;
      }
      images += length;
      announced += length;
    }
    if (flags & FORK_FLAGS_SAME_REL) {
      if (!hasRelation) return NOT_TAKEN;
    } else {
      hasRelation = true;
      if (<u32>(end - at) < 12) return NOT_TAKEN;
      at += 12;
    }
    if (<u32>(end - at) < 4) return NOT_TAKEN;
    at += 4;
  }
  return <u32>(end - at) == announced ? images : NOT_TAKEN;
}
