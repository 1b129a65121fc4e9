/**
 * Decodes PostgreSQL's own compression, of column values and full-page images. Source: common/pg_lzcompress.c.
 *
 * A control byte precedes eight items, its lowest bit the first of them: 0 is a literal byte; 1 is a match of two
 * bytes, or of three where its length field has the largest value.
 */
import { copyMatch } from "../compression/copy-match.ts";
import { FormatError } from "../errors.ts";

/** The first byte of a match: the high four bits of its distance, and its length less this. */
const MIN_MATCH_BYTES = 3;
/** A length that goes on in a third byte. */
const LONG_MATCH_BYTES = 0x0f + MIN_MATCH_BYTES;

/**
 * @param source - the compressed bytes alone, without PostgreSQL's header.
 * @param rawSizeBytes - size of the content, which the caller has bounded.
 * @returns exactly that many bytes, in a new buffer.
 * @throws {FormatError} when the data is damaged, or holds more or less than that.
 */
export function decodePglz(source: Uint8Array, rawSizeBytes: number): Buffer {
  const output = Buffer.alloc(rawSizeBytes);
  let from = 0;
  let to = 0;
  const byte = (): number => {
    const value = source[from++];
    if (value === undefined) throw damaged("it ends within a match");
    return value;
  };
  while (from < source.length && to < rawSizeBytes) {
    const control = byte();
    for (let bit = 0; bit < 8 && from < source.length && to < rawSizeBytes; bit++) {
      if ((control & (1 << bit)) === 0) {
        output[to++] = byte();
        continue;
      }
      const first = byte();
      const distance = ((first & 0xf0) << 4) | byte();
      let length = (first & 0x0f) + MIN_MATCH_BYTES;
      if (length === LONG_MATCH_BYTES) length += byte();
      if (distance === 0 || distance > to) throw damaged("a match begins before the content");
      if (length > rawSizeBytes - to) throw damaged("it holds more than it should");
      copyMatch(output, to, distance, length);
      to += length;
    }
  }
  if (to !== rawSizeBytes) throw damaged(`it holds ${to} bytes, not ${rawSizeBytes}`);
  if (from !== source.length) throw damaged("bytes follow its end");
  return output;
}

function damaged(why: string): FormatError {
  return new FormatError(`damaged pglz data: ${why}`);
}
