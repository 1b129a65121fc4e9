/**
 * Rotation of real clusters: a table, a database and all the rest move to a new key, the old key is destroyed, and the
 * server finds every row and a sound index: of 15, whose stock tools are there, and with TDE_TEST_MAJORS=all of every
 * major that npm brings.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PostgresServer } from "../../src/demo/postgres-server.ts";
import {
  assertSameTree,
  type Cluster,
  LIVE_MAJORS,
  makeCluster,
  serverHome,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
import { keyIdsOnDisk, keysOf } from "../support/key-ids-on-disk.ts";
import { requireStockTools, STOCK_MAJOR } from "../support/stock-tools.ts";
import { runTdeThreaded } from "../support/tde.ts";

const ENV = { TDE_KEYRING: "app.keyring", TDE_KEY_FILE: "kek.key" };
const majors =
  process.env["TDE_TEST_MAJORS"] === "all"
    ? LIVE_MAJORS.filter((major) => major !== STOCK_MAJOR)
    : [];

for (const major of majors) {
  test(`a cluster of PostgreSQL ${major} moves to a new key, and needs the old one no more`, async () => {
    const cluster = await makeCluster({
      major,
      checksums: true,
      walSegsizeMb: 1,
      content: "varied",
    });
    try {
      await moveToNewKey(cluster, () => {});
    } finally {
      cluster.remove();
    }
  });
}

test("stock tools accept a cluster at every step of a rotation, and pg_amcheck its end", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { major, binFolder } = tools;
  const cluster = await makeCluster({ major, checksums: true, walSegsizeMb: 1, content: "varied" });
  try {
    await moveToNewKey(cluster, () => {
      const { status, stderr } = tools.run("pg_checksums", ["-c", "-D", cluster.datadir]);
      assert.equal(status, 0, stderr);
    });
    // npm's servers come without amcheck.
    const home = serverHome(major);
    const programs = { ...home.programs, binFolder };
    const server = await PostgresServer.start({ ...home, programs }, cluster.datadir);
    try {
      const [[socket] = []] = await server.query("postgres", "SHOW unix_socket_directories");
      const arguments_ = ["-h", socket ?? "", "-U", "postgres", "--install-missing", "--all"];
      const checked = tools.run("pg_amcheck", [...arguments_, "--heapallindexed"]);
      assert.equal(checked.status, 0, checked.stdout + checked.stderr);
    } finally {
      await server.stop();
    }
  } finally {
    cluster.remove();
  }
});

/** Ends with the directory decrypted, as it was. */
async function moveToNewKey(cluster: Cluster, afterStep: () => void): Promise<void> {
  const server = await cluster.start();
  const rows = await tableChecksums(server);
  const [[table, index] = []] = await server.query(
    "shop",
    "SELECT pg_relation_filepath('orders'), pg_relation_filepath('orders_pkey')",
  );
  const [[database] = []] = await server.query(
    "postgres",
    "SELECT oid::text FROM pg_database WHERE datname = 'second'",
  );
  await server.stop();
  const stopped = treeOf(cluster.datadir);

  tde(cluster, "keyring", "create", "--new-key-file");
  for (const step of [
    ["encrypt-datadir", "-D", "data"],
    ["rotate", "-D", "data", "--relation", table ?? "", "--relation", index ?? ""],
    ["rotate", "-D", "data", "--database", database ?? ""],
    ["rotate", "-D", "data", "--from-key", "1"],
  ]) {
    tde(cluster, ...step);
    afterStep();
    if (step[0] === "encrypt-datadir") tde(cluster, "keyring", "new-key");
  }
  assert.deepEqual(keysOf(keyIdsOnDisk(cluster.datadir)), [2]);
  tde(cluster, "keyring", "destroy-key", "1", "-D", "data");
  tde(cluster, "verify", "-D", "data");
  tde(cluster, "decrypt-datadir", "-D", "data");
  assertSameTree(treeOf(cluster.datadir), stopped);

  const again = await cluster.start();
  assert.deepEqual(await tableChecksums(again), rows);
  await again.stop();
}

function tde(cluster: Cluster, ...args: readonly string[]): void {
  const { status, stderr } = runTdeThreaded(args, { cwd: cluster.folder, env: ENV });
  assert.equal(status, 0, stderr);
}
