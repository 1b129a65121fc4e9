/**
 * Lines of a text that arrives in parts of any length, without ever holding more than one part and one line.
 * Every line ends with LF, the last one too, and has a bounded length.
 */
import { FormatError } from "../errors.ts";

export interface Line {
  /** Without its LF; one byte in each character. */
  readonly text: string;
  /** With its LF; valid until the next line is taken. */
  readonly bytes: Buffer;
}

/**
 * @param where - the file, for messages.
 * @param limitBytes - a line with its LF may have that many.
 * @throws {FormatError} for a longer line, and for a last line without LF.
 */
export function* linesOf(
  parts: Iterable<Uint8Array>,
  where: string,
  limitBytes: number,
): Generator<Line> {
  let rest = Buffer.alloc(0);
  for (const part of parts) {
    const bytes = rest.length === 0 ? bufferOf(part) : Buffer.concat([rest, part]);
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(0x0a, start);
      if (end < 0) break;
      if (end - start >= limitBytes) throw tooLong(where, limitBytes);
      yield { text: bytes.toString("latin1", start, end), bytes: bytes.subarray(start, end + 1) };
      start = end + 1;
    }
    // A copy: the caller may use its buffer again.
    rest = Buffer.from(bytes.subarray(start));
    if (rest.length >= limitBytes) throw tooLong(where, limitBytes);
  }
  if (rest.length > 0) throw new FormatError(`${where} does not end with a whole line`);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function tooLong(where: string, limitBytes: number): FormatError {
  return new FormatError(`${where} has a line of over ${limitBytes} bytes`);
}
