/**
 * Arrays in records. The count comes from the record and is believed only as far as its bytes go.
 */
import type { TextBuffer } from "../text-buffer.ts";
import { markCutShort } from "./cut-short.ts";

export type WriteElement = (out: TextBuffer, bytes: Buffer, at: number) => void;

/**
 * Writes elements one after the other.
 * @param count - signed, as C's loops have it: nothing is written for 0 and less.
 * @returns where the array ends; -1 where the bytes end before that, and the mark stands there.
 */
export function writeElements(
  out: TextBuffer,
  bytes: Buffer,
  start: number,
  end: number,
  count: number,
  elementBytes: number,
  write: WriteElement,
): number {
  let at = start;
  for (let i = 0; i < count; i++, at += elementBytes) {
    if (at + elementBytes > end) {
      markCutShort(out);
      return -1;
    }
    write(out, bytes, at);
  }
  return at;
}

/** The same as array_desc of rmgrdesc_utils.c has it: ` [a, b]`, ` []` for none. */
export function writeArray(
  out: TextBuffer,
  bytes: Buffer,
  start: number,
  end: number,
  count: number,
  elementBytes: number,
  write: WriteElement,
): number {
  out.text(" [");
  let at = start;
  for (let i = 0; i < count; i++, at += elementBytes) {
    if (i > 0) out.text(", ");
    if (at + elementBytes > end) {
      markCutShort(out);
      return -1;
    }
    write(out, bytes, at);
  }
  out.text("]");
  return at;
}

export function writeU16(out: TextBuffer, bytes: Buffer, at: number): void {
  out.unsigned(bytes.readUInt16LE(at));
}

export function writeU32(out: TextBuffer, bytes: Buffer, at: number): void {
  out.unsigned(bytes.readUInt32LE(at));
}

/** As ` %u`. */
export function writeSpacedU32(out: TextBuffer, bytes: Buffer, at: number): void {
  out.text(" ");
  out.unsigned(bytes.readUInt32LE(at));
}

/** Two offset numbers as `%u->%u`. */
export function writeRedirection(out: TextBuffer, bytes: Buffer, at: number): void {
  out.unsigned(bytes.readUInt16LE(at));
  out.text("->");
  out.unsigned(bytes.readUInt16LE(at + 2));
}
