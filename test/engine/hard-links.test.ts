/**
 * A file that is encrypted is replaced: its other hard links keep the plaintext, and whoever encrypts is told how many there are,
 * by a dry run, too.
 */
import assert from "node:assert/strict";
import { linkSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { testKeys } from "../support/keys.ts";
import {
  LARGE,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { crossing, writeFolder } from "../support/wal-folders.ts";

function link(datadir: string, paths: readonly string[]): void {
  const folder = join(datadir, "..", "snapshot");
  mkdirSync(folder);
  for (const path of paths) linkSync(join(datadir, path), join(folder, basename(path)));
}

const about = ({ notices }: SmallEngine): string[] =>
  notices.filter((notice) => notice.includes("hard link"));

test("files with other hard links are counted in one notice, with the names of the first", async () => {
  const datadir = makeSmallCluster();
  link(datadir, [LARGE, ORDINARY, "base/1/1247", WAL_FILE, "postgresql.conf"]);
  const expected = [
    `4 files have other hard links, which keep the plaintext: "base/1/1247", "base/1/1255", "base/1/1259" and 1 more`,
  ];
  for (const dryRun of [true, false]) {
    const small = new SmallEngine();
    await small.encrypt(datadir, { dryRun });
    assert.deepEqual(about(small), expected);
  }
  const again = new SmallEngine();
  await again.encrypt(datadir);
  assert.deepEqual(about(again), []);
});

test("one is one, and what stays plain is none", async () => {
  const datadir = makeSmallCluster();
  link(datadir, [ORDINARY, LARGE]);
  const small = new SmallEngine();
  await small.encrypt(datadir, {
    scope: { ...small.encryptOptions(datadir).scope, exclude: [bytePath("relation:1/1255")] },
  });
  assert.deepEqual(about(small), [
    `1 file has other hard links, which keep the plaintext: "base/1/1259"`,
  ]);
});

test("wal encrypt says it, too, of what it encrypts", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  linkSync(join(folder, writer.name(1)), join(folder, "kept"));
  for (const expected of [1, 0]) {
    const small = new SmallEngine({ keys: testKeys(2) });
    await encryptWal(small.engine, testKeys(2), { folder: bytePath(folder) });
    assert.equal(about(small).length, expected);
  }
});
