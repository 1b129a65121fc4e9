/**
 * Text as bytes, put together without strings: pg_waldump's lines are built here at some hundred nanoseconds each.
 * Whoever owns the buffer takes `bytes` up to `length` and calls `reset`.
 */

import { LocalClock } from "./local-clock.ts";
import type { TimeZone } from "./time-zone.ts";

const INITIAL_BYTES = 1 << 16;
/** No single number is printed with more digits; `text` and `copy` ask for their own. */
const NUMBER_BYTES = 24;

const MINUS = 0x2d;
const SPACE = 0x20;
const SLASH = 0x2f;
const ZERO = 0x30;
/** What a digit above 9 adds to it: `A` for 10. */
const UPPER_HEX = 0x37;
const LOWER_HEX = 0x57;
const TWO_32 = 2 ** 32;

/** A text that is written again and again: four bytes a step. */
export interface Literal {
  readonly words: Int32Array;
  readonly length: number;
}

/** @param ascii - text with no character above U+007F. */
export function literal(ascii: string): Literal {
  const bytes = Buffer.alloc(Math.ceil(ascii.length / 4) * 4);
  bytes.write(ascii, "latin1");
  const words = Int32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i));
  return { words, length: ascii.length };
}

/** The two digits of each byte in upper case, the first one in the lower half: as they are stored. */
const HEX_PAIRS: Uint16Array = Uint16Array.from({ length: 256 }, (_, byte) =>
  Buffer.from(byte.toString(16).toUpperCase().padStart(2, "0"), "latin1").readUInt16LE(0),
);

export class TextBuffer {
  bytes: Buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  length = 0;
  #view: DataView = viewOf(this.bytes);
  /** Tells the times of day that are printed. */
  readonly clock: LocalClock;
  readonly #lsnLowDigits: number;

  /**
   * @param lsnLowDigits - digits that the second half of an LSN has at least: WalFormat.lsnLowDigits.
   * @param zone - the time zone that times are printed in; UTC if not given.
   */
  constructor(lsnLowDigits = 1, zone?: TimeZone) {
    this.#lsnLowDigits = lsnLowDigits;
    this.clock = new LocalClock(zone);
  }

  reset(): void {
    this.length = 0;
  }

  /**
   * Gives away what is there, with the memory that it is in, and begins anew.
   * @param spare - memory to go on in; without it there is new memory of the same size.
   */
  take(spare?: ArrayBuffer): Uint8Array {
    const taken = this.bytes.subarray(0, this.length);
    this.#setMemory(
      spare === undefined ? Buffer.allocUnsafe(this.bytes.length) : Buffer.from(spare),
    );
    this.reset();
    return taken;
  }

  /** Makes room for this many bytes more. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, this.length);
    this.#setMemory(larger);
  }

  #setMemory(bytes: Buffer): void {
    this.bytes = bytes;
    this.#view = viewOf(bytes);
  }

  literal({ words, length }: Literal): void {
    // The last word may go beyond the text: what comes next is written over it.
    this.reserve(length + 3);
    const view = this.#view;
    let at = this.length;
    for (let i = 0; i < words.length; i++, at += 4) view.setInt32(at, words[i] ?? 0, true);
    this.length += length;
  }

  /** @param ascii - text with no character above U+007F. */
  text(ascii: string): void {
    const count = ascii.length;
    this.reserve(count);
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < count; i++) bytes[at++] = ascii.charCodeAt(i);
    this.length = at;
  }

  /** One byte, such as the code of a character. */
  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** @param value - a whole number from 0 up to 2^53. As `%u`. */
  unsigned(value: number): void {
    this.reserve(NUMBER_BYTES);
    const digits = decimalDigits(value);
    writeDecimal(this.bytes, this.length, value, digits);
    this.length += digits;
  }

  /** As `%*u`: right-aligned with spaces in at least `width` columns. */
  unsignedRight(value: number, width: number): void {
    const digits = decimalDigits(value);
    const columns = Math.max(width, digits);
    this.reserve(columns);
    const { bytes } = this;
    const start = this.length;
    const end = start + columns;
    for (let at = start; at < end - digits; at++) bytes[at] = SPACE;
    writeDecimal(bytes, end - digits, value, digits);
    this.length = end;
  }

  /** As `%d`. */
  signed(value: number): void {
    if (value < 0) this.byte(MINUS);
    this.unsigned(Math.abs(value));
  }

  /** @param value - an unsigned number of 32 bits. As `%X` with at least `minDigits` digits. */
  hex(value: number, minDigits = 1): void {
    this.#hexDigits(value, minDigits, UPPER_HEX);
  }

  /** As `%x`. */
  hexLower(value: number, minDigits = 1): void {
    this.#hexDigits(value, minDigits, LOWER_HEX);
  }

  /** As `%X/%08X`, whatever the major. */
  lsnPadded(high: number, low: number): void {
    this.hex(high);
    this.reserve(9);
    const view = this.#view;
    const at = this.length;
    view.setUint8(at, SLASH);
    view.setUint16(at + 1, HEX_PAIRS[low >>> 24] ?? 0, true);
    view.setUint16(at + 3, HEX_PAIRS[(low >>> 16) & 0xff] ?? 0, true);
    view.setUint16(at + 5, HEX_PAIRS[(low >>> 8) & 0xff] ?? 0, true);
    view.setUint16(at + 7, HEX_PAIRS[low & 0xff] ?? 0, true);
    this.length = at + 9;
  }

  /** As LSN_FORMAT_ARGS is printed by the major. */
  lsn(high: number, low: number): void {
    this.hex(high);
    this.byte(SLASH);
    this.hex(low, this.#lsnLowDigits);
  }

  /** An XLogRecPtr of 8 bytes, little-endian. */
  lsnAt(source: Buffer, offset: number): void {
    this.lsn(source.readUInt32LE(offset + 4), source.readUInt32LE(offset));
  }

  /** As `%llu`: 64 bits, little-endian. */
  u64At(source: Buffer, offset: number): void {
    this.u64(source.readUInt32LE(offset + 4), source.readUInt32LE(offset));
  }

  /** As `%lld`. */
  i64At(source: Buffer, offset: number): void {
    let high = source.readInt32LE(offset + 4);
    let low = source.readUInt32LE(offset);
    if (high < 0) {
      this.byte(MINUS);
      high = low === 0 ? -high : ~high;
      low = low === 0 ? 0 : TWO_32 - low;
    }
    this.u64(high >>> 0, low);
  }

  u64(high: number, low: number): void {
    if (high < 0x200000) {
      this.unsigned(high * TWO_32 + low);
      return;
    }
    this.text(((BigInt(high) << 32n) | BigInt(low)).toString());
  }

  /** Bytes as they are. */
  copy(source: Uint8Array, start: number, end: number): void {
    const count = end - start;
    if (count <= 0) return;
    this.reserve(count);
    this.bytes.set(source.subarray(start, end), this.length);
    this.length += count;
  }

  #hexDigits(value: number, minDigits: number, letters: number): void {
    this.reserve(NUMBER_BYTES);
    const digits = Math.max(minDigits, 8 - (Math.clz32(value | 1) >>> 2));
    const { bytes } = this;
    let rest = value;
    for (let at = this.length + digits - 1; at >= this.length; at--) {
      const digit = rest & 15;
      bytes[at] = digit + (digit < 10 ? ZERO : letters);
      rest >>>= 4;
    }
    this.length += digits;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function decimalDigits(value: number): number {
  if (value < 10) return 1;
  if (value < 100) return 2;
  if (value < 1000) return 3;
  if (value < 10_000) return 4;
  if (value < 100_000) return 5;
  if (value < 1_000_000) return 6;
  let digits = 7;
  for (let limit = 10_000_000; limit <= value; limit *= 10) digits++;
  return digits;
}

function writeDecimal(bytes: Buffer, start: number, value: number, digits: number): void {
  let at = start + digits - 1;
  let rest = value;
  // Numbers of 32 bits divide faster than those of a double.
  while (rest > 0x7fffffff) {
    const quotient = Math.floor(rest / 10);
    bytes[at--] = ZERO + (rest - quotient * 10);
    rest = quotient;
  }
  while (at >= start) {
    const quotient = (rest / 10) | 0;
    bytes[at--] = ZERO + (rest - quotient * 10);
    rest = quotient;
  }
}
