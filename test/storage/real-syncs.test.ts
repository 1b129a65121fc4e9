/**
 * The syncs that reach the system: the disk that the other tests simulate has its own, and what the real one does shows
 * there in none. Each is counted on its file, and its place between writes and renames is seen.
 */
import assert from "node:assert/strict";
import fs, { readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** What was asked of the system: syncs by path and size, and renames. */
const calls: string[] = [];
/** Syncs that are waited for, and not answered yet. */
const waiting: (() => void)[] = [];
let isHeld = false;
let failing = "";

const pathOf = (descriptor: number): string => readlinkSync(`/proc/self/fd/${descriptor}`);
const real = { fsyncSync: fs.fsyncSync, fsync: fs.fsync, renameSync: fs.renameSync };

// Before the file system is loaded, which keeps some of them.
fs.fsyncSync = (descriptor: number): void => {
  real.fsyncSync(descriptor);
  calls.push(`sync ${nameAndSize(pathOf(descriptor))}`);
};
fs.fsync = Object.assign(
  (descriptor: number, done: (error: NodeJS.ErrnoException | null) => void): void => {
    const path = pathOf(descriptor);
    const answer = (): void => {
      real.fsync(descriptor, (error) => {
        calls.push(`sync ${nameAndSize(path)}`);
        const isBroken = failing !== "" && path.endsWith(failing);
        done(isBroken ? Object.assign(new Error("EIO"), { code: "EIO" }) : error);
      });
    };
    if (isHeld) waiting.push(answer);
    else answer();
  },
  { __promisify__: fs.fsync.__promisify__ },
);
fs.renameSync = (from, to): void => {
  real.renameSync(from, to);
  calls.push(`rename ${nameOf(String(from))} ${nameOf(String(to))}`);
};

const { NodeFileSystem } = await import("../../src/storage/node-file-system.ts");
const { createFileDurably, replaceFileDurably } =
  await import("../../src/storage/durable-replace.ts");

beforeEach(() => {
  calls.length = 0;
  waiting.length = 0;
  isHeld = false;
  failing = "";
});

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Directories by a slash, files by their size: what was not written before a sync is not synced. */
function nameAndSize(path: string): string {
  const stat = statSync(path);
  return stat.isDirectory() ? "/" : `${nameOf(path)} ${stat.size}`;
}

test("files that are synced together are each synced once, and none is waited for too short", async (t) => {
  const disk = new NodeFileSystem();
  const folder = temporaryDirectory(t);
  const files = Array.from({ length: 70 }, (_, i) => {
    const file = disk.create(bytePath(join(folder, `file-${i}`)), 0o600);
    file.write(Buffer.alloc(i + 1), 0, i + 1, 0);
    return file;
  });
  isHeld = true;
  let isDone = false;
  const done = disk.syncFiles(files).then(() => (isDone = true));
  await new Promise(setImmediate);
  assert.equal(waiting.length, files.length);
  const last = waiting.pop();
  for (const answer of waiting) answer();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(isDone, false);
  last?.();
  await done;
  const expected = files.map((_, i) => `sync file-${i} ${i + 1}`);
  assert.deepEqual([...calls].sort(), expected.sort());
  for (const file of files) file.close();
});

test("a sync that fails among others is an error, and comes when all of them are over", async (t) => {
  const disk = new NodeFileSystem();
  const folder = temporaryDirectory(t);
  const files = ["a", "b", "c"].map((name) => disk.create(bytePath(join(folder, name)), 0o600));
  failing = "/a";
  await assert.rejects(disk.syncFiles(files), { errno: "EIO" });
  assert.equal(calls.length, 3);
  for (const file of files) file.close();
});

test("a file that is synced by itself, and a directory, reach the system", (t) => {
  const disk = new NodeFileSystem();
  const folder = temporaryDirectory(t);
  const file = disk.create(bytePath(join(folder, "one")), 0o600);
  file.write(Buffer.from("12345"), 0, 5, 0);
  file.sync();
  disk.syncDirectory(bytePath(folder));
  file.close();
  assert.deepEqual(calls, ["sync one 5", "sync /"]);
});

test("a file that is created durably is synced with its content, then its directory", (t) => {
  const path = join(temporaryDirectory(t), "kek");
  createFileDurably(new NodeFileSystem(), bytePath(path), Buffer.alloc(32, 1), 0o600);
  assert.deepEqual(calls, ["sync kek 32", "sync /"]);
});

test("a file that is replaced durably is synced with its content, renamed, then its directory synced", (t) => {
  const path = join(temporaryDirectory(t), "keyring");
  for (const round of [1, 2]) {
    calls.length = 0;
    replaceFileDurably(new NodeFileSystem(), bytePath(path), Buffer.alloc(100 * round), 0o600);
    const expected = [`sync keyring.new ${100 * round}`, "rename keyring.new keyring", "sync /"];
    assert.deepEqual(calls, expected);
  }
});
