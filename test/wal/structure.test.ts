/**
 * Which bytes of a record stay readable: the text of real records must not change when all others do, and the changed
 * record must be taken apart as the real one. Cases that no server at hand has written stand below.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Major } from "../../src/postgres/version.ts";
import { decodeRecord } from "../../src/wal/decode-record.ts";
import { createWalRecord, type WalRecord } from "../../src/wal/record.ts";
import { WAL_PAGE_BYTES } from "../../src/wal/page-header.ts";
import { PartScan } from "../../src/wal/structure/part-scan.ts";
import { readableParts, rowOf } from "../../src/wal/structure/readable-parts.ts";
import { RecordParts } from "../../src/wal/structure/record-parts.ts";
import type { CompiledRule } from "../../src/wal/structure/rows.ts";
import { type WalFormat, walFormatOf } from "../../src/wal/wal-format.ts";
import { tablesOf } from "../support/format-document.ts";
import { GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
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

/** Rows of the table in docs/FORMAT.md that are ranges, and no words. */
function documentedRows(): {
  rmid: number;
  info: number;
  since: number;
  main: string;
  data0: string;
}[] {
  return (tablesOf("### Table of readable bytes")[0] ?? []).map(
    ([rmgr = "", info = "", since = "", main = "", data0 = ""]) => ({
      rmid: Number.parseInt(rmgr, 10),
      info: Number.parseInt(info, 16),
      since: Number(since),
      main,
      data0,
    }),
  );
}

const LENGTH = 120;

/** Ranges as dots and ones. */
function drawn(ranges: string): string {
  const bytes = Array.from({ length: LENGTH }, () => "..");
  if (ranges === "all") return "01".repeat(LENGTH);
  if (ranges === "–" || ranges === "nothing") return bytes.join("");
  for (const range of ranges.split(" ")) {
    const [from = "", to = ""] = range.split("-");
    bytes.fill("01", Number(from), to === "" ? LENGTH : Number(to));
  }
  return bytes.join("");
}

test("what stays readable of each type of record is what the table in FORMAT.md says", () => {
  const rows = documentedRows();
  assert.ok(rows.length > 150);
  const isRanges = (text: string): boolean => /^(all|nothing|–|[\d -]+)$/.test(text);
  let compared = 0;
  for (const major of [13, 14, 15, 16, 17, 18, 19] as const) {
    for (let rmid = 0; rmid <= 21; rmid++) {
      for (let info = 0; info < 256; info += 16) {
        const own = rows.filter((row) => row.rmid === rmid && row.info === info);
        const since = own.findLast((row) => row.since <= major);
        const masked = [1, 9, 10, 17].includes(rmid) && since === undefined;
        if (masked || (since !== undefined && !isRanges(since.main))) continue;
        const name = `${rmid} ${info.toString(16)} of ${major}`;
        assert.equal(
          readableMain(rmid, info, "01".repeat(LENGTH), major),
          drawn(since?.main ?? "nothing"),
          name,
        );
        compared++;
      }
    }
  }
  assert.ok(compared > 2000);
});
