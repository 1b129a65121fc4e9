/**
 * That nothing of a record stays as it was but what the real pg_waldump was measured to read: byte by byte, for each
 * type of record that servers of six majors wrote.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
import { measuredEntry, measuredTypes, secretBytes } from "../support/measured-structure.ts";
import { plainRecords, type PlainRecord } from "../support/plain-records.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { encryptedCopies, type NamedSegment } from "../support/wal-on-disk.ts";
import { writeWal } from "../support/wal-writer.ts";
import { unpackSmallSet, unpackWholeSet } from "../support/waldump-cases.ts";

/** A secret byte keeps its value once in 256 times by chance: in none of so many encryptions of less than 2^32. */
const TIMES = 5;

/** Secret bytes, and names of types in the measured table that had a record. */
interface Checked {
  readonly names: Set<string>;
  secretBytes: number;
}

/**
 * @param run - segments of one timeline that follow each other.
 * @returns how many records it holds.
 */
async function assertSecretsAreHidden(
  run: readonly NamedSegment[],
  major: number,
  checked: Checked,
): Promise<number> {
  const plain = Buffer.concat(run.map(({ bytes }) => bytes));
  const records = plainRecords(plain, major, run[0]?.bytes.length ?? 0);
  assert.ok(records.length > 0, run[0]?.name);
  const isSame = new Uint8Array(plain.length).fill(1);
  for (let i = 0; i < TIMES; i++) {
    const stored = Buffer.concat((await encryptedCopies(run)).map((copy) => copy.stored));
    for (let at = 0; at < plain.length; at++) if (stored[at] !== plain[at]) isSame[at] = 0;
  }
  for (const record of records) {
    checked.secretBytes += assertIsHidden(record, major, isSame);
    const name = measuredEntry(major, record.rmid, record.info)?.name;
    if (name !== undefined) checked.names.add(name);
  }
  return records.length;
}

/** Of the record's header; what follows is the header's, too. */
const CRC_START = 20;

/** @returns how many bytes of it are secret. */
function assertIsHidden(record: PlainRecord, major: number, isSame: Uint8Array): number {
  const secret = secretBytes(record, major);
  let count = 0;
  for (const [i, place] of record.places.entries()) {
    if (secret[i] === 1) {
      count++;
      if (isSame[place] === 0) continue;
    } else if (i >= CRC_START || isSame[place] === 1) continue;
    const what = `${record.rmid}/${record.info.toString(16)} at ${place - i}`;
    assert.fail(
      secret[i] === 1
        ? `byte ${i} of record ${what} is not encrypted`
        : `byte ${i} of record ${what}, of its header, is not as it was`,
    );
  }
  return count;
}

const SEGMENT = 2 ** 20;
const FIRST_SEGMENT = 5;

/** A switch of segments ends one. */
function isSwitch(record: Buffer): boolean {
  return record.readUInt8(17) === 0 && record.readUInt8(16) === 0x40;
}

async function checkGoldenRecords(
  major: (typeof GOLDEN_MAJORS)[number],
  checked: Checked,
): Promise<void> {
  const records = goldenRecords(major).flatMap(({ bytes }) => (isSwitch(bytes) ? [] : bytes));
  const { bytes } = writeWal(records, {
    format: walFormatOf(major),
    segmentBytes: SEGMENT,
    start: BigInt(FIRST_SEGMENT * SEGMENT),
  });
  const run = Array.from({ length: Math.ceil(bytes.length / SEGMENT) }, (_, i) => {
    const segment = Buffer.alloc(SEGMENT);
    bytes.copy(segment, 0, i * SEGMENT);
    const number = (FIRST_SEGMENT + i).toString(16).toUpperCase().padStart(16, "0");
    return { name: `00000001${number}`, bytes: segment };
  });
  assert.equal(await assertSecretsAreHidden(run, major, checked), records.length);
}

/** The segments of a folder, as runs of one timeline without a gap. */
function runsIn(folder: string): NamedSegment[][] {
  const names = readdirSync(folder).filter((name) => /^[0-9A-F]{24}$/.test(name));
  const runs: NamedSegment[][] = [];
  let next: bigint | undefined;
  for (const name of names.sort()) {
    const bytes = readFileSync(join(folder, name));
    const address = bytes.readBigUInt64LE(8);
    if (address !== next || runs.at(-1)?.[0]?.name.slice(0, 8) !== name.slice(0, 8)) runs.push([]);
    runs.at(-1)?.push({ name, bytes });
    next = address + BigInt(bytes.length);
  }
  return runs;
}

async function checkSet(folder: string, major: number, checked: Checked): Promise<void> {
  for (const set of ["tl2", "contrecord", "wal", "segbig"].map((name) => join(folder, name))) {
    for (const run of existsSync(set) ? runsIn(set) : []) {
      await assertSecretsAreHidden(run, major, checked);
    }
  }
}

function typesWithoutRecord(major: number, { names }: Checked): string[] {
  return measuredTypes(major).filter((name) => !names.has(name));
}

/** No server writes them any more. */
const UNSEEN = ["XLOG NOOP"];
/** Only in segments, of which there are none of 16. */
const IN_SEGMENTS = ["XLOG SWITCH", "XLOG END_OF_RECOVERY", "XLOG OVERWRITE_CONTRECORD"];

for (const major of GOLDEN_MAJORS) {
  test(`of each type of record of ${major} only what pg_waldump reads stays as it was`, async (t) => {
    const checked = { names: new Set<string>(), secretBytes: 0 };
    await checkGoldenRecords(major, checked);
    if (major !== 16) {
      await checkSet(unpackSmallSet(major, temporaryDirectory(t)).folder, major, checked);
    }
    const expected = [
      ...UNSEEN,
      ...(major === 13 ? ["CommitTs SETTS"] : []),
      ...(major === 16 ? IN_SEGMENTS : []),
    ];
    assert.deepEqual(typesWithoutRecord(major, checked).sort(), expected.sort());
    t.diagnostic(`${checked.names.size} types, ${checked.secretBytes} secret bytes`);
  });
}

const wholeSets = process.env["TDE_WAL_FIXTURES"];
for (const major of GOLDEN_MAJORS) {
  const source = join(wholeSets ?? "", String(major));
  const isMissing = wholeSets === undefined || !existsSync(source);
  test(
    `in the whole set of ${major} only what pg_waldump reads stays as it was`,
    { skip: isMissing ? "TDE_WAL_FIXTURES is not set" : false },
    async (t) => {
      const checked = { names: new Set<string>(), secretBytes: 0 };
      await checkSet(unpackWholeSet(source, temporaryDirectory(t)).folder, major, checked);
      t.diagnostic(
        `${checked.names.size} types, ${checked.secretBytes} secret bytes; none of ${typesWithoutRecord(major, checked).join(", ")}`,
      );
    },
  );
}
