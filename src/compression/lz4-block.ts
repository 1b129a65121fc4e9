/**
 * Decodes LZ4 blocks: the raw sequences without the frame around them, as PostgreSQL keeps them in column values and
 * full-page images. Source: the block format description of the LZ4 project (lz4_Block_format.md).
 */
import { FormatError } from "../errors.ts";
import { copyMatch, SHORT_COPY_BYTES } from "./copy-match.ts";

/** A match is at least this long; the token's four bits count from there. */
const MIN_MATCH_BYTES = 4;
/** A nibble of this value goes on in the bytes that follow. */
const LONG_LENGTH = 15;

/**
 * @param source - one whole block.
 * @param rawSizeBytes - size of its content, which the caller has bounded.
 * @returns exactly that many bytes, in a new buffer.
 * @throws {FormatError} when the block is damaged, or holds more or less than that.
 */
export function decodeLz4Block(source: Uint8Array, rawSizeBytes: number): Buffer {
  const output = Buffer.alloc(rawSizeBytes);
  const end = decodeLz4BlockInto(source, output, 0, rawSizeBytes);
  if (end !== rawSizeBytes) throw damaged(`it holds ${end} bytes, not ${rawSizeBytes}`);
  return output;
}

/**
 * Decodes a block whose matches may reach back into what stands before it.
 * @param output - its content is put here from `start` on.
 * @param limit - where it has to end at the latest.
 * @returns where it ends.
 * @throws {FormatError} when the block is damaged or holds more than that.
 */
export function decodeLz4BlockInto(
  source: Uint8Array,
  output: Buffer,
  start: number,
  limit: number,
): number {
  let from = 0;
  let to = start;

  const byte = (): number => {
    const value = source[from++];
    if (value === undefined) throw damaged("it ends too early");
    return value;
  };
  const length = (nibble: number): number => {
    let total = nibble;
    if (nibble < LONG_LENGTH) return total;
    for (;;) {
      const more = byte();
      total += more;
      if (more < 255) return total;
    }
  };

  for (;;) {
    const token = byte();
    const literals = length(token >> 4);
    if (literals > source.length - from) throw damaged("it ends within literals");
    if (literals > limit - to) throw damaged("it holds more than it should");
    if (literals > SHORT_COPY_BYTES) {
      output.set(source.subarray(from, from + literals), to);
      from += literals;
      to += literals;
    } else for (const end = from + literals; from < end;) output[to++] = source[from++] ?? 0;
    // The last sequence has literals alone.
    if (from === source.length) return to;

    const distance = byte() | (byte() << 8);
    const matched = length(token & 15) + MIN_MATCH_BYTES;
    if (distance === 0 || distance > to) throw damaged("a match begins before the content");
    if (matched > limit - to) throw damaged("it holds more than it should");
    copyMatch(output, to, distance, matched);
    to += matched;
  }
}

function damaged(why: string): FormatError {
  return new FormatError(`damaged LZ4 data: ${why}`);
}
