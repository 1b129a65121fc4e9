/**
 * How much of a record is full-page images. Source: access/transam/xlogreader.c and xlogstats.c, XLogRecGetLen.
 */
import { blockAt } from "./decode-record.ts";
import type { WalRecord } from "./record.ts";

/** Bytes of all its images, as stored; the rest of `totalLength` is the record proper. */
export function imageBytesOf(record: WalRecord): number {
  let bytes = 0;
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (block.present) bytes += block.imageLength;
  }
  return bytes;
}

/** Whether it holds an image at all. */
export function hasImage(record: WalRecord): boolean {
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (block.present && block.hasImage) return true;
  }
  return false;
}
