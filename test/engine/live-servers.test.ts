/**
 * Real servers of every major that npm brings: a varied cluster must come back from encryption with every byte of
 * every file and every row of every table, and must show none of its secrets while it is encrypted.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  assertSameTree,
  type Cluster,
  type ClusterOptions,
  findMarkers,
  LIVE_MAJORS,
  makeCluster,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
import { requireStockTools } from "../support/stock-tools.ts";
import { runTde } from "../support/tde.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

/** One without checksums, one with small WAL segments, one with pg_wal elsewhere. */
function varied(major: number): ClusterOptions {
  return {
    major,
    checksums: major !== 16,
    content: "varied",
    ...(major === 14 ? { walSegsizeMb: 1 } : {}),
    ...(major === 17 ? { walOutside: true } : {}),
  };
}

for (const major of LIVE_MAJORS) {
  test(`a cluster of PostgreSQL ${major} comes back from encryption byte for byte and row for row`, async () => {
    const cluster = await makeCluster(varied(major));
    try {
      const rows = await checksumsOf(cluster);
      assert.equal(rows.get("shop.public.orders")?.rows, 4500);
      assert.equal(rows.get("second.public.ledger")?.rows, 501);
      const stopped = treeOf(cluster.datadir);

      tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
      tde(cluster, "encrypt-datadir", "-D", "data", ...KEYS);
      tde(cluster, "verify", "-D", "data", ...KEYS);
      tde(cluster, "decrypt-datadir", "-D", "data", ...KEYS);
      assertSameTree(treeOf(cluster.datadir), stopped);
      assert.deepEqual(await checksumsOf(cluster), rows);
    } finally {
      cluster.remove();
    }
  });

  test(`an encrypted cluster of PostgreSQL ${major} shows none of its secrets and does not start`, async () => {
    const cluster = await makeCluster(varied(major));
    try {
      // A marker that the plain files do not hold would prove nothing when it is missing later.
      const plain = new Set(markerFiles(cluster).map(([name]) => name));
      const absent = Object.keys(cluster.markers).filter((name) => !plain.has(name));
      assert.deepEqual(absent, []);
      tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
      tde(cluster, "encrypt-datadir", "-D", "data", ...KEYS);
      assert.deepEqual(markerFiles(cluster), []);

      const encrypted = treeOf(cluster.datadir);
      await assert.rejects(cluster.start(), /data_directory_is_encrypted_by_tde__run_tde_decrypt/);
      assertSameTree(treeOf(cluster.datadir), encrypted, { directoryTimes: true });
    } finally {
      cluster.remove();
    }
  });
}

test("stock pg_checksums accepts an encrypted cluster with every kind of relation in it", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await makeCluster(varied(tools.major));
  try {
    tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
    tde(cluster, "encrypt-datadir", "-D", "data", ...KEYS);
    const { status, stdout, stderr } = tools.run("pg_checksums", ["-c", "-D", cluster.datadir]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^Bad checksums: +0$/m);
  } finally {
    cluster.remove();
  }
});

test("a table alone, then its database, then the whole cluster can be encrypted, and all of it comes back", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await makeCluster(varied(tools.major));
  const marked = (): Set<string> => new Set(markerFiles(cluster).map(([name]) => name));
  try {
    const { table, database } = await placeOfOrders(cluster);
    const stopped = treeOf(cluster.datadir);
    const inTable = (): boolean =>
      markerFiles(cluster).some(([name, path]) => name === "table" && path.endsWith(table));
    assert.ok(inTable());
    tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
    const shop = ["table", "index", "toastExternal", "tablespace", "statistics"];
    for (const [scope, hidden, shown] of [
      [
        ["--relation", table],
        ["wal", "log", "setting"],
        [...shop.slice(1), "secondDatabase"],
      ],
      [["--database", database], [...shop, "wal"], ["secondDatabase"]],
      [[], Object.keys(cluster.markers), []],
    ] as const) {
      tde(cluster, "encrypt-datadir", "-D", "data", ...scope, ...KEYS);
      assert.ok(!inTable());
      const now = marked();
      assert.deepEqual(
        [hidden.filter((name) => now.has(name)), shown.filter((name) => !now.has(name))],
        [[], []],
      );
      tde(cluster, "verify", "-D", "data", ...KEYS);
      const checked = tools.run("pg_checksums", ["-c", "-D", cluster.datadir]);
      assert.equal(checked.status, 0, checked.stderr);
      await assert.rejects(cluster.start(), /data_directory_is_encrypted_by_tde/);
    }
    tde(cluster, "decrypt-datadir", "-D", "data", ...KEYS);
    assertSameTree(treeOf(cluster.datadir), stopped);
  } finally {
    cluster.remove();
  }
});

/** What a server says of the table `orders`: its path, and the OID of its database. */
async function placeOfOrders(cluster: Cluster): Promise<{ table: string; database: string }> {
  const server = await cluster.start();
  try {
    const [row] = await server.query(
      "shop",
      "SELECT pg_relation_filepath('orders'), oid FROM pg_database WHERE datname = 'shop'",
    );
    return { table: String(row?.[0]), database: String(row?.[1]) };
  } finally {
    await server.stop();
  }
}

function tde(cluster: Cluster, ...args: readonly string[]): void {
  const { status, stderr } = runTde(args, { cwd: cluster.folder });
  assert.equal(status, 0, stderr);
}

/** In the data directory and in the tablespaces, which lie beside it. */
function markerFiles(cluster: Cluster): (readonly [string, string])[] {
  return findMarkers(cluster.folder, cluster.markers).map(({ name, path }) => [name, path]);
}

async function checksumsOf(cluster: Cluster): ReturnType<typeof tableChecksums> {
  const server = await cluster.start();
  try {
    return await tableChecksums(server);
  } finally {
    await server.stop();
  }
}
