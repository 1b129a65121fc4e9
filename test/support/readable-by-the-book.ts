/**
 * Which bytes of a WAL record stay readable, read from the table in docs/FORMAT.md and the words below it, and from
 * nothing in src/wal/structure: the second opinion that the product's own table is held against.
 */
import assert from "node:assert/strict";
import { tablesOf } from "./format-document.ts";
import type { PlainRecord } from "./plain-records.ts";

interface Row {
  readonly since: number;
  readonly main: string;
  readonly data0: string;
}

/** By resource manager and info value. */
const rows = new Map<string, Row[]>();
for (const cells of tablesOf("### Table of readable bytes")[0] ?? []) {
  const [rmgr = "", info = "", since = "", main = "", data0 = ""] = cells;
  const key = `${Number.parseInt(rmgr, 10)} ${Number.parseInt(info, 16)}`;
  rows.set(key, [...(rows.get(key) ?? []), { since: Number(since), main, data0 }]);
}

function rowOf(rmid: number, info: number, major: number): Row | undefined {
  const since = (value: number): Row | undefined =>
    rows.get(`${rmid} ${value}`)?.findLast((row) => row.since <= major);
  return since(info) ?? ([1, 9, 10, 17].includes(rmid) ? since(info & 0x70) : undefined);
}

/** For each byte of a record, and of the padding behind it, 1 where it is secret. */
export function secretsByTheBook(record: PlainRecord, major: number): Uint8Array {
  const { rmid, info, bytes, places, content, main, data, images } = record;
  const secret = new Uint8Array(places.length).fill(1);
  secret.fill(0, 0, content);
  const row = rowOf(rmid, info, major);
  const area = new Area(bytes.subarray(...main), major);
  const flags = area.has(0, 2) ? area.bytes.readUInt16LE(0) : undefined;
  const block = data.get(0);
  if (row !== undefined && block !== undefined) {
    const own = new Area(bytes.subarray(...block), major);
    keepData(own, row.data0, images.has(0), flags);
    own.show(secret, block[0]);
  }
  if (row !== undefined) {
    keepMain(area, row.main, info);
    area.show(secret, main[0]);
  }
  return secret;
}

/** The main data, or the data of block 0. */
class Area {
  readonly bytes: Buffer;
  readonly major: number;
  readonly #kept: Uint8Array;

  constructor(bytes: Buffer, major: number) {
    this.bytes = bytes;
    this.major = major;
    this.#kept = new Uint8Array(bytes.length);
  }

  has(from: number, count: number): boolean {
    return from + count <= this.bytes.length;
  }

  /** [from, to), cut at the end. */
  keep(from: number, to = Infinity): void {
    this.#kept.fill(1, Math.min(from, this.bytes.length), Math.min(to, this.bytes.length));
  }

  /** A number of 4 bytes that stays readable; 0 where the area ends before or within it. */
  count(at: number): number {
    if (!this.has(at, 4)) return 0;
    this.keep(at, at + 4);
    return this.bytes.readUInt32LE(at);
  }

  /** @returns what follows the text with its NUL. */
  text(at: number): number {
    const nul = at < this.bytes.length ? this.bytes.indexOf(0, at) : -1;
    const end = nul < 0 ? this.bytes.length : nul + 1;
    this.keep(at, end);
    return end;
  }

  messages(at: number, count: number): number {
    const end = at + 16 * count;
    for (let message = at; message < end && message < this.bytes.length; message += 16) {
      const id = this.bytes.readInt8(message);
      this.keep(message, message + 1);
      if ([-1, -2, -5].includes(id) || (id === -6 && this.major >= 18))
        this.keep(message + 8, message + 12);
      if (id === -4) this.keep(message + 4, message + 8);
    }
    return end;
  }

  show(secret: Uint8Array, start: number): void {
    for (const [i, kept] of this.#kept.entries()) if (kept === 1) secret[start + i] = 0;
  }
}

function keepData(
  area: Area,
  cell: string,
  hasImage: boolean,
  mainFlags: number | undefined,
): void {
  const onlyWithoutImage = /^nothing with an image of block 0; else,? /;
  if (onlyWithoutImage.test(cell) && hasImage) return;
  const rest = cell.replace(onlyWithoutImage, "");
  if (rest !== "with bit 0 of the main data's u16 at 0, all; else 0-3") keepRanges(area, rest);
  else if (mainFlags !== undefined) area.keep(0, (mainFlags & 1) === 0 ? 3 : Infinity);
}

function keepMain(area: Area, cell: string, info: number): void {
  if (cell === "end of transaction") keepEnd(area, info);
  else if (cell === "prepare") keepPrepare(area);
  else if (cell === "0-2; 0-10 where bit 1 of the u16 at 0 is not set") {
    if (area.has(0, 2)) area.keep(0, (area.bytes.readUInt16LE(0) & 2) === 0 ? 10 : 2);
  } else keepParts(area, cell);
}

const RANGES = /^(all|nothing|–|\d+-\d*( \d+-\d*)*)$/;

/** @returns the end of the last range. */
function keepRanges(area: Area, text: string, to = Infinity): number {
  assert.match(text, RANGES);
  if (text === "all") area.keep(0, to);
  if (!/\d/.test(text)) return 0;
  let last = 0;
  for (const range of text.split(" ")) {
    const [from = "", end = ""] = range.split("-");
    last = end === "" ? Infinity : Number(end);
    area.keep(Number(from), Math.min(last, to));
  }
  return last;
}

/** Ranges, and what a number or a text says about what follows them. */
function keepParts(area: Area, cell: string): void {
  const [first = "", ...others] = cell.split(", ");
  const messagesAt = /, messages at (\d+), count at (\d+)$/.exec(cell);
  const textAt = /^text at (\d+)$/.exec(others[0] ?? first);
  if (messagesAt !== null) {
    const [at, countAt] = messagesAt.slice(1).map(Number);
    assert.ok(at !== undefined && countAt !== undefined);
    const isThere = area.has(countAt, 4);
    keepRanges(area, first, isThere ? Infinity : countAt);
    if (isThere) area.messages(at, area.bytes.readUInt32LE(countAt));
  } else if (textAt !== null) {
    if (others.length > 0) keepRanges(area, first);
    area.text(Number(textAt[1]));
  } else if (others[0] === "then 2 bytes for each of the count at 2 (u16)") {
    const isThere = area.has(2, 2);
    const end = keepRanges(area, first, isThere ? Infinity : 2);
    if (isThere) area.keep(end, end + 2 * area.bytes.readUInt16LE(2));
  } else if (others[0] === "then as many bytes as the u64 at 8 says") {
    // "LogicalMessage keeps nothing, from 14 on, where the main data has fewer than 24 bytes."
    if (!area.has(0, 24)) return;
    const end = keepRanges(area, first);
    area.keep(end, end + Number(area.bytes.readBigUInt64LE(8)));
  } else {
    assert.deepEqual(others, []);
    keepRanges(area, first);
  }
}

function keepEnd(area: Area, info: number): void {
  area.keep(0, 8);
  if ((info & 0x80) === 0) return;
  const isCommit = (info & 0x70) !== 0x20 && (info & 0x70) !== 0x40;
  const xinfo = area.count(8);
  const has = (bit: number): boolean => (xinfo & (1 << bit)) !== 0;
  let at = 12;
  const fixed = (bytes: number): void => {
    area.keep(at, at + bytes);
    at += bytes;
  };
  const list = (itemBytes: number): void => {
    const bytes = area.count(at) * itemBytes;
    fixed(4 + bytes);
  };
  if (has(0)) fixed(8);
  if (has(1)) list(4);
  if (has(2)) list(12);
  if (has(8) && area.major >= 15) list(area.major >= 18 ? 16 : 12);
  if (has(3) && isCommit) at = area.messages(at + 4, area.count(at));
  if (has(4)) fixed(4);
  if (has(4) && has(7)) at = area.text(at);
  if (has(5)) fixed(16);
}

function keepPrepare(area: Area): void {
  const { bytes, major } = area;
  const [headerBytes, padding, messages] = major >= 15 ? [72, 53, 48] : [64, 45, 40];
  if (!area.has(0, headerBytes)) return;
  area.keep(12, 24);
  area.keep(28, padding);
  area.keep(padding + 1, headerBytes);
  let at = headerBytes;
  const list = (length: number): void => {
    area.keep(at, at + length);
    at += Math.ceil(length / 8) * 8;
  };
  list(bytes.readUInt16LE(padding + 1));
  list(4 * bytes.readUInt32LE(28));
  list(12 * bytes.readUInt32LE(32));
  list(12 * bytes.readUInt32LE(36));
  const stats = major >= 18 ? 16 : 12;
  if (major >= 15) for (const countAt of [40, 44]) list(stats * bytes.readUInt32LE(countAt));
  area.messages(at, bytes.readUInt32LE(messages));
}
