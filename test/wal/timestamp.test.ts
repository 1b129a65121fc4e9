/** Times and doubles as C prints them. Expected texts: the GNU C library's localtime and strftime, printf's %g and %f. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { civilDate, unixDay } from "../../src/wal/calendar.ts";
import { writeFixed, writeGeneral } from "../../src/wal/rmgr/floating-point.ts";
import { TextBuffer } from "../../src/wal/text-buffer.ts";
import { timeZoneOf, zoneSource } from "../../src/wal/time-zone.ts";
import { writeTimestamp } from "../../src/wal/timestamp.ts";
import { timestampText } from "./record-text-of.ts";

const noFile = (): undefined => undefined;
const at = (time: bigint, zone?: string): string =>
  timestampText(
    time,
    (out, bytes) => writeTimestamp(out, bytes, 0),
    zone === undefined ? undefined : timeZoneOf(zoneSource(zone, noFile)),
  );
/** 2026-11-20 09:57:02.047670 UTC in microseconds since 2000. */
const NOVEMBER = 848_483_822_047_670n;
const JULY = NOVEMBER - 130n * 86_400_000_000n;

test("a timestamp prints in UTC, with microseconds", () => {
  assert.equal(at(NOVEMBER), "2026-11-20 09:57:02.047670 UTC");
  assert.equal(at(0n), "2000-01-01 00:00:00.000000 UTC");
});

test("a timestamp before 2000 has C's negative remainder", () => {
  assert.equal(at(-1_000_500n), "1999-12-31 23:59:59.-00500 UTC");
});

test("timestamps at the ends of 64 bits print, too", () => {
  assert.equal(at(2n ** 63n - 1n), "294277-01-09 04:00:54.775807 UTC");
  assert.match(at(-(2n ** 63n)), /^-290278-\d\d-\d\d \d\d:\d\d:\d\d\.-775808 UTC$/);
});

test("a rule in TZ moves times and names the zone, in summer and winter, north and south", () => {
  const berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
  assert.equal(at(NOVEMBER, berlin), "2026-11-20 10:57:02.047670 CET");
  assert.equal(at(JULY, berlin), "2026-07-13 11:57:02.047670 CEST");
  const auckland = "NZST-12NZDT,M9.5.0,M4.1.0/3";
  assert.equal(at(NOVEMBER, auckland), "2026-11-20 22:57:02.047670 NZDT");
  assert.equal(at(JULY, auckland), "2026-07-13 21:57:02.047670 NZST");
  assert.equal(at(NOVEMBER, "<+03>-3"), "2026-11-20 12:57:02.047670 +03");
});

test("a TZ that says nothing is what the C library makes of it", () => {
  assert.equal(at(NOVEMBER, ""), "2026-11-20 09:57:02.047670 UTC");
  assert.equal(at(NOVEMBER, "Foo/Bar"), "2026-11-20 09:57:02.047670 Foo");
  assert.equal(at(NOVEMBER, "12"), "2026-11-20 09:57:02.047670 ");
});

test("a zone file is read: its changes, and its rule for what follows them", () => {
  const zone = timeZoneOf(zoneSource("Some/Where", () => zoneFile()));
  const type = (unixSeconds: number): string => {
    const { utcOffsetSeconds, abbreviation } = zone.at(unixSeconds);
    return `${utcOffsetSeconds} ${abbreviation}`;
  };
  assert.equal(type(999), "3600 OLD");
  assert.equal(type(1000), "7200 SUM");
  assert.equal(type(1_793_000_000), "10800 NEW");
  assert.equal(
    timeZoneOf(zoneSource("Some/Where", () => zoneFile().subarray(0, 90))).at(0).abbreviation,
    "Some",
  );
});

/** Version 2, with an empty part of version 1: two types, two changes, and a rule. */
function zoneFile(): Buffer {
  const header = (times: number, types: number, letters: number): Buffer => {
    const bytes = Buffer.alloc(44);
    bytes.write("TZif2");
    bytes.writeUInt32BE(times, 32);
    bytes.writeUInt32BE(types, 36);
    bytes.writeUInt32BE(letters, 40);
    return bytes;
  };
  const data = Buffer.alloc(2 * 8 + 2 + 2 * 6 + 8);
  data.writeBigInt64BE(1000n, 0);
  data.writeBigInt64BE(2000n, 8);
  data.writeUInt8(1, 16);
  data.writeUInt8(0, 17);
  data.writeInt32BE(3600, 18);
  data.writeInt32BE(7200, 24);
  data.writeUInt8(1, 28);
  data.writeUInt8(4, 29);
  data.write("OLD\0SUM\0", 30);
  return Buffer.concat([header(0, 0, 0), header(2, 2, 8), data, Buffer.from("\nNEW-3\n")]);
}

test("dates and days of four centuries are inverse to each other, as JavaScript's Date has them", () => {
  for (let day = -200_000; day < 200_000; day += 13) {
    const date = civilDate(day);
    assert.equal(unixDay(date), day);
    const expected = new Date(day * 86_400_000).toISOString().slice(0, 10);
    const two = (value: number): string => String(value).padStart(2, "0");
    assert.equal(`${date.year}-${two(date.month)}-${two(date.day)}`, expected);
  }
});

test("doubles print as %g and %f of C print them, ties to the even digit", () => {
  const printed = (write: (out: TextBuffer, value: number) => void, value: number): string => {
    const out = new TextBuffer();
    write(out, value);
    return out.bytes.toString("latin1", 0, out.length);
  };
  for (const [value, text] of [
    [0, "0"],
    [-0, "-0"],
    [1, "1"],
    [1200, "1200"],
    [123_456, "123456"],
    [1_234_565, "1.23456e+06"],
    [1_234_575, "1.23458e+06"],
    [1e300, "1e+300"],
    [0.0001, "0.0001"],
    [0.00001234, "1.234e-05"],
    [-2.5, "-2.5"],
    [Infinity, "Infinity"],
    [-Infinity, "-Infinity"],
    [NaN, "NaN"],
  ] as const) {
    assert.equal(printed(writeGeneral, value), text);
  }
  for (const [value, text] of [
    [-1, "-1.000000"],
    [1234.5, "1234.500000"],
    [0.0000005, "0.000000"],
    [0.00000762939453125, "0.000008"],
    [1e22, "10000000000000000000000.000000"],
  ] as const) {
    assert.equal(printed(writeFixed, value), text);
  }
});
