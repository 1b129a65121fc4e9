/** No command touches a directory that a server uses, or that a crashed or copied server left. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { makeOwnFolder } from "../../src/demo/postgres-server.ts";
import { makeCluster, serverHome, temporaryPath } from "../support/cluster.ts";
import { runTdeThreaded, type TdeResult } from "../support/tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

test("a running server's directory is refused, and a copy of it needs --assume-stopped", async () => {
  const cluster = await makeCluster({
    major: 17,
    checksums: true,
    walSegsizeMb: 1,
    content: "small",
  });
  const keys = temporaryPath("keys");
  const tde = (...args: string[]): TdeResult => runTdeThreaded([...args, ...KEYS], { cwd: keys });
  assert.equal(tde("keyring", "create", "--new-key-file").status, 0);
  const copy = join(temporaryPath("copy"), "data");
  const server = await cluster.start();
  try {
    for (const extra of [[], ["--assume-stopped"], ["--output", join(keys, "output")]]) {
      const run = tde("encrypt-datadir", ...extra, "-D", cluster.datadir);
      assert.match(run.stderr, /^tde: error: a server is running on ".*" \(pid \d+\)\ntde: hint: /);
      assert.equal(run.status, 5);
    }
    const wal = tde("wal", "encrypt", join(cluster.datadir, "pg_wal"));
    assert.match(wal.stderr, /^tde: error: a server is running on /);
    assert.equal(wal.status, 5);
    assert.deepEqual(
      [...treeOf(cluster.datadir).keys()].filter((path) => /tde/.test(path)),
      [],
    );
    await server.run("postgres", "CHECKPOINT");
    copyTree(cluster.datadir, copy);
  } finally {
    await server.stop();
  }
  // postmaster.pid names a process that is gone, and another directory.
  const before = treeOf(copy);
  const refused = tde("encrypt-datadir", "-D", copy);
  assert.match(refused.stderr, /was not shut down: its control file says "in production"/);
  assert.equal(refused.status, 5);
  assertSameTree(treeOf(copy), before, { directoryTimes: true });
  for (const command of ["encrypt-datadir", "verify", "decrypt-datadir"]) {
    const assumed = command === "encrypt-datadir" ? ["--assume-stopped"] : [];
    const run = tde(command, ...assumed, "-D", copy);
    assert.equal(run.status, 0, run.stderr);
  }
  assertSameTree(treeOf(copy), before);
  rmSync(copy, { recursive: true });
  cluster.remove();
});

test("a copy whose links lead into a running server's tablespace is refused, and what they lead to stays as it is", async () => {
  const cluster = await makeCluster({
    major: 17,
    checksums: true,
    walSegsizeMb: 1,
    content: "small",
  });
  const keys = temporaryPath("keys");
  const tde = (...args: string[]): TdeResult => runTdeThreaded([...args, ...KEYS], { cwd: keys });
  assert.equal(tde("keyring", "create", "--new-key-file").status, 0);
  const copy = join(temporaryPath("copy"), "data");
  const space = join(cluster.folder, "space");
  makeOwnFolder(space, serverHome(17).user);
  const maker = await cluster.start();
  await maker.run("postgres", `CREATE TABLESPACE space LOCATION '${space}'`);
  await maker.stop();
  // As `cp -a` leaves them: the files are the copy's own, what the links lead to is not.
  copyTree(cluster.datadir, copy);
  const server = await cluster.start();
  const before = treeOf(copy);
  try {
    for (const extra of [[], ["-n"], ["--assume-stopped"], ["--output", join(keys, "output")]]) {
      const run = tde("encrypt-datadir", ...extra, "-D", copy);
      assert.match(
        run.stderr,
        /^tde: error: the server of ".*" \(pid \d+\) uses tablespace ".*", too\ntde: hint: The copy's links lead/,
      );
      assert.equal(run.status, 5);
    }
    assertSameTree(treeOf(copy), before, { directoryTimes: true });
  } finally {
    await server.stop();
  }
  const run = tde("encrypt-datadir", "-n", "-D", copy);
  assert.equal(run.status, 0, run.stderr);
  assert.ok(
    run.stderr.includes(`leads to "${space}": what is there is encrypted, too`),
    run.stderr,
  );
  rmSync(copy, { recursive: true });
  cluster.remove();
});
