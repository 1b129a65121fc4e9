/** `tde waldump --format json`: its fields are those of docs/WALDUMP.md, and the same everywhere. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeRecord } from "../../src/wal/decode-record.ts";
import { RecordJson } from "../../src/wal/record-json.ts";
import { createWalRecord } from "../../src/wal/record.ts";
import { TextBuffer } from "../../src/wal/text-buffer.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { fixturePath } from "../support/fixtures.ts";
import { runTde } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { unpackSmallSet } from "../support/waldump-cases.ts";
import { recordOf } from "../wal/record-text-of.ts";

const SEGMENT = "00000002000000030000000B";
type Json = Record<string, unknown>;

/** Names in the first column of the document's tables, table by table. */
function documentedFields(): string[][] {
  const text = readFileSync(join(fixturePath(""), "../docs/WALDUMP.md"), "utf8");
  return text
    .split("\n\n")
    .map((table) => [...table.matchAll(/^\| `(\w+)` /gm)].map(([, name = ""]) => name))
    .filter((names) => names.length > 0);
}

test("an object has the documented fields in their order, and so has each of its blocks", (t) => {
  const [recordFields, blockFields] = documentedFields();
  const { folder } = unpackSmallSet(17, temporaryDirectory(t));
  const args = ["waldump", "--format=json", join(folder, "tl2", SEGMENT)];
  const records = runTde(args)
    .stdout.trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Json);
  for (const record of records) {
    assert.deepEqual(Object.keys(record), recordFields);
    for (const block of record["blocks"] as Json[]) {
      assert.deepEqual(Object.keys(block), blockFields);
      const image = block["image"] as Json | null;
      if (image === null) continue;
      const names = ["apply", "bytes", "holeOffset", "holeBytes", "compression"];
      assert.deepEqual(Object.keys(image), names);
    }
  }
  assert.ok(JSON.stringify(records).includes('"compression":"pglz"'));
});

test("times are in UTC whatever the time zone, which only the text follows", (t) => {
  const { folder } = unpackSmallSet(13, temporaryDirectory(t));
  const args = ["waldump", "-r", "Transaction", join(folder, "tl2", SEGMENT)];
  const inZone = (TZ: string, ...more: string[]): string =>
    runTde([...args, ...more], { env: { TZ } }).stdout;
  assert.match(inZone("EST5"), /COMMIT .* EST\n/);
  const json = inZone("EST5", "--format=json");
  assert.match(json, /"type":"COMMIT",.*"description":"2026-[-: .\d]+ UTC"/);
  assert.equal(json, inZone("UTC", "--format=json"));
});

test("unknown types, resource managers of extensions, short records and bytes that are no text", () => {
  const of = (rmid: number, info: number, main: string): Json => {
    const format = walFormatOf(17);
    const record = createWalRecord();
    record.bytes = recordOf(rmid, info, main);
    record.totalLength = record.bytes.length;
    Object.assign(record, { rmid, info });
    const { buffer, byteOffset, length } = record.bytes;
    assert.equal(decodeRecord(record, new DataView(buffer, byteOffset, length), format), undefined);
    const out = new TextBuffer(format.lsnLowDigits);
    new RecordJson(format).write(out, record);
    return JSON.parse(out.bytes.toString("utf8", 0, out.length)) as Json;
  };
  const some = ({ rmgr, type, info, description }: Json): unknown[] => [
    rmgr,
    type,
    info,
    description,
  ];
  assert.deepEqual(some(of(200, 0x31, "00")), ["custom200", null, 0x30, "rmid: 200"]);
  assert.deepEqual(some(of(5, 0x70, "")), ["Tablespace", null, 0x70, ""]);
  assert.deepEqual(some(of(0, 0x30, "0102")), ["XLOG", "NEXTOID", 0x30, "<record too short>"]);
  assert.deepEqual(some(of(0, 0x70, `${"00".repeat(8)} 61ff2200`)), [
    "XLOG",
    "RESTORE_POINT",
    0x70,
    'a\ufffd"',
  ]);
});
