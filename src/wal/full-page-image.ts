/**
 * Restores the page of a full-page image. Source: access/transam/xlogreader.c, RestoreBlockImage, whose messages
 * these are.
 */
import { decodeLz4Block } from "../compression/lz4-block.ts";
import type { DecodeZstd } from "../compression/zstd.ts";
import { decodePglz } from "../postgres/pglz.ts";
import { formatHalves } from "./messages.ts";
import { BLOCK_BYTES } from "./record-header.ts";
import { compressionOf } from "./record-text.ts";
import type { BlockReference, WalRecord } from "./record.ts";
import type { WalFormat } from "./wal-format.ts";

/**
 * @param blockId - of `block`, which has an image, for the message.
 * @returns a page of 8192 bytes, or what is wrong with the image.
 */
export function restoreImage(
  record: WalRecord,
  block: BlockReference,
  blockId: number,
  format: WalFormat,
  decodeZstd: DecodeZstd,
): Buffer | string {
  const { imageStart, imageLength, holeOffset, holeLength } = block;
  const lsn = formatHalves(record.lsnHigh, record.lsnLow, format);
  const stored = record.bytes.subarray(imageStart, imageStart + imageLength);
  const size = BLOCK_BYTES - holeLength;
  if (size < holeOffset) {
    return `could not restore image at ${lsn} with invalid state, block ${blockId}`;
  }
  const undecodable = `could not decompress image at ${lsn}, block ${blockId}`;
  let content: Buffer;
  try {
    content = decompressImage(
      stored,
      size,
      compressionOf(block.imageInfo, format.image),
      decodeZstd,
    );
  } catch {
    return undecodable;
  }
  // Damaged data may well decode, to less than there was: what is missing is not made up.
  if (content.length !== size) return undecodable;
  const page = Buffer.alloc(BLOCK_BYTES);
  content.copy(page, 0, 0, holeOffset);
  content.copy(page, holeOffset + holeLength, holeOffset);
  return page;
}

function decompressImage(
  stored: Buffer,
  size: number,
  method: ReturnType<typeof compressionOf>,
  decodeZstd: DecodeZstd,
): Buffer {
  switch (method) {
    case undefined:
      return stored;
    case "pglz":
      return decodePglz(stored, size);
    case "lz4":
      return decodeLz4Block(stored, size);
    case "zstd":
      return decodeZstd(stored, size);
  }
}
