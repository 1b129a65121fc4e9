import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { FormatError } from "../../src/errors.ts";
import {
  CONTROL_CONTENT_BYTES,
  CONTROL_FILE_BYTES,
  type ControlFile,
  parseControlFile,
  sameButForChecksums,
} from "../../src/postgres/control-file.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { formatLsn } from "../../src/postgres/lsn.ts";
import { factsOf, type Major, SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import { readFixture } from "../support/fixtures.ts";
import { assertProperty } from "../support/property.ts";

/** Those of 32-bit x86 align 64-bit fields to 4 bytes. */
const FOLDERS = [...SUPPORTED_MAJORS.map(String), "15-i386", "17-i386", "18-i386"];

for (const folder of FOLDERS) {
  const major = majorOf(folder);
  test(`every field of a control file of ${folder} is what pg_controldata prints`, () => {
    const printed = new Map(
      readFixture(`control/${folder}/pg_controldata.txt`)
        .toString()
        .split("\n")
        .map((line) => /^([^:]+):\s*(.*)$/.exec(line))
        .map((match) => [match?.[1], match?.[2]] as const),
    );
    const control = parseControlFile(controlFile(folder));
    const isPacked = folder.endsWith("i386");
    const word = {
      "Maximum data alignment": isPacked ? "4" : "8",
      "Float8 argument passing": isPacked ? "by reference" : "by value",
    };
    const expected = Object.entries({ ...asPrinted(control, major), ...word });
    for (const [label, value] of expected) assert.equal(value, printed.get(label), label);
    assert.equal(expected.length, 26);
    assert.equal(control.is64Bit, !isPacked);
    assert.deepEqual(
      control.majors.filter((other) => other === major),
      [major],
    );
  });

  test(`any flipped bit in a control file of ${folder} is noticed`, () => {
    assertProperty(
      fc.property(fc.nat(8 * contentBytes(folder) - 1), (bit) => {
        const damaged = controlFile(folder);
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.throws(() => parseControlFile(damaged), FormatError);
      }),
    );
  });
}

test("a control file of any length or content gives a value or a format error", () => {
  const whole = controlFile(17);
  for (let length = 0; length < CONTROL_CONTENT_BYTES; length++) {
    assert.throws(() => parseControlFile(whole.subarray(0, length)), FormatError);
  }
  assert.equal(parseControlFile(whole.subarray(0, CONTROL_CONTENT_BYTES)).state, "shut down");
  assertProperty(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      assert.throws(() => parseControlFile(Buffer.from(bytes)), FormatError);
    }),
  );
});

test("values that no server writes are rejected although the CRC holds", () => {
  const u32 = (offset: number, value: number) => (bytes: Buffer) =>
    bytes.writeUInt32LE(value, offset);
  const cases: readonly (readonly [RegExp, (bytes: Buffer) => unknown])[] = [
    [/impossible cluster state: 7/, u32(16, 7)],
    [/impossible block size: 0/, u32(216, 0)],
    [/impossible block size: 512/, u32(216, 512)],
    [/impossible block size: 12288/, u32(216, 12288)],
    [/impossible block size: 65536/, u32(216, 65536)],
    [/impossible blocks per segment: 0/, u32(220, 0)],
    [/impossible WAL block size: 0/, u32(224, 0)],
    [/impossible WAL segment size: 1048577/, u32(228, 1048577)],
    [/unknown data checksum version 2/, u32(252, 2)],
    [/impossible maximum alignment: 4/, u32(204, 4)],
    [/impossible float8 argument passing: 2/, (bytes) => bytes.writeUInt8(2, 248)],
    [/unknown floating-point format/, (bytes) => bytes.writeDoubleLE(7, 208)],
    [/unknown pg_control version 1201/, u32(8, 1201)],
    [/unknown pg_control version 1906/, u32(8, 1906)],
  ];
  for (const [message, change] of cases) {
    const bytes = controlFile(17);
    change(bytes);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
    assert.throws(() => parseControlFile(bytes, "global/pg_control"), {
      name: "FormatError",
      message,
    });
  }
});

test("a control file of a big-endian machine is called so", () => {
  const bytes = controlFile(17);
  bytes.subarray(8, 12).reverse();
  assert.throws(() => parseControlFile(bytes), /big-endian \(pg_control version 1700\)/);
});

test("a control file of a 32-bit build whose 64-bit fields are aligned to 8 bytes is one of no 64-bit server", () => {
  const control = parseControlFile(readFixture("control/18-wasm32/pg_control"));
  assert.deepEqual(control.majors, [18]);
  assert.equal(control.is64Bit, false);
  assert.equal(control.state, "shut down");
  assert.equal(control.blockSizeBytes, 8192);
  assert.equal(control.walSegmentSizeBytes, 2 ** 24);
  assert.equal(control.dataChecksumVersion, 1);
});

test("of 19 no control file is read whose 64-bit fields are aligned to 4 bytes", () => {
  const bytes = Buffer.alloc(CONTROL_FILE_BYTES);
  controlFile(19).copy(bytes, 0, 0, 20);
  bytes.writeUInt32LE(4, 192);
  bytes.writeDoubleLE(1234567, 196);
  assert.throws(() => parseControlFile(bytes), /64-bit fields are aligned to 4 bytes .*1905/);
});

test("what pg_checksums --disable changes is told from other changes", () => {
  for (const major of [13, 19] as const) {
    const before = content(controlFile(major));
    const after = content(readFixture(`control/${major}/pg_control.checksums-disabled`));
    assert.equal(parseControlFile(after).dataChecksumVersion, 0);
    assert.ok(!before.equals(after));
    assert.ok(sameButForChecksums(before, after));
    assert.ok(sameButForChecksums(before, before));
    assert.ok(!sameButForChecksums(before, after.subarray(0, 500)));
    const otherCheckpoint = Buffer.from(after);
    otherCheckpoint[32] = (otherCheckpoint[32] ?? 0) ^ 1;
    assert.ok(!sameButForChecksums(before, otherCheckpoint));
    const behindContent = Buffer.from(after);
    behindContent[500] = 1;
    assert.ok(!sameButForChecksums(before, behindContent));
  }
  const packed = content(controlFile("17-i386"));
  const disabled = Buffer.from(packed);
  disabled.writeUInt32LE(0, 236);
  assert.ok(sameButForChecksums(packed, disabled));
  disabled.writeUInt8(1, 252);
  assert.ok(!sameButForChecksums(packed, disabled));
  assert.ok(!sameButForChecksums(content(controlFile(13)), content(controlFile(14))));
  assert.ok(!sameButForChecksums(Buffer.alloc(512), Buffer.alloc(512)));
});

function majorOf(folder: string): Major {
  const major = SUPPORTED_MAJORS.find((one) => one === Number.parseInt(folder, 10));
  assert.ok(major !== undefined);
  return major;
}

/** @param folder - a major, or one with the architecture of a 32-bit build. */
function controlFile(folder: Major | string): Buffer {
  return readFixture(`control/${folder}/pg_control`);
}

function content(bytes: Buffer): Buffer {
  return bytes.subarray(0, CONTROL_CONTENT_BYTES);
}

/** Where the CRC ends; what follows is zero and no field. */
function contentBytes(folder: string): number {
  const packed: Readonly<Record<string, number>> = {
    "15-i386": 272,
    "17-i386": 276,
    "18-i386": 280,
  };
  const ends: Readonly<Record<number, number>> = { 1300: 292, 1700: 292, 1800: 296, 1905: 312 };
  return packed[folder] ?? ends[factsOf(majorOf(folder)).pgControlVersion] ?? 0;
}

function asPrinted(control: ControlFile, major: Major): Record<string, string> {
  const digits = factsOf(major).lsnLowDigits;
  const { checkpoint } = control;
  return {
    "pg_control version number": String(control.pgControlVersion),
    "Catalog version number": String(control.catalogVersion),
    "Database system identifier": String(control.systemIdentifier),
    "Database cluster state": control.state,
    "pg_control last modified": formatTime(control.modifyTime),
    "Latest checkpoint location": formatLsn(checkpoint.location, digits),
    "Latest checkpoint's REDO location": formatLsn(checkpoint.redo, digits),
    "Latest checkpoint's TimeLineID": String(checkpoint.timeline),
    "Latest checkpoint's PrevTimeLineID": String(checkpoint.prevTimeline),
    "Latest checkpoint's NextXID": `${checkpoint.nextXidEpoch}:${checkpoint.nextXid}`,
    "Latest checkpoint's NextOID": String(checkpoint.nextOid),
    "Latest checkpoint's NextMultiXactId": String(checkpoint.nextMulti),
    "Latest checkpoint's NextMultiOffset": String(checkpoint.nextMultiOffset),
    "Time of latest checkpoint": formatTime(checkpoint.time),
    "Minimum recovery ending location": formatLsn(control.minRecoveryPoint, digits),
    "Min recovery ending loc's timeline": String(control.minRecoveryTimeline),
    "Backup start location": formatLsn(control.backupStartPoint, digits),
    "Backup end location": formatLsn(control.backupEndPoint, digits),
    "End-of-backup record required": control.backupEndRequired ? "yes" : "no",
    "Database block size": String(control.blockSizeBytes),
    "Blocks per segment of large relation": String(control.blocksPerSegment),
    "WAL block size": String(control.walBlockSizeBytes),
    "Bytes per WAL segment": String(control.walSegmentSizeBytes),
    "Data page checksum version": String(control.dataChecksumVersion),
  };
}

/** As strftime's %c in the C locale. */
function formatTime(seconds: bigint): string {
  const [day, date, month, year, time] = new Date(Number(seconds) * 1000).toUTCString().split(" ");
  return `${day?.replace(",", "")} ${month} ${date?.replace(/^0/, " ")} ${time} ${year}`;
}
