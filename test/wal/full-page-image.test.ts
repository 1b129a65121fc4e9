/** Pages out of full-page images. Frames of zstd are put together after RFC 8878, as one raw block. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadZstd } from "../../src/compression/zstd.ts";
import { restoreImage } from "../../src/wal/full-page-image.ts";
import { blockAt } from "../../src/wal/decode-record.ts";
import { createWalRecord } from "../../src/wal/record.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";

const FORMAT = walFormatOf(17);
const PAGE_BYTES = 8192;
const HOLE = { offset: 40, length: 8000 };
const CONTENT = Buffer.from(Array.from({ length: PAGE_BYTES - HOLE.length }, (_, i) => i));

/** The page of a record whose only image is this one. */
async function restored(image: Buffer, imageInfo: number): Promise<Buffer | string> {
  const record = createWalRecord();
  record.bytes = Buffer.concat([Buffer.from("before"), image, Buffer.from("behind")]);
  record.lsnHigh = 3;
  record.lsnLow = 0xabc;
  const block = blockAt(record, 0);
  block.imageStart = 6;
  block.imageLength = image.length;
  block.imageInfo = imageInfo;
  block.holeOffset = HOLE.offset;
  block.holeLength = HOLE.length;
  return restoreImage(record, block, 2, FORMAT, await loadZstd());
}

function zstdFrame(content: Buffer): Buffer {
  const start = Buffer.from("28b52ffd20", "hex");
  const blockHeader = Buffer.alloc(3);
  blockHeader.writeUIntLE((content.length << 3) | 1, 0, 3);
  return Buffer.concat([start, Buffer.from([content.length]), blockHeader, content]);
}

test("a page has its content on both sides of its hole, and zeros in it", async () => {
  const page = Buffer.alloc(PAGE_BYTES);
  CONTENT.copy(page, 0, 0, HOLE.offset);
  CONTENT.copy(page, HOLE.offset + HOLE.length, HOLE.offset);
  assert.deepEqual(await restored(CONTENT, FORMAT.image.hasHole), page);
  assert.deepEqual(await restored(zstdFrame(CONTENT), FORMAT.image.zstd), page);
});

test("an image that holds less than its page is an error, whatever compressed it", async () => {
  const short = CONTENT.subarray(0, 20);
  const lz4Literals = Buffer.concat([Buffer.from([0xf0, short.length - 15]), short]);
  const pglzLiterals = Buffer.concat([Buffer.from([0]), short.subarray(0, 8)]);
  for (const [image, bit] of [
    [zstdFrame(short), FORMAT.image.zstd],
    [lz4Literals, FORMAT.image.lz4],
    [pglzLiterals, FORMAT.image.pglz],
  ] as const) {
    assert.equal(await restored(image, bit), "could not decompress image at 3/ABC, block 2");
  }
});
