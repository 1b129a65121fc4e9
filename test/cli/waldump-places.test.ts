/** Where `tde waldump` finds WAL: segments of every size, archives, odd names, and files that a server still writes. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { create } from "tar";
import { walFileName } from "../../src/wal/wal-file-name.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { runTdeBytes, TDE_PROGRAM } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { runHere, unpackSmallSet } from "../support/waldump-cases.ts";
import { writeWal } from "../support/wal-writer.ts";
import { recordOf } from "../wal/record-text-of.ts";

const RECORD_BYTES = 4000;
/** XLOG NOOP records: as many as asked for, of this length. */
function noops(count: number): Buffer[] {
  const record = recordOf(0, 0x20, "00".repeat(200));
  const long = Buffer.concat([record.subarray(0, 24), Buffer.alloc(RECORD_BYTES - 24)]);
  long.writeUInt32LE(RECORD_BYTES, 0);
  long[24] = 254; // XLR_BLOCK_ID_DATA_LONG
  long.writeUInt32LE(RECORD_BYTES - 29, 25);
  return Array.from({ length: count }, () => long);
}

test("segments of 1 MB to 1 GB are read, on into the next one, across a boundary of 4 GB", async (t) => {
  const folder = temporaryDirectory(t);
  for (let megabytes = 1; megabytes <= 1024; megabytes *= 2) {
    const segmentBytes = megabytes * 2 ** 20;
    const directory = join(folder, String(megabytes));
    mkdirSync(directory);
    // The first segment is full up to its end only where that is little to write.
    const count = megabytes <= 2 ? Math.ceil((segmentBytes * 1.5) / RECORD_BYTES) : 700;
    const start = 2n ** 33n - BigInt(segmentBytes);
    const layout = { format: walFormatOf(14), segmentBytes, timeline: 7, start };
    const { bytes } = writeWal(noops(count), layout);
    const names = [start, start + BigInt(segmentBytes)].map((lsn) =>
      walFileName(
        { timeline: 7, high: Number(lsn >> 32n), low: Number(lsn & 0xffffffffn) },
        segmentBytes,
      ),
    );
    for (const [i, name] of names.entries()) {
      const file = openSync(join(directory, name), "w");
      writeSync(file, bytes.subarray(i * segmentBytes, (i + 1) * segmentBytes));
      ftruncateSync(file, segmentBytes); // sparse
      closeSync(file);
    }
    const { status, stdout, stderr } = await runHere([names[0] ?? ""], directory);
    const records = stdout.toString().split("\n").length - 1;
    if (megabytes <= 2) {
      assert.deepEqual({ status, stderr: stderr.toString() }, { status: 0, stderr: "" });
      assert.equal((await runHere(["-q", ...names], directory)).status, 1);
      const all = await runHere(names, directory);
      assert.equal(all.stdout.toString().split("\n").length - 1, count, `${megabytes} MB`);
      assert.match(all.stdout.toString(), / lsn: 2\/00/);
    } else {
      assert.equal(records, count, `${megabytes} MB`);
      assert.match(stderr.toString(), /invalid record length at 1\/[\dA-F]+: wanted 24, got 0/);
    }
  }
});

test("a tar archive, compressed or not, in whatever order it has its segments, gives what the directory gives", async (t) => {
  const { folder } = unpackSmallSet(18, temporaryDirectory(t));
  const from = join(folder, "tl2");
  const names = ["000000010000000300000009", "00000001000000030000000A"];
  const range = ["-s", "3/900028", "-e", "3/B00000"];
  const expected = await runHere(["-p", ".", ...range], from);
  assert.equal(expected.status, 0);
  for (const [i, members] of [names, names.toReversed()].entries()) {
    const tar = Buffer.concat([...create({ sync: true, cwd: from }, members)]);
    for (const [name, bytes] of [
      [`${i}.tar`, tar],
      [`${i}.tgz`, gzipSync(tar)],
      [`${i}.tar.gz`, gzipSync(tar)],
    ] as const) {
      writeFileSync(join(folder, name), bytes);
      assert.deepEqual(await runHere(["-p", name, ...range], folder), expected, name);
    }
  }
});

test("a directory whose name is no text, and one that is found below PGDATA", (t) => {
  const folder = temporaryDirectory(t);
  const set = unpackSmallSet(15, folder);
  const segment = "00000001000000030000000A";
  const expected = runTdeBytes(["waldump", join(set.folder, "tl2", segment)]);
  assert.equal(expected.status, 0);

  const odd = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from("caf\xe9 \n'", "latin1")]);
  mkdirSync(odd);
  const content = readFileSync(join(set.folder, "tl2", segment));
  writeFileSync(Buffer.concat([odd, Buffer.from(`/${segment}`)]), content);
  // A shell hands the bytes on as they are.
  const script = `cd '${folder}' && '${process.execPath}' '${TDE_PROGRAM}' waldump -p caf* ${segment}`;
  assert.deepEqual(execFileSync("sh", ["-c", script], { maxBuffer: 1 << 26 }), expected.stdout);

  const pgdata = join(folder, "data");
  mkdirSync(join(pgdata, "pg_wal"), { recursive: true });
  writeFileSync(join(pgdata, "pg_wal", segment), content);
  const found = runTdeBytes(["waldump", segment], { cwd: folder, env: { PGDATA: pgdata } });
  assert.deepEqual(found, expected);
});

test("a named pipe in the place of a segment is an error, not a wait", (t) => {
  const folder = temporaryDirectory(t);
  execFileSync("mkfifo", [join(folder, "00000001000000030000000A")]);
  for (const args of [["00000001000000030000000A"], ["-s", "3/A00028"]]) {
    const { status, stderr } = runTdeBytes(["waldump", ...args], { cwd: folder });
    assert.equal(status, 1);
    assert.match(stderr.toString(), /^tde waldump: error: could not open file "0.*A": it is a /);
  }
});

test("--follow prints what a server adds, and ends by an interrupt", async (t) => {
  const { folder } = unpackSmallSet(17, temporaryDirectory(t));
  const segment = "00000002000000030000000B";
  const whole = readFileSync(join(folder, "tl2", segment));
  const wanted = runTdeBytes(["waldump", join(folder, "tl2", segment)]).stdout;
  const lsns = [...wanted.toString("latin1").matchAll(/ lsn: 3\/00B([\dA-F]{5})/g)];
  const middle = Number(`0x${lsns[Math.floor(lsns.length / 2)]?.[1]}`);
  const growing = join(folder, segment);
  // As a server makes it: at its full size, with zeros.
  writeFileSync(growing, Buffer.concat([whole.subarray(0, middle)], whole.length));
  const child = spawn(process.execPath, [TDE_PROGRAM, "waldump", "--follow", segment], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  child.stdout.setEncoding("latin1").on("data", (text: string) => void (printed += text));
  const until = async (length: number): Promise<void> => {
    for (let tries = 0; printed.length < length && tries < 600; tries++) await sleep(50);
  };
  await until(1);
  assert.ok(printed.length > 0 && printed.length < wanted.length);
  writeFileSync(growing, whole);
  await until(wanted.length);
  child.kill("SIGINT");
  const [status] = (await once(child, "close")) as [number | null];
  assert.equal(printed, wanted.toString("latin1"));
  assert.equal(status, 0);
});
