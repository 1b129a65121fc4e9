/**
 * Which bytes of a record the real pg_waldump reads, as fixtures/wal-structure has measured it: a reference for what
 * may stay readable, apart from the product's own table.
 */
import assert from "node:assert/strict";
import { computeFormula } from "./c-formula.ts";
import { readFixture } from "./fixtures.ts";
import type { PlainRecord, Range } from "./plain-records.ts";

interface Entry {
  readonly majors: readonly number[];
  readonly rmgr: number;
  /** In hexadecimal, or "any". */
  readonly info: readonly string[] | "any";
  readonly name: string;
  /** A number of bytes, or a formula. */
  readonly mainPrefix: string | number;
  readonly unreadInPrefix: readonly Range[];
  readonly blockData: Readonly<Record<string, string>>;
  readonly blockDataRead?: readonly Range[];
  /** "see commitLayout", or where they stand. */
  readonly invalidationMessages?: string | { readonly count: string; readonly at: string | number };
}

const { entries } = JSON.parse(readFixture("wal-structure/readable.json").toString()) as {
  readonly entries: readonly Entry[];
};

/** The entry of a type of record; undefined where nothing of it is read. */
export function measuredEntry(major: number, rmid: number, info: number): Entry | undefined {
  const find = (value: number): Entry | undefined =>
    entries.find(
      (entry) =>
        entry.rmgr === rmid &&
        entry.majors.includes(major) &&
        (entry.info === "any" || entry.info.some((one) => Number(one) === value)),
    );
  const own = find(info);
  return own === undefined && [1, 9, 10, 17].includes(rmid) ? find(info & 0x70) : own;
}

/** Names of the types of a major that are in the table. */
export function measuredTypes(major: number): string[] {
  return entries.filter(({ majors }) => majors.includes(major)).map(({ name }) => name);
}

/** For each byte of a record's content 1 where it must be secret; 0 for headers and for what is read. */
export function secretBytes(record: PlainRecord, major: number): Uint8Array {
  const { bytes, images, data, main } = record;
  const secret = new Uint8Array(record.places.length);
  for (const [start, end] of [...images.values(), ...data.values(), main])
    secret.fill(1, start, end);
  // The padding that aligns it.
  secret.fill(1, bytes.length);
  const entry = measuredEntry(major, record.rmid, record.info);
  if (entry === undefined) return secret;
  const evaluate = evaluator(record);
  for (const [id, range] of data) {
    const rule = entry.blockData[String(id)];
    if (rule === undefined) continue;
    const [start, end] = range;
    const read = entry.blockDataRead ?? [[0, rule === "structure" ? end - start : evaluate(rule)]];
    for (const [from, to] of read) secret.fill(0, start + from, Math.min(start + to, end));
  }
  const [start, end] = main;
  secret.fill(0, start, Math.min(start + evaluate(entry.mainPrefix), end));
  for (const [from, to] of entry.unreadInPrefix) {
    secret.fill(1, Math.min(start + from, end), Math.min(start + to, end));
  }
  const messages = entry.invalidationMessages;
  if (messages === "see commitLayout") hideCommitMessages(secret, record, major);
  else if (typeof messages === "object") {
    const [at, count] = [start + evaluate(messages.at), evaluate(messages.count)];
    hideMessages(secret, record, { at, count, major });
  }
  return secret;
}

type Evaluate = (formula: string | number) => number;

function evaluator({ bytes, images, data, main: [start, end] }: PlainRecord): Evaluate {
  const main = bytes.subarray(start, end);
  const functions = {
    u16: (at: number) => main.readUInt16LE(at),
    u32: (at: number) => main.readUInt32LE(at),
    cstr: (at: number) => main.indexOf(0, at) - at,
    al: (value: number) => Math.ceil(value / 8) * 8,
    img: (id: number) => (images.has(id) ? 1 : 0),
    dl: (id: number) => {
      const [from, to] = data.get(id) ?? [0, 0];
      return to - from;
    },
  };
  const terms = { values: { len: main.length }, functions };
  return (formula) => (typeof formula === "number" ? formula : computeFormula(formula, terms));
}

/** What is read of an invalidation message beside its id, by this: that of catalogs is -1, of relations -2 ... */
function readOfMessage(id: number, major: number): Range | undefined {
  if ([-1, -2, -5].includes(id) || (id === -6 && major >= 18)) return [8, 12];
  return id === -4 ? [4, 8] : undefined;
}

/** @param at - in the record's bytes. */
function hideMessages(
  secret: Uint8Array,
  { bytes, main }: PlainRecord,
  { at, count, major }: { readonly at: number; readonly count: number; readonly major: number },
): void {
  assert.ok(at + 16 * count <= main[1]);
  for (let message = at; message < at + 16 * count; message += 16) {
    secret.fill(1, message + 1, message + 16);
    const [from, to] = readOfMessage(bytes.readInt8(message), major) ?? [0, 0];
    secret.fill(0, message + from, message + to);
  }
}

/** xl_xact_commit and what follows it, by the bits of xinfo: access/xact.h. */
function hideCommitMessages(secret: Uint8Array, record: PlainRecord, major: number): void {
  const { bytes, main } = record;
  if ((record.info & 0x80) === 0) return;
  const xinfo = bytes.readUInt32LE(main[0] + 8);
  let at = main[0] + 12;
  const skipArray = (itemBytes: number): void => {
    at += 4 + itemBytes * bytes.readUInt32LE(at);
  };
  if ((xinfo & 1) !== 0) at += 8;
  if ((xinfo & 2) !== 0) skipArray(4);
  if ((xinfo & 4) !== 0) skipArray(12);
  if ((xinfo & 256) !== 0 && major >= 15) skipArray(major >= 18 ? 16 : 12);
  if ((xinfo & 8) === 0) return;
  hideMessages(secret, record, { at: at + 4, count: bytes.readUInt32LE(at), major });
}
