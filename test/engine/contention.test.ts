/**
 * tde where something stands in its way: another tde, a lock of a dead one, a directory that it may not write, a disk
 * that is really full. Each ends with an exit code and a message that say so, and with a directory that goes on.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { KEYS, type RealCluster, realCluster, startTde } from "../support/running-tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const NOBODY = { uid: 65534, gid: 65534 };
const isRoot = process.getuid?.() === 0;

function args(command: string, datadir = "data"): string[] {
  return [command, "-D", datadir, ...KEYS, "-j", "2"];
}

test("of two encryptions at once one works and the other is refused", async (t) => {
  const { folder, datadir } = realCluster(t);
  const original = treeOf(datadir);
  for (const command of ["encrypt-datadir", "decrypt-datadir"]) {
    const both = await Promise.all([1, 2].map(() => startTde(args(command), folder)));
    const statuses = both.map(({ status }) => status);
    assert.ok(statuses.includes(0), both[0]?.stderr);
    for (const { status, stderr } of both) {
      // Whoever comes after the other has ended finds it done.
      if (status !== 0) assert.equal(status, 5, stderr);
      if (status === 5)
        assert.match(stderr, /another tde \(pid \d+|is not encrypted|unfinished run|was changed/);
    }
    const again = await startTde(args("recover"), folder);
    assert.match(again.stdout, /nothing to recover/, again.stderr);
  }
  assertSameTree(treeOf(datadir), original);
});

test("recover beside a running encryption does not disturb it", async (t) => {
  const { folder } = realCluster(t);
  const encryption = startTde(args("encrypt-datadir"), folder);
  const running = new Set([encryption]);
  void encryption.finally(() => running.clear());
  while (running.size > 0) {
    const { status, stderr } = await startTde(args("recover"), folder);
    assert.ok(status === 0 || (status === 5 && /another tde/.test(stderr)), stderr);
  }
  const { status, stderr } = await encryption;
  assert.equal(status, 0, stderr);
  const verified = await startTde(["verify", "-D", "data", ...KEYS], folder);
  assert.equal(verified.status, 0, verified.stdout);
});

test("the lock of a process that was killed is taken over without a word", async (t) => {
  const { folder, datadir } = realCluster(t);
  const { pid } = spawnSync(process.execPath, ["--version"]);
  const lock = {
    pid,
    start: "1",
    boot: "gone",
    namespace: "gone",
    host: spawnSync("hostname", { encoding: "utf8" }).stdout.trim(),
    token: "00",
    command: "tde encrypt-datadir",
    since: "2026-01-01T00:00:00.000Z",
  };
  writeFileSync(join(datadir, "tde.lock"), `${JSON.stringify(lock)}\n`);
  const recovered = await startTde(args("recover"), folder);
  assert.equal(recovered.status, 0, recovered.stderr);
  assert.ok(!existsSync(join(datadir, "tde.lock")), "recover leaves the dead lock");
});

test("a directory that it may not write is left as it is", async (t) => {
  const { folder, datadir } = realCluster(t);
  if (isRoot && !canRunAs(t, folder)) return;
  const before = treeOf(datadir);
  chmodSync(datadir, 0o555);
  try {
    const user = isRoot ? NOBODY : undefined;
    const { status, stderr } = await startTde(args("encrypt-datadir"), folder, undefined, user);
    assert.equal(status, 7, stderr);
    assert.match(stderr, /tde\.lock".*\ntde: hint: Run tde as the user/);
    const recovered = await startTde(args("recover"), folder, undefined, user);
    assert.equal(recovered.status, 0, recovered.stderr);
  } finally {
    chmodSync(datadir, 0o700);
  }
  assertSameTree(treeOf(datadir), before, { except: (path) => path === "." });
});

test("a disk that fills up stops it cleanly, and with more room it goes on", async (t) => {
  const cluster = realCluster(t);
  const mounted = mountSmallDisk(t, cluster);
  if (mounted === undefined) return t.skip("mounting a tmpfs is not permitted");
  const { folder } = cluster;
  const original = treeOf(mounted.datadir);
  for (const command of ["encrypt-datadir", "decrypt-datadir"]) {
    mounted.leaveFree(1_400_000);
    const stopped = await startTde(args(command, mounted.datadir), folder);
    assert.equal(stopped.status, 7, stopped.stdout);
    assert.match(stopped.stderr, /no space left|not enough space/i);
    assert.match(stopped.stderr, /hint: .*(Free some space|Nothing was changed)/);
    mounted.leaveFree(64_000_000);
    const ended = await startTde(args(command, mounted.datadir), folder);
    assert.equal(ended.status, 0, ended.stderr);
  }
  assertSameTree(treeOf(mounted.datadir), original);
});

interface SmallDisk {
  readonly datadir: string;
  leaveFree(bytes: number): void;
}

/** A tmpfs with a copy of the cluster; undefined where it cannot be had. */
function mountSmallDisk(t: TestContext, { folder, datadir }: RealCluster): SmallDisk | undefined {
  if (!isRoot) return undefined;
  const point = mkdtempSync(join(tmpdir(), "tde-small-disk-"));
  const mount = ["-t", "tmpfs", "-o", "size=256m", "tmpfs", point];
  const isMounted = spawnSync("mount", mount).status === 0;
  t.after(() => {
    if (isMounted) spawnSync("umount", [point]);
    rmdirSync(point);
  });
  if (!isMounted) return undefined;
  copyTree(datadir, join(point, "data"));
  copyTree(join(folder, "ts_ext"), join(point, "ts_ext"));
  return {
    datadir: join(point, "data"),
    leaveFree(bytes): void {
      const used = Number(
        spawnSync("df", ["--output=used", "-B1", point], { encoding: "utf8" }).stdout.split(
          "\n",
        )[1],
      );
      const { status } = spawnSync("mount", ["-o", `remount,size=${used + bytes}`, point]);
      assert.equal(status, 0);
    },
  };
}

/** Lets another user see the cluster and the keyring; false where it cannot even run the program. */
function canRunAs(t: TestContext, folder: string): boolean {
  const { status } = spawnSync(process.execPath, ["--eval", ""], { cwd: "/", ...NOBODY });
  if (status !== 0) {
    t.skip("another user cannot run node here");
    return false;
  }
  chmodSync(folder, 0o755);
  const keys = ["app.keyring", "app.keyring.state", "kek.key"].map((name) => join(folder, name));
  spawnSync("chown", ["-R", "nobody", ...keys]);
  spawnSync("chmod", ["-R", "a+rX", join(folder, "data"), join(folder, "ts_ext")]);
  return true;
}
