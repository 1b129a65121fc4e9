/**
 * Descriptions as data: a text with the fields of a C struct in it, each by its offset and type, such as
 * `off: {0:u16}, flags: 0x{2:x02}`. The text is taken apart once; writing it makes no strings and no objects, and
 * needs one comparison to stay inside the record.
 */
import assert from "node:assert";

import { type Literal, literal, type TextBuffer } from "../text-buffer.ts";
import { writeTimestamp } from "../timestamp.ts";
import { markCutShort } from "./cut-short.ts";
import { writeFixed, writeGeneral } from "./floating-point.ts";

/**
 * Writes the text with the fields that begin at `start`.
 * @param end - nothing is read from here on.
 * @returns false where the bytes end before the last field: then the mark stands there in place of the text.
 */
export type WriteFields = (out: TextBuffer, bytes: Buffer, start: number, end: number) => boolean;

/** The types that a field can have, each with the bytes that it is read from. */
const BYTES_OF_TYPE = {
  u8: 1,
  i8: 1,
  u16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  x02: 1, //      u8 as %02X
  tf: 1, //       bool as T or F
  bit0: 1, //     the lowest bit as T or F
  bit1: 1, //     the next one
  bit2: 1, //     the one after it
  bool: 1, //     true or false
  on: 1, //       bool as on or off
  level: 4, //    wal_level
  lsn: 8,
  time: 8, //     TimestampTz
  xid64: 8, //    FullTransactionId as epoch:xid
  rel: 12, //     RelFileLocator as three numbers
  block: 4, //    BlockIdData: two u16, the high one first
  tid: 6, //      ItemPointerData as block/offset
  g: 8, //        double as %g
  f: 8, //        double as %f
  string: 1, //   up to its NUL
  when: 1, //     the words behind the question mark, if the byte is not 0
} as const;
type FieldType = keyof typeof BYTES_OF_TYPE;

interface Field {
  /** What stands before it. */
  readonly before: Literal;
  readonly offset: number;
  readonly type: FieldType;
  readonly words: string;
}

const FIELD = /\{(\d+)(?::(\w+)|\?([^}]+))\}/g;

/** @param text - see above. A condition on a byte is `{4? (newpage)}`. */
export function fields(text: string): WriteFields {
  const list: Field[] = [];
  let needed = 0;
  let behind = 0;
  for (const match of text.matchAll(FIELD)) {
    const type = match[2] ?? "when";
    assert(isFieldType(type), `no such type of field: ${type}`);
    const offset = Number(match[1]);
    list.push({
      before: literal(text.slice(behind, match.index)),
      offset,
      type,
      words: match[3] ?? "",
    });
    needed = Math.max(needed, offset + BYTES_OF_TYPE[type]);
    behind = match.index + match[0].length;
  }
  const after = literal(text.slice(behind));
  return (out, bytes, start, end) => {
    if (start + needed > end) {
      markCutShort(out);
      return false;
    }
    for (const field of list) {
      out.literal(field.before);
      writeField(out, field, bytes, start + field.offset, end);
    }
    out.literal(after);
    return true;
  };
}

function isFieldType(type: string): type is FieldType {
  return Object.hasOwn(BYTES_OF_TYPE, type);
}

function writeField(out: TextBuffer, field: Field, bytes: Buffer, at: number, end: number): void {
  switch (field.type) {
    case "u16":
      return out.unsigned(bytes.readUInt16LE(at));
    case "u32":
      return out.unsigned(bytes.readUInt32LE(at));
    case "x02":
      return out.hex(bytes.readUInt8(at), 2);
    case "u8":
      return out.unsigned(bytes.readUInt8(at));
    case "i8":
      return out.signed(bytes.readInt8(at));
    case "i32":
      return out.signed(bytes.readInt32LE(at));
    case "u64":
      return out.u64At(bytes, at);
    case "i64":
      return out.i64At(bytes, at);
    case "tf":
      return out.text(bytes[at] === 0 ? "F" : "T");
    case "bit0":
      return out.text((bytes.readUInt8(at) & 1) === 0 ? "F" : "T");
    case "bit1":
      return out.text((bytes.readUInt8(at) & 2) === 0 ? "F" : "T");
    case "bit2":
      return out.text((bytes.readUInt8(at) & 4) === 0 ? "F" : "T");
    case "bool":
      return out.text(bytes[at] === 0 ? "false" : "true");
    case "on":
      return out.text(bytes[at] === 0 ? "off" : "on");
    case "level":
      return out.text(WAL_LEVELS[bytes.readUInt32LE(at)] ?? "?");
    case "lsn":
      return out.lsnAt(bytes, at);
    case "time":
      return writeTimestamp(out, bytes, at);
    case "xid64":
      return writePair(out, bytes.readUInt32LE(at + 4), ":", bytes.readUInt32LE(at));
    case "rel":
      writePair(out, bytes.readUInt32LE(at), "/", bytes.readUInt32LE(at + 4));
      out.text("/");
      return out.unsigned(bytes.readUInt32LE(at + 8));
    case "block":
      return out.unsigned(readBlockId(bytes, at));
    case "tid":
      return writePair(out, readBlockId(bytes, at), "/", bytes.readUInt16LE(at + 4));
    case "g":
      return writeGeneral(out, bytes.readDoubleLE(at));
    case "f":
      return writeFixed(out, bytes.readDoubleLE(at));
    case "string":
      return writeString(out, bytes, at, end);
    case "when":
      if (bytes[at] !== 0) out.text(field.words);
  }
}

/** WalLevel of access/xlog.h by number. */
const WAL_LEVELS: readonly string[] = ["minimal", "replica", "logical"];

function writePair(out: TextBuffer, first: number, between: string, second: number): void {
  out.unsigned(first);
  out.text(between);
  out.unsigned(second);
}

/** BlockIdData of storage/block.h. */
function readBlockId(bytes: Buffer, at: number): number {
  return bytes.readUInt16LE(at) * 0x10000 + bytes.readUInt16LE(at + 2);
}

/** A C string; where no NUL ends it, what is there and the mark. */
export function writeString(out: TextBuffer, bytes: Buffer, at: number, end: number): void {
  const nul = bytes.indexOf(0, at);
  const ended = nul !== -1 && nul < end;
  out.copy(bytes, at, ended ? nul : end);
  if (!ended) markCutShort(out);
}
