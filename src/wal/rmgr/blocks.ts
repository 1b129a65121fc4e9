/** What of a record's blocks the descriptions ask for. Source: access/xlogreader.h, XLogRecHasBlockData and others. */
import type { BlockReference, WalRecord } from "../record.ts";

/** Block 0 where it has data with it. */
export function firstBlockData(record: WalRecord): BlockReference | undefined {
  const block = firstBlock(record);
  return block?.hasData === true ? block : undefined;
}

/** Block 0 where it has an image with it. */
export function firstBlockImage(record: WalRecord): BlockReference | undefined {
  const block = firstBlock(record);
  return block?.hasImage === true ? block : undefined;
}

function firstBlock(record: WalRecord): BlockReference | undefined {
  const block = record.maxBlockId >= 0 ? record.blocks[0] : undefined;
  return block?.present === true ? block : undefined;
}
