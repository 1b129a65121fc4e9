import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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

test("a server whose links lead to the same places uses the directory, too: it is a copy of its own", async (t) => {
  const [original, copy] = [makeDatadir(t), makeDatadir(t)];
  const space = join(temporaryDirectory(t), "space");
  const wal = join(temporaryDirectory(t), "wal");
  mkdirSync(space);
  mkdirSync(wal);
  const own = join(temporaryDirectory(t), "own");
  mkdirSync(own);
  const link = (root: string, path: string, target: string): void => {
    rmSync(join(root, path), { recursive: true, force: true });
    symlinkSync(target, join(root, path));
  };
  link(original, "pg_tblspc/16400", space);
  link(original, "pg_wal", wal);
  writeFileSync(join(original, "postmaster.pid"), "1\n");
  const pid = await startServer(t, original);
  const refused = (pattern: RegExp): void => {
    for (const assumeStopped of [false, true]) {
      assert.throws(() => check(copy, assumeStopped), { name: "StateError", message: pattern });
    }
  };
  check(copy);
  link(copy, "pg_tblspc/16400", space);
  refused(new RegExp(`^the server of ".*/data" \\(pid ${pid}\\) uses tablespace ".*/space", too$`));
  // Whatever the link is called, and wherever it leads on the way.
  link(copy, "pg_tblspc/16400", own);
  const way = join(own, "way");
  symlinkSync(space, way);
  link(copy, "pg_tblspc/16401", way);
  refused(/uses tablespace ".*\/space", too$/);
  rmSync(join(copy, "pg_tblspc/16401"));
  check(copy);
  link(copy, "pg_wal", wal);
  refused(/uses ".*\/wal" for its WAL, too$/);
  rmSync(join(copy, "pg_wal"));
  // Another major has a folder of its own in the same location.
  link(copy, "pg_tblspc/16400", space);
  writeFileSync(join(original, "PG_VERSION"), "16\n");
  check(copy);
  writeFileSync(join(original, "PG_VERSION"), "17\n");
  refused(/uses tablespace/);
  // A server that is down writes nothing any more.
  rmSync(join(original, "postmaster.pid"));
  check(copy);
});

test("a server that runs within a directory is in the way", async (t) => {
  const root = makeDatadir(t);
  const inner = join(root, "base/inner");
  makeSmallDatadir(inner);
  writeLock(inner, "4194305", inner);
  await startServer(t, inner);
  assert.throws(() => check(root, true), /the server of ".*\/inner" \(pid \d+\) is running in "/);
  check(inner);
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

/** A process that is named as a server's, and is where one would be. */
async function startServer(t: TestContext, directory: string): Promise<number> {
  const program = join(temporaryDirectory(t), "postgres");
  symlinkSync("/bin/sh", program);
  const child = spawn(program, ["-c", "echo ready; read line"], {
    cwd: directory,
    stdio: ["pipe", "pipe", "ignore"],
  });
  t.after(() => child.kill());
  await once(child.stdout, "data");
  assert.ok(child.pid !== undefined);
  return child.pid;
}

/** A process that lives until the test ends. */
function startProcess(t: TestContext): number {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  t.after(() => child.kill());
  assert.ok(child.pid !== undefined);
  return child.pid;
}
