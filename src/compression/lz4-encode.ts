/**
 * Encodes LZ4 frames: independent blocks of 1 MiB, each found by the greedy search with one hash table that the LZ4
 * program's fast mode uses. Source: doc/lz4_Frame_format.md and doc/lz4_Block_format.md of the LZ4 project. Frames are
 * without checksums: whoever stores them here seals them.
 */
import { ByteStream } from "../bytes/byte-stream.ts";
import { SHORT_COPY_BYTES } from "./copy-match.ts";
import { xxHash32 } from "./xxhash32.ts";

const FRAME_MAGIC = Buffer.from("04224d18", "hex");
/** FLG: version 1, blocks are independent. BD: blocks of at most 1 MiB. */
const FRAME_FLAGS = Buffer.from("6060", "hex");
const BLOCK_BYTES = 2 ** 20;
/** The highest bit of a block's size: it is not compressed. */
const STORED_BLOCK = 0x80000000;

const MIN_MATCH_BYTES = 4;
/** The block format's end conditions: the last bytes are literals, and no match begins near them. */
const LAST_LITERAL_BYTES = 5;
const LAST_MATCH_BYTES = 12;
const MOST_DISTANCE = 0xffff;
const LONG_LENGTH = 15;
const HASH_BITS = 16;
/** After this many misses (as a power of two) the search takes longer steps: content that does not shrink is quick. */
const SKIP_SHIFT = 6;

/** One frame that holds all of the parts, in pieces; a piece is valid until the next one is taken. */
export async function* encodeLz4Frame(
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const check = (xxHash32(FRAME_FLAGS) >>> 8) & 0xff;
  yield Buffer.concat([FRAME_MAGIC, FRAME_FLAGS, Buffer.of(check)]);
  const stream = new ByteStream(parts);
  const table = new Int32Array(2 ** HASH_BITS);
  const output = Buffer.allocUnsafe(4 + BLOCK_BYTES);
  for (;;) {
    const content = await stream.take(BLOCK_BYTES);
    if (content.length === 0) break;
    yield encodeBlock(content, output, table);
  }
  yield Buffer.alloc(4);
}

/** A block with its size before it; stored as it is where it would not shrink. */
function encodeBlock(content: Buffer, output: Buffer, table: Int32Array): Buffer {
  const length = encodeLz4Block(content, output.subarray(4, 4 + content.length), table);
  if (length !== undefined) {
    output.writeUInt32LE(length);
    return output.subarray(0, 4 + length);
  }
  output.writeUInt32LE((STORED_BLOCK | content.length) >>> 0);
  content.copy(output, 4);
  return output.subarray(0, 4 + content.length);
}

/** @returns how many bytes it wrote; undefined where the block is no shorter than its content. */
function encodeLz4Block(content: Buffer, output: Buffer, table: Int32Array): number | undefined {
  // Positions are stored one higher, so that 0 is none.
  table.fill(0);
  const words = new DataView(content.buffer, content.byteOffset, content.length);
  const lastMatch = content.length - LAST_MATCH_BYTES;
  const matchLimit = content.length - LAST_LITERAL_BYTES;
  let to = 0;
  let anchor = 0;
  let misses = 1 << SKIP_SHIFT;

  /** One token with its literals and, where there is a match, that. @returns false when there is no room. */
  const sequence = (literals: number, distance: number, matched: number): boolean => {
    // Long lengths take a byte for each 255.
    if (to + literals + Math.floor((literals + matched) / 255) + 8 > output.length) return false;
    const extra = matched - MIN_MATCH_BYTES;
    const token = to++;
    output[token] =
      (Math.min(literals, LONG_LENGTH) << 4) | (matched === 0 ? 0 : Math.min(extra, LONG_LENGTH));
    if (literals >= LONG_LENGTH) to = writeLength(output, to, literals - LONG_LENGTH);
    if (literals > SHORT_COPY_BYTES) to += content.copy(output, to, anchor, anchor + literals);
    else for (let from = anchor; from < anchor + literals;) output[to++] = content[from++] ?? 0;
    if (matched === 0) return true;
    output[to++] = distance & 0xff;
    output[to++] = distance >>> 8;
    if (extra >= LONG_LENGTH) to = writeLength(output, to, extra - LONG_LENGTH);
    return true;
  };

  for (let at = 0; at <= lastMatch;) {
    const word = words.getInt32(at, true);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - HASH_BITS);
    const found = (table[slot] ?? 0) - 1;
    table[slot] = at + 1;
    if (found < 0 || at - found > MOST_DISTANCE || words.getInt32(found, true) !== word) {
      at += misses++ >>> SKIP_SHIFT;
      continue;
    }
    let matched = MIN_MATCH_BYTES;
    while (at + matched < matchLimit && content[found + matched] === content[at + matched]) {
      matched++;
    }
    if (!sequence(at - anchor, at - found, matched)) return undefined;
    at += matched;
    anchor = at;
    misses = 1 << SKIP_SHIFT;
  }
  return sequence(content.length - anchor, 0, 0) ? to : undefined;
}

function writeLength(output: Buffer, start: number, length: number): number {
  let to = start;
  let left = length;
  for (; left >= 255; left -= 255) output[to++] = 255;
  output[to++] = left;
  return to;
}
