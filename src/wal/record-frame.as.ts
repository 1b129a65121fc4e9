/**
 * What the loops over WAL records have in common: the CRC of a record, its headers, where its parts are. It never says
 * what is wrong with a record: a loop stops before one that it does not take, and reader.ts, whose checks these are,
 * looks at it.
 */
import { makeTables, update } from "../postgres/crc32c.as";

/** XLogRecord of access/xlogrecord.h, as record-header.ts has it. */
export const HEADER_BYTES: u32 = 24;
export const CRC_OFFSET: u32 = 20;

const FORK_FLAGS_IMAGE: u32 = 0x10;
const FORK_FLAGS_DATA: u32 = 0x20;
const FORK_FLAGS_SAME_REL: u32 = 0x80;
const MAX_BLOCK_ID: u32 = 32;
const ID_DATA_SHORT: u32 = 255;
const ID_DATA_LONG: u32 = 254;
const ID_ORIGIN: u32 = 253;
const ID_TOPLEVEL_XID: u32 = 252;
const BLOCK_BYTES: u32 = 8192;

/** What differs between the majors: WalFormat. */
let builtinRmgrs: u32 = 0;
let hasCustomRmgrs: bool = false;
let bitHole: u32 = 0;
let bitsCompressed: u32 = 0;

/** Of the record that `decode` took apart last. Lengths are 0 where it has no such part. */
export let imageBytes: u32 = 0;
export let contentStart: usize = 0;
export let blockDataStart: usize = 0;
export let blockDataLength: u32 = 0;
export let mainStart: usize = 0;
export let mainLength: u32 = 0;

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

/** Whether a record that is there as a whole is one of a known resource manager, with the right CRC. */
export function isSound(record: usize, total: u32): bool {
  const rmid = <u32>load<u8>(record, 17);
  if (rmid >= builtinRmgrs && !(hasCustomRmgrs && rmid >= 128)) return false;
  return recordCrc(record, total) == load<u32>(record, CRC_OFFSET);
}

/** XLOG_SWITCH: what follows it is not WAL. */
export function isSwitch(record: usize): bool {
  return load<u8>(record, 17) == 0 && (load<u8>(record, 16) & 0xf0) == 0x40;
}

/**
 * Takes a record apart.
 * @param at - what follows its header.
 * @returns false where decode-record.ts finds fault.
 */
export function decode(at: usize, end: usize): bool {
  let images: u32 = 0;
  let announced: u32 = 0;
  let nextBlockId: u32 = 0;
  let hasRelation = false;
  let firstImage: u32 = 0;
  blockDataLength = 0;
  mainLength = 0;
  while (<u32>(end - at) > announced) {
    const left = <u32>(end - at);
    const id = <u32>load<u8>(at);
    if (id == ID_DATA_SHORT) {
      if (left < 2) return false;
      mainLength = <u32>load<u8>(at, 1);
      announced += mainLength;
      at += 2;
      break;
    }
    if (id == ID_DATA_LONG) {
      if (left < 5) return false;
      mainLength = load<u32>(at, 1);
      if (mainLength > left) return false;
      announced += mainLength;
      at += 5;
      break;
    }
    if (id == ID_ORIGIN) {
      if (left < 3) return false;
      at += 3;
      continue;
    }
    if (id == ID_TOPLEVEL_XID) {
      if (left < 5) return false;
      at += 5;
      continue;
    }
    if (id > MAX_BLOCK_ID || id < nextBlockId || left < 4) return false;
    nextBlockId = id + 1;
    const flags = <u32>load<u8>(at, 1);
    const dataLength = <u32>load<u16>(at, 2);
    at += 4;
    if (((flags & FORK_FLAGS_DATA) != 0) != dataLength > 0) return false;
    announced += dataLength;
    if (id == 0) blockDataLength = dataLength;
    if (flags & FORK_FLAGS_IMAGE) {
      // With the length of a hole, which may not be there; the block's number, which is, makes up for it.
      if (<u32>(end - at) < 7) return false;
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
        if (holeOffset == 0 || holeLength == 0 || length == BLOCK_BYTES) return false;
      } else if (holeOffset != 0 || holeLength != 0) {
        return false;
      }
      if (compressed) {
        if (length == BLOCK_BYTES) return false;
      } else if (!hasHole && length != BLOCK_BYTES) {
        return false;
      }
      images += length;
      announced += length;
      if (id == 0) firstImage = length;
    }
    if (flags & FORK_FLAGS_SAME_REL) {
      if (!hasRelation) return false;
    } else {
      hasRelation = true;
      if (<u32>(end - at) < 12) return false;
      at += 12;
    }
    if (<u32>(end - at) < 4) return false;
    at += 4;
  }
  if (<u32>(end - at) != announced) return false;
  imageBytes = images;
  contentStart = at;
  blockDataStart = at + firstImage;
  mainStart = end - mainLength;
  return true;
}
