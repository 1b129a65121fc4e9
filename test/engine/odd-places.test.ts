/**
 * Directories as they really are: read-only, spread over several file systems, owned by somebody else than the one
 * who runs tde, with relations of more than one segment.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import { startTde } from "../support/running-tde.ts";
import { makeSmallCluster, ODD, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { requireStockTools } from "../support/stock-tools.ts";
import { runTdeThreaded, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

test("a read-only directory is a source for --output and can be verified, and refuses to be changed", (t) => {
  const folder = folderWithKeys(t);
  const source = mountTmpfs(t);
  if (source === undefined) return t.skip("mounting a tmpfs is not permitted");
  const [plainSource, sealedSource] = [join(source, "data"), join(source, "sealed")];
  copyTree(makeSmallCluster(), plainSource);
  const plain = treeOf(plainSource);
  remount(source, "ro");
  done(tde(folder, "encrypt-datadir", "-D", plainSource, "--output", "sealed"));

  const inPlace = tde(folder, "encrypt-datadir", "-D", plainSource);
  assert.equal(inPlace.status, 7);
  assert.match(inPlace.stderr, /read-only.*\n.*hint: .*--output/);

  remount(source, "rw");
  copyTree(join(folder, "sealed"), sealedSource);
  remount(source, "ro");
  done(tde(folder, "verify", "-D", sealedSource));
  done(tde(folder, "decrypt-datadir", "-D", sealedSource, "--output", "opened"));
  assertSameTree(treeOf(join(folder, "opened")), plain);
});

test("pg_wal and a tablespace on other file systems are sealed where they are", (t) => {
  const folder = folderWithKeys(t);
  const [wal, tablespace] = [mountTmpfs(t), mountTmpfs(t)];
  if (wal === undefined || tablespace === undefined)
    return t.skip("mounting a tmpfs is not permitted");
  const datadir = join(folder, "data");
  copyTree(makeSmallCluster(), datadir);
  for (const name of readdirSync(join(datadir, "pg_wal"))) {
    copyTree(join(datadir, "pg_wal", name), join(wal, name));
  }
  renameSync(join(datadir, "pg_wal"), join(folder, "old_wal"));
  symlinkSync(wal, join(datadir, "pg_wal"));
  const database = join(tablespace, "PG_17_202406281/5");
  mkdirSync(database, { recursive: true, mode: 0o700 });
  copyTree(join(datadir, ORDINARY), join(database, "16384"));
  symlinkSync(tablespace, join(datadir, "pg_tblspc/16400"));

  const plain = treeOf(datadir);
  done(tde(folder, "encrypt-datadir", "-D", "data"));
  const sealed = treeOf(datadir);
  for (const path of [
    "./pg_tblspc/16400/PG_17_202406281/5/16384",
    "./pg_wal/000000010000000000000001",
  ]) {
    assert.notEqual(sealed.get(path)?.sha256, plain.get(path)?.sha256, path);
  }
  done(tde(folder, "verify", "-D", "data"));
  done(tde(folder, "decrypt-datadir", "-D", "data"));
  assertSameTree(treeOf(datadir), plain);
});

test("what root encrypts belongs to the directory's owner, who can decrypt it", async (t) => {
  const owner = serverUser();
  if (owner === undefined) return t.skip("needs root");
  const folder = folderWithKeys(t);
  const datadir = join(folder, "data");
  copyTree(makeSmallCluster(), datadir);
  // Group access, as initdb --allow-group-access gives it.
  spawnSync("chmod", ["-R", "g+rX", datadir]);
  giveTree(folder, owner);
  chmodSync(folder, 0o755);
  const plain = treeOf(datadir);
  done(tde(folder, "encrypt-datadir", "-D", "data"));
  for (const [path, { uid, gid, mode, kind }] of treeOf(datadir)) {
    assert.deepEqual({ uid, gid }, { uid: owner.uid, gid: owner.gid }, path);
    assert.equal(mode, kind === "directory" ? 0o750 : 0o640, path);
  }
  giveTree(folder, owner);
  const { status, stderr } = await startTde(
    ["decrypt-datadir", "-D", "data", ...KEYS],
    folder,
    undefined,
    owner,
  );
  if (status === null) return t.skip("another user cannot run node here");
  assert.equal(status, 0, stderr);
  assertSameTree(treeOf(datadir), plain);
});

// pg_checksums itself writes the checksums of the plain pages, counted from block 131072 of the relation.
test("pages of a second segment keep their numbers, to tde as to pg_checksums", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const datadir = makeSmallCluster(15);
  // pg_checksums takes no file with an odd tail.
  rmSync(join(datadir, ODD));
  const segment = join(datadir, "base/1/93000.1");
  const pages = readFileSync(join(datadir, ORDINARY)).subarray(0, 3 * 8192);
  writeFileSync(segment, pages, { mode: 0o600 });
  assert.equal(tools.run("pg_checksums", ["--enable", "-D", datadir]).status, 0);
  const plain = treeOf(datadir);
  const engine = new SmallEngine();
  await engine.encrypt(datadir);
  const report = await engine.verify(datadir);
  assert.deepEqual([report.problems, report.wrongChecksums], [[], 0]);
  const checked = tools.run("pg_checksums", ["--check", "-D", datadir]);
  assert.equal(checked.status, 0, checked.stderr);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), plain);
});

function folderWithKeys(t: TestContext): string {
  const folder = temporaryDirectory(t);
  done(tde(folder, "keyring", "create", "--new-key-file"));
  return folder;
}

function tde(folder: string, ...args: readonly string[]): TdeResult {
  return runTdeThreaded([...args, ...KEYS], { cwd: folder });
}

function done({ status, stderr }: TdeResult): void {
  assert.equal(status, 0, stderr);
}

/** A file system of its own, as long as the test runs; undefined where it cannot be had. */
function mountTmpfs(t: TestContext): string | undefined {
  const point = mkdtempSync(join(tmpdir(), "tde-mount-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", point]);
  t.after(() => {
    if (mounted.status === 0) spawnSync("umount", [point]);
    rmdirSync(point);
  });
  return mounted.status === 0 ? point : undefined;
}

function remount(point: string, mode: "ro" | "rw"): void {
  assert.equal(spawnSync("mount", ["-o", `remount,${mode}`, point]).status, 0);
}
