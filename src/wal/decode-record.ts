/**
 * Takes a record apart: block references, images, data. The record's CRC has been checked before, so what is found
 * wrong here was written so; it is checked all the same, for nothing may be read beyond the record. Source:
 * access/transam/xlogreader.c, DecodeXLogRecord, whose messages these are.
 */
import { type BlockReference, MAX_BLOCK_ID, type WalRecord } from "./record.ts";
import {
  BLOCK_BYTES,
  BLOCK_HAS_DATA,
  BLOCK_HAS_IMAGE,
  BLOCK_ID_DATA_LONG,
  BLOCK_ID_DATA_SHORT,
  BLOCK_ID_ORIGIN,
  BLOCK_ID_TOPLEVEL_XID,
  BLOCK_SAME_REL,
  FORK_MASK,
  RECORD_HEADER_BYTES,
} from "./record-header.ts";
import type { WalFormat } from "./wal-format.ts";

const LENGTH = "record with invalid length";

/**
 * Fills in everything of `record` that follows its header.
 * @param record - `bytes`, `start` and `totalLength` are set.
 * @param view - of `record.bytes`, from its first byte on.
 * @returns undefined, or what is wrong: the message without its place.
 */
export function decodeRecord(
  record: WalRecord,
  view: DataView,
  format: WalFormat,
): string | undefined {
  const end = record.start + record.totalLength;
  record.originId = 0;
  record.toplevelXid = 0;
  record.mainLength = 0;
  record.maxBlockId = -1;
  /** The block that BLOCK_SAME_REL refers to. */
  let relation: BlockReference | undefined;
  let at = record.start + RECORD_HEADER_BYTES;
  /** Bytes of images and data that the headers so far announce. */
  let announced = 0;
  headers: while (end - at > announced) {
    const blockId = view.getUint8(at++);
    switch (blockId) {
      case BLOCK_ID_DATA_SHORT:
        if (end - at < 1) return LENGTH;
        record.mainLength = view.getUint8(at);
        at += 1;
        announced += record.mainLength;
        break headers;
      case BLOCK_ID_DATA_LONG:
        if (end - at < 4) return LENGTH;
        record.mainLength = view.getUint32(at, true);
        at += 4;
        announced += record.mainLength;
        break headers;
      case BLOCK_ID_ORIGIN:
        if (end - at < 2) return LENGTH;
        record.originId = view.getUint16(at, true);
        at += 2;
        break;
      case BLOCK_ID_TOPLEVEL_XID:
        if (end - at < 4) return LENGTH;
        record.toplevelXid = view.getUint32(at, true);
        at += 4;
        break;
      default: {
        if (blockId > MAX_BLOCK_ID) return `invalid block_id ${blockId}`;
        for (let i = record.maxBlockId + 1; i < blockId; i++) blockAt(record, i).present = false;
        if (blockId <= record.maxBlockId) return `out-of-order block_id ${blockId}`;
        record.maxBlockId = blockId;
        const block = blockAt(record, blockId);
        block.present = true;
        if (end - at < 3) return LENGTH;
        const forkFlags = view.getUint8(at);
        const dataLength = view.getUint16(at + 1, true);
        at += 3;
        block.fork = forkFlags & FORK_MASK;
        block.flags = forkFlags & ~FORK_MASK;
        block.hasImage = (forkFlags & BLOCK_HAS_IMAGE) !== 0;
        block.hasData = (forkFlags & BLOCK_HAS_DATA) !== 0;
        block.applyImage = false;
        block.dataLength = dataLength;
        block.imageLength = 0;
        if (block.hasData !== dataLength > 0) {
          return block.hasData
            ? "BKPBLOCK_HAS_DATA set, but no data included"
            : `BKPBLOCK_HAS_DATA not set, but data length is ${dataLength}`;
        }
        announced += dataLength;
        if (block.hasImage) {
          if (end - at < 5) return LENGTH;
          block.imageLength = view.getUint16(at, true);
          block.holeOffset = view.getUint16(at + 2, true);
          block.imageInfo = view.getUint8(at + 4);
          at += 5;
          const { image } = format;
          block.applyImage = (block.imageInfo & image.apply) !== 0;
          if ((block.imageInfo & (image.pglz | image.lz4 | image.zstd)) === 0) {
            block.holeLength = (BLOCK_BYTES - block.imageLength) & 0xffff;
          } else if ((block.imageInfo & image.hasHole) === 0) {
            block.holeLength = 0;
          } else {
            if (end - at < 2) return LENGTH;
            block.holeLength = view.getUint16(at, true);
            at += 2;
          }
          announced += block.imageLength;
          const problem = imageProblem(block, format);
          if (problem !== undefined) return problem;
        }
        if ((forkFlags & BLOCK_SAME_REL) === 0) {
          if (end - at < 12) return LENGTH;
          block.tablespaceOid = view.getUint32(at, true);
          block.databaseOid = view.getUint32(at + 4, true);
          block.relfilenumber = view.getUint32(at + 8, true);
          at += 12;
          relation = block;
        } else {
          if (relation === undefined) return "BKPBLOCK_SAME_REL set but no previous rel";
          block.tablespaceOid = relation.tablespaceOid;
          block.databaseOid = relation.databaseOid;
          block.relfilenumber = relation.relfilenumber;
        }
        if (end - at < 4) return LENGTH;
        block.blockNumber = view.getUint32(at, true);
        at += 4;
      }
    }
  }
  if (end - at !== announced) return LENGTH;
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (!block.present) continue;
    block.imageStart = at;
    at += block.imageLength;
    block.dataStart = at;
    at += block.dataLength;
  }
  record.mainStart = at;
  return undefined;
}

/** The preallocated block reference with this id, at most MAX_BLOCK_ID. */
export function blockAt(record: WalRecord, blockId: number): BlockReference {
  const block = record.blocks[blockId];
  if (block === undefined) throw new RangeError(`block id ${blockId}`);
  return block;
}

/** How the parts of an image's header contradict each other. */
function imageProblem(block: BlockReference, { image }: WalFormat): string | undefined {
  const { holeOffset, holeLength, imageLength, imageInfo, dataLength } = block;
  const hasHole = (imageInfo & image.hasHole) !== 0;
  const compressed = (imageInfo & (image.pglz | image.lz4 | image.zstd)) !== 0;
  if (hasHole) {
    if (holeOffset === 0 || holeLength === 0 || imageLength === BLOCK_BYTES) {
      return `BKPIMAGE_HAS_HOLE set, but hole offset ${holeOffset} length ${holeLength} block image length ${imageLength}`;
    }
  } else if (holeOffset !== 0 || holeLength !== 0) {
    return `BKPIMAGE_HAS_HOLE not set, but hole offset ${holeOffset} length ${holeLength}`;
  }
  if (compressed) {
    if (imageLength !== BLOCK_BYTES) return undefined;
    return `${image.compressedName} set, but block image length ${imageLength}`;
  }
  if (hasHole || imageLength === BLOCK_BYTES) return undefined;
  return `neither BKPIMAGE_HAS_HOLE nor ${image.compressedName} set, but block image length is ${dataLength}`;
}
