/**
 * Which bytes of a record stay readable: the text of real records must not change when all others do, and the changed
 * record must be taken apart as the real one. Cases that no server at hand has written stand below.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Major, SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import { decodeRecord } from "../../src/wal/decode-record.ts";
import { createWalRecord, type WalRecord } from "../../src/wal/record.ts";
import { WAL_PAGE_BYTES } from "../../src/wal/page-header.ts";
import { PartScan } from "../../src/wal/structure/part-scan.ts";
import { readableParts, rowOf } from "../../src/wal/structure/readable-parts.ts";
import { RecordParts } from "../../src/wal/structure/record-parts.ts";
import type { CompiledRule } from "../../src/wal/structure/rows.ts";
import { type WalFormat, walFormatOf } from "../../src/wal/wal-format.ts";
import { GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
import { takeApart } from "../support/plain-records.ts";
import { secretsByTheBook } from "../support/readable-by-the-book.ts";
import { recordOf, textOf } from "./record-text-of.ts";

function decoded(bytes: Buffer, format: WalFormat): WalRecord {
  const record = createWalRecord();
  record.bytes = bytes;
  record.totalLength = bytes.length;
  record.info = bytes.readUInt8(16);
  record.rmid = bytes.readUInt8(17);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assert.equal(decodeRecord(record, view, format), undefined);
  return record;
}

/** Boundaries, alternately the end of structure and of a secret; those of the padding behind the record cut off. */
function partsOf(bytes: Buffer, format: WalFormat): number[] {
  const parts = new RecordParts();
  readableParts(decoded(bytes, format), format, parts);
  return [...parts.bounds.subarray(0, parts.count)].map((bound) => Math.min(bound, bytes.length));
}

/** The record with every byte of its secrets another one. @param seed - 1 to 255, of the difference. */
function withOtherSecrets(bytes: Buffer, bounds: readonly number[], seed: number): Buffer {
  const other = Buffer.from(bytes);
  for (let i = 0; i + 1 < bounds.length; i += 2) {
    for (let at = bounds[i] ?? 0; at < (bounds[i + 1] ?? 0); at++) {
      other[at] = (bytes[at] ?? 0) ^ (1 + ((at * 7 + seed * 31) % 255));
    }
  }
  return other;
}

/** A message of pg_logical_emit_message is content: from 14 on its bytes are printed, and so differ. */
function withoutPayload(text: string): string {
  return text.replace(/( payload \(\d+ bytes\): ).*$/s, "$1");
}

function assertReadable(bytes: Buffer, text: string, format: WalFormat): void {
  const bounds = partsOf(bytes, format);
  for (const seed of [1, 2, 3]) {
    const other = withOtherSecrets(bytes, bounds, seed);
    assert.equal(withoutPayload(textOf(other, format)), withoutPayload(text));
    assert.deepEqual(partsOf(other, format), bounds);
  }
}

for (const major of GOLDEN_MAJORS) {
  test(`records of ${major} print the same whatever their secrets are`, () => {
    const format = walFormatOf(major);
    for (const { bytes, text } of goldenRecords(major)) assertReadable(bytes, text, format);
  });
}

test("records read as those of 14, which no tool at hand prints, show the same whatever their secrets are", () => {
  const format = walFormatOf(14);
  const images = 0x10;
  for (const major of [13, 15] as const) {
    for (const { bytes } of goldenRecords(major)) {
      // The bits of an image's header are 13's.
      const record = decoded(bytes, walFormatOf(major));
      if (major === 15 && record.blocks.some(({ flags }) => (flags & images) !== 0)) continue;
      assertReadable(bytes, textOf(bytes, format), format);
    }
  }
});

/** Whether the table has more than ranges for what a record holds. */
function hasRule(record: WalRecord, { major }: WalFormat): boolean {
  const { main, data0 } = rowOf(major, record.rmid, record.info) ?? {};
  const [block] = record.blocks;
  const holdsData = record.maxBlockId >= 0 && block?.present === true && block.hasData;
  const isRule = (rule: CompiledRule | undefined): boolean =>
    rule !== undefined && rule.ranges === undefined;
  return (record.mainLength > 0 && isRule(main)) || (holdsData && isRule(data0));
}

for (const major of GOLDEN_MAJORS) {
  test(`runs of records of ${major} are taken apart as each of them is`, () => {
    const format = walFormatOf(major);
    const scan = new PartScan(format);
    let taken = 0;
    for (const { bytes } of goldenRecords(major)) {
      const end = Math.ceil(bytes.length / 8) * 8;
      if (end > WAL_PAGE_BYTES) continue;
      scan.window.set(bytes);
      const next = scan.takeStoredRun(0, end);
      assert.equal(next, hasRule(decoded(bytes, format), format) ? 0 : end);
      if (next === 0) continue;
      const parts = new RecordParts();
      readableParts(decoded(bytes, format), format, parts);
      assert.deepEqual([...scan.records], [0]);
      const secrets = parts.bounds.subarray(0, parts.count - (parts.count % 2));
      assert.deepEqual([...scan.secrets], [...secrets]);
      taken++;
    }
    assert.ok(taken > 100, `${taken}`);
  });
}

/** The readable bytes of a record's main data, the others as dots. */
function readableMain(rmid: number, info: number, main: string, major: Major): string {
  const bytes = recordOf(rmid, info, main);
  const bounds = partsOf(bytes, walFormatOf(major));
  const start = bytes.length - Buffer.from(main.replaceAll(" ", ""), "hex").length;
  return [...bytes.subarray(start)]
    .map((byte, i) => {
      const region = bounds.findIndex((bound) => start + i < bound);
      return region % 2 === 0 ? byte.toString(16).padStart(2, "0") : "..";
    })
    .join("");
}

test("what no row names is secret: unknown info values, resource managers of extensions, what 19 no longer has", () => {
  const main = "0102030405060708";
  const secret = ".".repeat(main.length);
  assert.equal(readableMain(10, 0x70, main, 17), `0102${".".repeat(12)}`);
  assert.equal(readableMain(2, 0x70, main, 17), secret);
  assert.equal(readableMain(200, 0x00, main, 17), secret);
  assert.equal(readableMain(20, 0x00, main, 17), secret);
  assert.equal(readableMain(9, 0x40, main, 18), `0102030405${".".repeat(6)}`);
  assert.equal(readableMain(9, 0x40, main, 19), secret);
});

test("an undefined info value of a heap record keeps what the one without its highest bit keeps", () => {
  assert.equal(readableMain(10, 0x90, "0700000002001000aabb", 17), "0700000002001000....");
});

test("of an invalidation message stay its id and the OID that is printed, by the kind of message", () => {
  const message = (id: string, major: Major): string =>
    readableMain(1, 0x60, `01000000 ${id}111111 22222222 33333333 44444444`, major).slice(8);
  assert.equal(message("07", 17), "07..............................");
  assert.equal(message("ff", 17), "ff..............33333333........");
  assert.equal(message("fe", 17), "fe..............33333333........");
  assert.equal(message("fd", 17), "fd..............................");
  assert.equal(message("fc", 17), "fc......22222222................");
  assert.equal(message("fb", 17), "fb..............33333333........");
  assert.equal(message("fa", 17), "fa..............................");
  assert.equal(message("fa", 18), "fa..............33333333........");
});

test("a count or a length that the record has no room for keeps nothing beyond the record", () => {
  for (const [rmid, info, main] of [
    [1, 0x80, `${"00".repeat(8)} 02000000 ffffff7f 01000000`],
    [1, 0x10, "ff".repeat(80)],
    [1, 0x60, "ffffffff 07"],
    [8, 0x20, `${"00".repeat(12)} ffffffff 07000000`],
    [10, 0x70, `${"00".repeat(16)} ffffffff 07`],
    [21, 0x00, `${"00".repeat(8)} ffffffffffffffff 0000000000000000 61`],
    [0, 0x70, `${"00".repeat(8)} 616263`],
    [9, 0x50, "00000900 0100"],
  ] as const) {
    for (const major of [13, 15, 17, 19] as const) {
      const bytes = recordOf(rmid, info, main);
      const parts = new RecordParts();
      readableParts(decoded(bytes, walFormatOf(major)), walFormatOf(major), parts);
      const bounds = [...parts.bounds.subarray(0, parts.count)];
      assert.ok(bounds.every((bound, i) => bound >= (bounds[i - 1] ?? 0)));
      assert.equal(bounds.at(-1), Math.ceil(bytes.length / 8) * 8);
    }
  }
});

/** For each byte of a record, and of the padding behind it, 1 where it is secret. */
function secretsOf(bytes: Buffer, major: Major): Uint8Array {
  const parts = new RecordParts();
  readableParts(decoded(bytes, walFormatOf(major)), walFormatOf(major), parts);
  const secret = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
  for (let i = 0; i + 1 < parts.count; i += 2) secret.fill(1, parts.bounds[i], parts.bounds[i + 1]);
  return secret;
}

function assertAsByTheBook(bytes: Buffer, major: Major, what: string): void {
  const places = new Int32Array(Math.ceil(bytes.length / 8) * 8);
  const book = secretsByTheBook(takeApart(bytes, places, major), major);
  assert.equal(Buffer.from(secretsOf(bytes, major)).compare(book), 0, what);
}

test("what stays readable of each type of record is what the table in FORMAT.md says", () => {
  for (const major of SUPPORTED_MAJORS) {
    for (let rmid = 0; rmid < 256; rmid++) {
      for (let info = 0; info < 256; info += 16) {
        const what = `${rmid} ${info.toString(16)} of ${major}`;
        assertAsByTheBook(recordOf(rmid, info, "01".repeat(120)), major, what);
      }
    }
  }
});

for (const major of GOLDEN_MAJORS) {
  test(`of records of ${major} stays readable what the table in FORMAT.md says, its words included`, () => {
    const types = new Set<string>();
    for (const { bytes, text } of goldenRecords(major)) {
      assertAsByTheBook(bytes, major, text);
      types.add(bytes.toString("hex", 16, 18));
    }
    assert.ok(types.size > 80, `${types.size}`);
  });
}

test("where the main data ends before a number that says how long something is, the words of the table hold", () => {
  const time = "0102030405060708";
  const message = (id: string): string => `${id}222222 33333333 44444444 55555555`;
  for (const [rmid, info, main] of [
    [1, 0x80, `${time} ff010000 ${"11".repeat(8)} 01000000 22222222 01000000 ${"33".repeat(12)}`],
    [1, 0x80, `${time} 08000000 02000000 ${message("fe")} ${message("fc")}`],
    [1, 0x80, `${time} b0000000 22222222 616200 ${"33".repeat(16)}`],
    [1, 0xb0, `${time} 02000000 02000000 22222222 33333333`],
    [1, 0xa0, `${time} 0e010000 01000000 22222222 01000000 ${"33".repeat(12)} 01000000 ${time}`],
    [1, 0x10, `${"00".repeat(28)} 01000000 01000000 01000000 ${"01000000".repeat(24)}`],
    [1, 0x60, `02000000 ${message("ff")} ${message("fb")}`],
    [8, 0x20, `${"11".repeat(12)} 02000000 ${message("fa")} ${message("fe")}`],
    [9, 0x50, "01110200 01000200 03000400"],
    [10, 0x70, `${"11".repeat(16)} 02000000 ${message("fe")} ${message("fc")}`],
    [13, 0x20, "0300 11111111 22222222 33"],
    [13, 0x20, "0000 11111111 22222222 33"],
    [21, 0x00, `11111111 01111111 0300000000000000 0400000000000000 616200 41424344`],
    [0, 0x70, `${time} 616200 61`],
    [5, 0x00, "11111111 2f746d7000 61"],
  ] as const) {
    const { length } = Buffer.from(main.replaceAll(" ", ""), "hex");
    for (const major of SUPPORTED_MAJORS) {
      for (let cut = 0; cut <= length; cut++) {
        const short = main.replaceAll(" ", "").slice(0, 2 * cut);
        const what = `${rmid} ${info.toString(16)} of ${major}, ${cut} bytes`;
        assertAsByTheBook(recordOf(rmid, info, short), major, what);
      }
    }
  }
});
