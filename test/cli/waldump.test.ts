/**
 * `tde waldump` beside recorded runs of the real pg_waldump of five majors, and what it can beyond that program.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { RECORD_HEADER } from "../../src/wal/record-header.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { fixturePath } from "../support/fixtures.ts";
import { goldenRecords } from "../support/golden-records.ts";
import { runTde, runTdeBytes, TDE_PROGRAM } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import {
  checkCase,
  runAsProcess,
  runHere,
  SMALL_SET_MAJORS,
  unpackSmallSet,
  unpackWholeSet,
  type WaldumpCase,
  type WaldumpCases,
} from "../support/waldump-cases.ts";
import { writeWal } from "../support/wal-writer.ts";

/** No WAL is there that could tell whose words to use: it is said as by 18. */
const WITHOUT_WAL = ["empty-dir", "empty-dir-seg", "text-file"];

function comparable(set: WaldumpCases, major: number): readonly WaldumpCase[] {
  return set.cases.filter(({ name }) => major !== 13 || !WITHOUT_WAL.includes(name));
}

for (const major of SMALL_SET_MAJORS) {
  test(`WAL of ${major} prints as its pg_waldump prints it, with its messages and exit codes`, async (t) => {
    const set = unpackSmallSet(major, temporaryDirectory(t));
    const cases = comparable(set, major);
    assert.ok(cases.length >= 100);
    for (const expected of cases) {
      // Some as a user would run them; for all of them that would only take longer.
      const isSample = major === 17 && expected.name.startsWith("tl2-");
      await checkCase(set, expected, isSample ? runAsProcess : runHere);
    }
  });
}

const wholeSet = process.env["TDE_WAL_FIXTURES"];
for (const major of [13, 15, 16, 17, 18, 19]) {
  const source = join(wholeSet ?? "", String(major));
  test(
    `every recorded run of ${major} prints the same`,
    { skip: wholeSet === undefined || !existsSync(source) ? "TDE_WAL_FIXTURES is not set" : false },
    async (t) => {
      const set = unpackWholeSet(source, temporaryDirectory(t));
      for (const expected of comparable(set, major)) {
        await t.test(expected.name, () => checkCase(set, expected, runAsProcess));
      }
    },
  );
}

const SEGMENT = "00000002000000030000000B";

test("a compressed segment, a partial one and a pipe give what the plain segment gives", (t) => {
  const folder = temporaryDirectory(t);
  const set = unpackSmallSet(17, folder);
  const plain = join(set.folder, "tl2", SEGMENT);
  const expected = runTdeBytes(["waldump", plain]);
  assert.ok(expected.stdout.length > 10_000);
  assert.match(expected.stderr.toString(), /invalid record length/);

  const files: Record<string, (path: string) => void> = {
    [`${SEGMENT}.gz`]: (path) => writeFileSync(path, gzipSync(readFileSync(plain))),
    [`${SEGMENT}.zst`]: (path) => copyFileSync(fixturePath(`waldump/17-${SEGMENT}.zst`), path),
    [`${SEGMENT}.lz4`]: (path) => copyFileSync(fixturePath(`waldump/17-${SEGMENT}.lz4`), path),
    [`${SEGMENT}.partial`]: (path) => copyFileSync(plain, path),
  };
  for (const [name, make] of Object.entries(files)) {
    const directory = join(folder, `of-${name}`);
    mkdirSync(directory);
    make(join(directory, name));
    assert.deepEqual(runTdeBytes(["waldump", join(directory, name)]), expected, name);
    const piped = runTdeBytes(["waldump", "-"], { input: readFileSync(join(directory, name)) });
    assert.deepEqual(piped, expected, `${name} from a pipe`);
    if (name.endsWith(".partial")) continue;
    // As an archive has it: found by the segment's own name.
    assert.deepEqual(runTdeBytes(["waldump", "-p", directory, SEGMENT]), expected, `in ${name}`);
  }
});

test("several segments come from a pipe one after the other, and its end is the end of the range", (t) => {
  const { folder } = unpackSmallSet(17, temporaryDirectory(t));
  const names = ["000000010000000300000009", "00000001000000030000000A"];
  const paths = names.map((name) => join(folder, "tl2", name));
  const input = Buffer.concat(paths.map((path) => readFileSync(path)));
  const { status, stdout } = runTdeBytes(["waldump", "-"], { input });
  assert.deepEqual({ status, stdout }, pick(runTdeBytes(["waldump", ...paths])));
  assert.equal(status, 0);

  const start = runTde(["waldump", "-n", "1", paths[1] ?? ""]).stdout;
  const lsn = /lsn: ([^,]+)/.exec(start)?.[1] ?? "";
  assert.equal(
    runTdeBytes(["waldump", "-s", lsn, "-n", "1", "-"], { input }).stdout.toString(),
    start,
  );
});

test("damaged compressed segments and pipes without WAL are errors, not crashes", (t) => {
  const folder = temporaryDirectory(t);
  for (const suffix of ["zst", "lz4"]) {
    const bytes = readFileSync(fixturePath(`waldump/17-${SEGMENT}.${suffix}`));
    const damaged = { cut: bytes.subarray(0, 5000), flipped: Buffer.from(bytes) };
    damaged.flipped.writeUInt8(damaged.flipped.readUInt8(3000) ^ 0xff, 3000);
    for (const [what, content] of Object.entries(damaged)) {
      const path = join(folder, `${SEGMENT}.${suffix}`);
      writeFileSync(path, content);
      const { status, stderr } = runTde(["waldump", "-q", path]);
      assert.equal(status, 1, `${what} ${suffix}`);
      assert.match(stderr, /^tde waldump: error: \S.*\n$/, `${what} ${suffix}`);
    }
  }
  for (const input of ["", "no WAL ".repeat(5000)]) {
    const { status, stderr } = runTde(["waldump", "-"], { input });
    assert.equal(status, 1);
    assert.match(stderr, /^tde waldump: error: \S.*\n$/);
  }
});

test("JSON holds each record of the text, with the same numbers", (t) => {
  const { folder } = unpackSmallSet(15, temporaryDirectory(t));
  const args = [SEGMENT, "-p", join(folder, "tl2")];
  const lines = runTde(["waldump", ...args])
    .stdout.trim()
    .split("\n");
  const objects = runTde(["waldump", "--format=json", ...args])
    .stdout.trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.equal(objects.length, lines.length);
  for (const [i, object] of objects.entries()) {
    const line = lines[i] ?? "";
    const match =
      /^rmgr: (\S+) +len \(rec\/tot\): +(\d+)\/ *(\d+), tx: +(\d+), lsn: (\S+), prev (\S+), desc: (\S+)/.exec(
        line,
      );
    const { rmgr, recordBytes, totalBytes, xid, lsn, prev, type } = object;
    assert.deepEqual(
      [rmgr, String(recordBytes), String(totalBytes), String(xid), lsn, prev, type],
      match?.slice(1),
    );
    assert.ok(line.includes(String(object["description"])));
    assert.equal(line.split(", blkref #").length - 1, (object["blocks"] as unknown[]).length);
  }
  const statistics = runTde(["waldump", "--format=json", "--stats", ...args]).stdout;
  assert.equal((JSON.parse(statistics) as { count: number }).count, objects.length);
});

test("whoever reads the output may close it early", (t) => {
  const { folder } = unpackSmallSet(17, temporaryDirectory(t));
  const command = `'${process.execPath}' '${TDE_PROGRAM}' waldump -p '${folder}/contrecord' 00000001000000030000000C | head -n 1`;
  const { stdout, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  assert.match(stdout, /^rmgr: .*\n$/);
  assert.equal(stderr, "");
});

test("help and version are tde's own", () => {
  const help = runTde(["waldump", "--help"]);
  assert.equal(help.status, 0);
  assert.match(help.stdout, /^tde waldump decodes and displays/);
  assert.match(runTde(["waldump", "-V"]).stdout, /^tde waldump \d/);
  assert.match(runTde(["--help"]).stdout, /waldump/);
});

function pick({ status, stdout }: { status: number | null; stdout: Buffer }): {
  status: number | null;
  stdout: Buffer;
} {
  return { status, stdout };
}

/** Enough for threads to be started, which a few megabytes are not. */
test("several threads print what one prints, up to damage and with its message", (t) => {
  const folder = temporaryDirectory(t);
  const segmentBytes = 2 ** 24;
  const records = goldenRecords(17).filter(({ bytes }) => bytes[RECORD_HEADER.rmid] !== 0);
  const bytesOfAll = records.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const times = Math.ceil((2.2 * segmentBytes) / bytesOfAll);
  const { bytes, offsets } = writeWal(
    Array.from({ length: times }, () => records.map((record) => record.bytes)).flat(),
    { format: walFormatOf(17), segmentBytes },
  );
  // In the third segment.
  const damaged = offsets.findLast((offset) => offset < 2.1 * segmentBytes) ?? 0;
  bytes[damaged + RECORD_HEADER.crc] = bytes.readUInt8(damaged + RECORD_HEADER.crc) ^ 1;
  const names = [1, 2, 3].map((number) => `0000000100000000${hex8(number)}`);
  for (const [i, name] of names.entries()) {
    const content = Buffer.alloc(segmentBytes);
    bytes.copy(content, 0, i * segmentBytes);
    writeFileSync(join(folder, name), content);
  }
  const [first = "", , last = ""] = names;
  for (const options of [[], ["--stats=record"]]) {
    const args = ["waldump", ...options, "-p", folder, first, last];
    const one = runTdeBytes([...args, "-j", "1"]);
    const several = runTdeBytes([...args, "-j", "3"]);
    assert.match(one.stderr.toString(), /incorrect resource manager data checksum/);
    assert.equal(several.stderr.toString(), one.stderr.toString());
    assert.equal(several.status, one.status);
    assert.ok(several.stdout.equals(one.stdout));
  }
});

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}
