import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { assertNotInUse } from "../../src/datadir/in-use.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { makeSmallDatadir, setClusterState } from "../support/small-datadir.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();

test("a cluster that was shut down is free", (t) => {
  const root = makeDatadir(t);
  check(root);
  setClusterState(root, "shut down in recovery");
  check(root);
});

test("a live process with this directory in its lock file is a running server", (t) => {
  const root = makeDatadir(t);
  const pid = startProcess(t);
  const link = `${root}.link`;
  symlinkSync(root, link);
  for (const [pidText, path] of [
    [String(pid), root],
    [String(pid), link],
    [String(-pid), root],
  ] as const) {
    writeLock(root, pidText, path);
    for (const assumeStopped of [false, true]) {
      assert.throws(() => check(root, assumeStopped), {
        name: "StateError",
        message: new RegExp(`a server is running on .* \\(pid ${pid}\\)$`),
      });
    }
  }
});

test("a live process with another directory in the lock file is the original of this copy", (t) => {
  const root = makeDatadir(t);
  const pid = startProcess(t);
  const original = `${root}.original`;
  mkdirSync(original);
  writeLock(root, String(pid), original);
  check(root);
  writeLock(root, String(pid), "/nowhere/at/all");
  check(root);
});

test("a process that is no more does not count", (t) => {
  const root = makeDatadir(t);
  const { pid } = spawnSync(process.execPath, ["--version"]);
  writeLock(root, String(pid), root);
  check(root);
  // Ids that no process can have, and this very process: left by a server before a restart.
  for (const stale of ["4194305", "9999999999", String(process.pid)]) {
    writeLock(root, stale, root);
    check(root);
  }
});

test("a process of another user counts", (t) => {
  const root = makeDatadir(t);
  writeLock(root, "1", root);
  assert.throws(() => check(root), /a server is running on .* \(pid 1\)$/);
});

test("a lock file that names no process could be of a server that is just starting", (t) => {
  const root = makeDatadir(t);
  for (const content of ["", "\n", "x\n/data\n", "0\n/data\n", "12", "12\n\n", "1e3\n/data\n"]) {
    writeFileSync(join(root, "postmaster.pid"), content);
    assert.throws(() => check(root), /names no server process/);
    check(root, true);
  }
});

test("a server that was not shut down may still run elsewhere", (t) => {
  const root = makeDatadir(t);
  setClusterState(root, "in production");
  assert.throws(
    () => check(root),
    (error: unknown) => {
      assert.ok(error instanceof Error && "hint" in error);
      assert.match(error.message, /was not shut down: its control file says "in production"$/);
      assert.match(String(error.hint), /another container.*--assume-stopped/);
      return true;
    },
  );
  check(root, true);
});

test("a base backup is free although its control file says in production", (t) => {
  const root = makeDatadir(t);
  setClusterState(root, "in production");
  writeFileSync(join(root, "backup_label"), "START WAL LOCATION: 0/2000028\n");
  check(root);
  // Up to 14 a running server can have a backup_label, but then it has a lock file, too.
  writeLock(root, "4194305", root);
  assert.throws(() => check(root), /was not shut down/);
});

test("the question whether a process is alive can be answered by the caller", (t) => {
  const root = makeDatadir(t);
  writeLock(root, "77", root);
  const asked: number[] = [];
  const isAlive = (pid: number): boolean => {
    asked.push(pid);
    return true;
  };
  const datadir = openDatadir(fs, bytePath(root));
  assert.throws(() => assertNotInUse(fs, datadir, { assumeStopped: false }, isAlive), /pid 77/);
  assert.deepEqual(asked, [77]);
});

function makeDatadir(t: TestContext): string {
  const root = join(temporaryDirectory(t), "data");
  makeSmallDatadir(root);
  return root;
}

function check(root: string, assumeStopped = false): void {
  assertNotInUse(fs, openDatadir(fs, bytePath(root)), { assumeStopped });
}

/** The first lines of postmaster.pid. */
function writeLock(root: string, pid: string, path: string): void {
  writeFileSync(
    join(root, "postmaster.pid"),
    `${pid}\n${path}\n1795168864\n5432\n/tmp\nlocalhost\n`,
  );
}

/** A process that lives until the test ends. */
function startProcess(t: TestContext): number {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  t.after(() => child.kill());
  assert.ok(child.pid !== undefined);
  return child.pid;
}
