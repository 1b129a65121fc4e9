/**
 * Decodes LZ4 frames, as the lz4 program and backup tools write them: block by block, with all checksums, one frame
 * after another. Source: doc/lz4_Frame_format.md of the LZ4 project.
 */
import type { ByteStream } from "../bytes/byte-stream.ts";
import { FormatError } from "../errors.ts";
import { decodeLz4BlockInto } from "./lz4-block.ts";
import { XxHash32, xxHash32 } from "./xxhash32.ts";

const FRAME_MAGIC = 0x184d2204;
/** The first of sixteen magic numbers of frames with somebody's own content. */
const SKIPPABLE_MAGIC = 0x184d2a50;

/** FLG: the version is in the two highest bits. */
const VERSION_MASK = 0xc0;
const VERSION = 0x40;
const BLOCK_CHECKSUM = 0x10;
const CONTENT_SIZE = 0x08;
const CONTENT_CHECKSUM = 0x04;
const RESERVED = 0x02;
const DICTIONARY = 0x01;

/** The highest bit of a block's size: it is not compressed. */
const STORED_BLOCK = 0x80000000;
/** The most that a block holds, by the three bits of BD; the first four values are reserved. */
const BLOCK_BYTES = [0, 0, 0, 0, 2 ** 16, 2 ** 18, 2 ** 20, 2 ** 22];
/** How far a match reaches back. */
const HISTORY_BYTES = 2 ** 16;

/**
 * The content of all frames, block by block; a block is valid until the next one is taken.
 * @throws {FormatError} when a frame is damaged or of a kind that is not supported.
 */
export async function* decodeLz4Frames(input: ByteStream): AsyncGenerator<Buffer> {
  while ((await input.peek(1)).length > 0) {
    const magic = (await exactly(input, 4)).readUInt32LE();
    if (magic === FRAME_MAGIC) yield* decodeFrame(input);
    else if ((magic & ~0x0f) >>> 0 === SKIPPABLE_MAGIC) {
      const length = (await exactly(input, 4)).readUInt32LE();
      if ((await input.skip(length)) < length) throw damaged("it ends too early");
    } else throw damaged("no frame begins where one should");
  }
}

async function* decodeFrame(input: ByteStream): AsyncGenerator<Buffer> {
  const { flags, mostInBlock, size } = await frameHeader(input);
  const hash = new XxHash32();
  // What matches reach back to, then the block that is being decoded.
  const window = Buffer.alloc(HISTORY_BYTES + mostInBlock);
  let history = 0;
  let total = 0;
  for (;;) {
    const word = (await exactly(input, 4)).readUInt32LE();
    if (word === 0) break;
    const stored = word >= STORED_BLOCK;
    const length = stored ? word - STORED_BLOCK : word;
    if (length > mostInBlock) throw damaged("a block is too large");
    const packed = Buffer.from(await exactly(input, length));
    if ((flags & BLOCK_CHECKSUM) !== 0) {
      if ((await exactly(input, 4)).readUInt32LE() !== xxHash32(packed)) {
        throw damaged("a block is altered");
      }
    }
    const end = stored
      ? history + packed.copy(window, history)
      : decodeLz4BlockInto(packed, window, history, history + mostInBlock);
    const block = window.subarray(history, end);
    total += block.length;
    if ((flags & CONTENT_CHECKSUM) !== 0) hash.update(block);
    yield block;
    const kept = Math.min(end, HISTORY_BYTES);
    window.copyWithin(0, end - kept, end);
    history = kept;
  }
  if ((flags & CONTENT_CHECKSUM) !== 0) {
    if ((await exactly(input, 4)).readUInt32LE() !== hash.digest()) {
      throw damaged("its content is altered");
    }
  }
  if (size !== undefined && size !== BigInt(total)) throw damaged("its size is wrong");
}

interface FrameHeader {
  readonly flags: number;
  readonly mostInBlock: number;
  /** Of the content, where the frame tells. */
  readonly size: bigint | undefined;
}

async function frameHeader(input: ByteStream): Promise<FrameHeader> {
  const flags = (await input.peek(1))[0] ?? 0;
  if ((flags & VERSION_MASK) !== VERSION || (flags & RESERVED) !== 0) {
    throw damaged("its version is not supported");
  }
  if ((flags & DICTIONARY) !== 0) throw damaged("it needs a dictionary");
  const hasSize = (flags & CONTENT_SIZE) !== 0;
  const header = Buffer.from(await exactly(input, hasSize ? 10 : 2));
  const check = (await exactly(input, 1)).readUInt8();
  if (check !== ((xxHash32(header) >>> 8) & 0xff)) throw damaged("its header is altered");
  const mostInBlock = BLOCK_BYTES[(header.readUInt8(1) >>> 4) & 7] ?? 0;
  if (mostInBlock === 0) throw damaged("its block size is not valid");
  return { flags, mostInBlock, size: hasSize ? header.readBigUInt64LE(2) : undefined };
}

async function exactly(input: ByteStream, count: number): Promise<Buffer> {
  const bytes = await input.take(count);
  if (bytes.length < count) throw damaged("it ends too early");
  return bytes;
}

function damaged(why: string): FormatError {
  return new FormatError(`damaged LZ4 data: ${why}`);
}
