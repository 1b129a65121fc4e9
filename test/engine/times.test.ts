/**
 * Times of files: as often as a directory is encrypted and decrypted, its files keep theirs, to the nanosecond where that
 * can be set, and else to the microsecond.
 */
import assert from "node:assert/strict";
import { closeSync, lstatSync, openSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { findLibc, type Libc } from "../../src/storage/libc.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { copyOf, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";

/** Of files that tde writes anew or not, by path: what no multiple of a microsecond is. */
function giveTimes(datadir: string): void {
  const libc = requireLibc();
  let ns = 1_764_539_539_123_456_000n;
  for (const path of filesOf(datadir)) {
    ns += 86_399_000_001_337n;
    const descriptor = openSync(join(datadir, path), "r+");
    assert.ok(libc.setTimes(descriptor, ns + 999n, ns));
    closeSync(descriptor);
  }
}

function requireLibc(): Libc {
  return findLibc() ?? assert.fail("koffi is a dependency, if an optional one");
}

function filesOf(datadir: string): string[] {
  return readdirSync(datadir, { recursive: true, encoding: "utf8" })
    .filter((path) => lstatSync(join(datadir, path)).isFile())
    .sort();
}

function timesOf(datadir: string): Map<string, bigint> {
  const timeOf = (path: string): bigint => statSync(join(datadir, path), { bigint: true }).mtimeNs;
  return new Map(filesOf(datadir).map((path) => [path, timeOf(path)]));
}

for (const wal of ["readable", "sealed"] as const) {
  test(`with --wal ${wal} each file has its time again, to the nanosecond`, async () => {
    const datadir = makeSmallCluster();
    addSegments(datadir);
    giveTimes(datadir);
    const before = timesOf(datadir);
    const small = new SmallEngine();
    for (let i = 0; i < 2; i++) {
      await small.encrypt(datadir, { wal });
      await small.decrypt(datadir);
      assert.deepEqual(timesOf(datadir), before);
    }
  });
}

test("without a C library each has the microsecond that it had, as often as it is done", async () => {
  const datadir = makeSmallCluster();
  giveTimes(datadir);
  const expected = new Map([...timesOf(datadir)].map(([path, ns]) => [path, ns - (ns % 1000n)]));
  const small = new SmallEngine({ fs: new NodeFileSystem(() => undefined) });
  for (let i = 0; i < 3; i++) {
    await small.encrypt(datadir);
    await small.decrypt(datadir);
    const microseconds = [...timesOf(datadir)].map(
      ([path, ns]) => [path, ns - (ns % 1000n)] as const,
    );
    assert.deepEqual(new Map(microseconds), expected);
  }
});

test("what the C library refuses node:fs does, to the microsecond; a time before 1970 needs the C library", () => {
  const path = bytePath(join(copyOf(makeSmallCluster()), "PG_VERSION"));
  const timesAfter = (libc: Libc, times: readonly bigint[]): bigint[] => {
    const file = new NodeFileSystem(() => libc).open(path);
    const after = times.map((modifyTimeNs) => {
      file.setAttributes({ ...file.stat(), modifyTimeNs });
      return file.stat().modifyTimeNs;
    });
    file.close();
    return after;
  };
  const early = [-1n, -1_000_000_001n, 0n];
  assert.deepEqual(timesAfter(requireLibc(), early), early);
  const late = [1n, 1_999_999_999n, 1_764_539_539_123_456_789n];
  const found = timesAfter({ ...requireLibc(), setTimes: () => false }, late);
  assert.deepEqual(
    found.map((time) => time / 1000n),
    late.map((time) => time / 1000n),
  );
});
