import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs, { mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { StorageError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("a pipe where a file should be is refused and not waited for", (t) => {
  const pipe = join(temporaryDirectory(t), "pipe");
  execFileSync("mkfifo", [pipe]);
  assert.throws(() => new NodeFileSystem().open(bytePath(pipe)), StorageError);
});

test("a device where a file should be is refused", () => {
  assert.throws(() => new NodeFileSystem().open(bytePath("/dev/zero")), StorageError);
});

test("a link is not opened, whatever it leads to", (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, "file"), "content");
  symlinkSync("file", join(folder, "link"));
  const disk = new NodeFileSystem();
  assert.throws(() => disk.open(bytePath(join(folder, "link"))), { errno: "ELOOP" });
  assert.throws(() => disk.openForWriting(bytePath(join(folder, "link"))), { errno: "ELOOP" });
  // A folder in the path may be one: pg_wal, tablespaces, and whatever leads to the directory itself.
  symlinkSync(".", join(folder, "above"));
  disk.open(bytePath(join(folder, "above/file"))).close();
});

test("attributes are set of a directory itself, and never through a link or by a name that may have changed hands", (t) => {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, "directory"), { mode: 0o700 });
  symlinkSync("directory", join(folder, "link"));
  writeFileSync(join(folder, "file"), "", { mode: 0o600 });
  const disk = new NodeFileSystem();
  const { uid, gid } = statSync(join(folder, "directory"));
  const wide = {
    mode: 0o755,
    uid,
    gid,
    accessTimeNs: 1_000_000_000n,
    modifyTimeNs: 2_000_000_000n,
  };
  for (const name of ["link", "file"]) {
    assert.throws(() => disk.setAttributes(bytePath(join(folder, name)), wide), StorageError);
  }
  assert.equal(statSync(join(folder, "directory")).mode & 0o777, 0o700);
  assert.equal(statSync(join(folder, "file")).mode & 0o777, 0o600);
  const byName = (["chownSync", "chmodSync", "utimesSync"] as const).map((name) =>
    t.mock.method(fs, name),
  );
  disk.setAttributes(bytePath(join(folder, "directory")), wide);
  const { mode, mtimeMs } = statSync(join(folder, "directory"));
  assert.deepEqual([mode & 0o777, mtimeMs], [0o755, 2000]);
  assert.deepEqual(
    byName.map(({ mock }) => mock.callCount()),
    [0, 0, 0],
  );
});

/** The next calls of this function of node:fs fail, as often as `times` says; returns how often it was called. */
function failing(
  t: TestContext,
  name: "openSync" | "readSync" | "writeSync" | "fsyncSync" | "closeSync" | "statfsSync",
  code: string,
  times: number,
): () => number {
  const real = fs[name] as (...args: unknown[]) => unknown;
  let left = times;
  const mocked = t.mock.method(fs, name, (...args: unknown[]) => {
    if (left-- > 0) throw Object.assign(new Error(code), { code });
    return real(...args);
  });
  return () => mocked.mock.callCount();
}

test("a call that signals interrupt again and again is made until it is done", (t) => {
  const disk = new NodeFileSystem();
  const folder = temporaryDirectory(t);
  const path = bytePath(join(folder, "file"));
  const counts = (["openSync", "readSync", "writeSync", "fsyncSync", "statfsSync"] as const).map(
    (name) => failing(t, name, "EINTR", 100),
  );
  const file = disk.create(path, 0o600);
  assert.equal(file.write(Buffer.from("whole"), 0, 5, 0), 5);
  file.sync();
  const read = Buffer.alloc(5);
  assert.equal(file.read(read, 0, 5, 0), 5);
  file.close();
  disk.syncDirectory(bytePath(folder));
  assert.ok(disk.freeBytes(path) > 0);
  assert.equal(read.toString(), "whole");
  // create and syncDirectory open, the file and its folder are synced.
  assert.deepEqual(
    counts.map((count) => count()),
    [102, 101, 101, 102, 101],
  );
});

test("a sync that failed is not made again, because a second one would only seem to succeed", (t) => {
  const path = join(temporaryDirectory(t), "file");
  writeFileSync(path, "");
  const file = new NodeFileSystem().openForWriting(bytePath(path));
  const count = failing(t, "fsyncSync", "EIO", 1);
  assert.throws(() => file.sync(), { errno: "EIO" });
  assert.equal(count(), 1);
  file.close();
});

test("a close that was interrupted is not made again, because the descriptor may be another file's by then", (t) => {
  const path = join(temporaryDirectory(t), "file");
  writeFileSync(path, "");
  const file = new NodeFileSystem().open(bytePath(path));
  const count = failing(t, "closeSync", "EINTR", 1);
  assert.throws(() => file.close(), { errno: "EINTR" });
  assert.equal(count(), 1);
  t.mock.restoreAll();
  file.close();
});
