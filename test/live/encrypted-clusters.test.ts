/**
 * Real servers of every major that npm brings: a varied cluster must come back from encryption with every byte of
 * every file and every row of every table, and must show none of its secrets while it is encrypted.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { isWalFileName, parseWalFileName } from "../../src/wal/wal-file-name.ts";
import {
  assertSameTree,
  type Cluster,
  type ClusterOptions,
  findMarkers,
  LIVE_MAJORS,
  makeCluster,
  SAMPLED_MAJORS,
  startServer,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
import { assertSameDump } from "../support/same-dump.ts";
import { findStockTools, requireStockTools } from "../support/stock-tools.ts";
import { runTdeThreaded, type TdeResult } from "../support/tde.ts";
import { assertWalAddsUp } from "../support/wal-adds-up.ts";

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
  test(`an encrypted cluster of PostgreSQL ${major} shows no secret, does not start, and comes back to the byte`, async (t) => {
    // A start would empty the queue of notifications, which holds a marker.
    const twin = await makeCluster(varied(major));
    const rows = await checksumsOf(twin);
    twin.remove();
    const cluster = await makeCluster(varied(major));
    try {
      assert.equal(rows.get("shop.public.orders")?.rows, 4500);
      assert.equal(rows.get("second.public.ledger")?.rows, 501);
      const stopped = treeOf(cluster.datadir);
      // A marker that the plain files do not hold would prove nothing when it is missing later.
      const plain = new Set(markerFiles(cluster).map(([name]) => name));
      const absent = Object.keys(cluster.markers).filter((name) => !plain.has(name));
      assert.deepEqual(absent, []);

      tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
      tde(cluster, "encrypt-datadir", "-D", "data", ...KEYS);
      assert.deepEqual(markerFiles(cluster), []);
      assertChecksums(t, major, cluster.datadir);
      const encrypted = treeOf(cluster.datadir);
      await assert.rejects(cluster.start(), /data_directory_is_encrypted_by_tde__run_tde_decrypt/);
      assertSameTree(treeOf(cluster.datadir), encrypted, { directoryTimes: true });

      tde(cluster, "verify", "-D", "data", ...KEYS);
      tde(cluster, "decrypt-datadir", "-D", "data", ...KEYS);
      assertSameTree(treeOf(cluster.datadir), stopped);
      assert.deepEqual(await checksumsOf(cluster), rows);
    } finally {
      cluster.remove();
    }
  });

  test(`WAL of PostgreSQL ${major} reads to its end, and as its pg_waldump reads it where that is there`, async () => {
    const cluster = await makeCluster(varied(major));
    try {
      const wal = join(cluster.datadir, "pg_wal");
      const [first = ""] = readdirSync(wal).filter(isWalFileName).sort();
      const start = parseWalFileName(first, walSegmentBytes(major));
      const args = ["-p", wal, "-s", `${start?.high.toString(16)}/${start?.low.toString(16)}`];
      assert.ok(assertWalAddsUp(args) > 1000);
      const tools = findStockTools(major, "pg_waldump");
      if (tools === undefined) return;
      const program = join(tools.binFolder, "pg_waldump");
      assertSameDump(program, args);
      assertSameDump(program, ["--stats=record", ...args]);
    } finally {
      cluster.remove();
    }
  });
}

/** What changes pages, adds and removes relations and tablespaces, and leaves statistics and logs behind. */
const NIGHT_OF_WORK = [
  "UPDATE orders SET note = note || ' again' WHERE id % 97 = 0",
  "INSERT INTO orders SELECT i, 'late ' || i FROM generate_series(20001, 24000) AS i",
  "DELETE FROM places WHERE id < 100",
  "UPDATE elsewhere SET note = 'moved' WHERE id % 50 = 0",
  "CREATE TABLE fresh AS SELECT i, md5(i::text) AS text FROM generate_series(1, 3000) AS i",
  "CREATE INDEX ON fresh (text)",
  "DROP TABLE popular",
  "TRUNCATE documents",
  "ALTER SYSTEM SET work_mem = '8MB'",
  "VACUUM places",
  "VACUUM FULL events_2024",
  "CHECKPOINT",
];

for (const major of SAMPLED_MAJORS) {
  test(`an encrypted copy of a cluster of PostgreSQL ${major} is synced after more work, and is that cluster`, async (t) => {
    const cluster = await makeCluster(varied(major));
    try {
      const mapping = (from: string, to: string): string =>
        `--tablespace-mapping=${join(cluster.folder, from)}=${join(cluster.folder, to)}`;
      tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
      const into = ["--output", "copy", mapping("ext", "copy.ext")];
      tde(cluster, "encrypt-datadir", "-D", "data", ...into, ...KEYS);
      const server = await cluster.start();
      let rows: Awaited<ReturnType<typeof checksumsOf>>;
      try {
        await server.run("shop", ...NIGHT_OF_WORK);
        rows = await tableChecksums(server);
      } finally {
        await server.stop();
      }
      const stopped = treeOf(cluster.datadir);
      tde(cluster, "keyring", "new-key", ...KEYS);
      tde(cluster, "sync", "data", "copy", ...KEYS);
      assertSameTree(treeOf(cluster.datadir), stopped, { directoryTimes: true });
      const { stdout } = tde(cluster, "verify", "-D", "copy", ...KEYS, "--format", "json");
      const { keys } = JSON.parse(stdout) as { keys: { keyId: number }[] };
      assert.deepEqual(
        keys.map(({ keyId }) => keyId),
        [1, 2],
      );
      assertChecksums(t, major, join(cluster.folder, "copy"));

      const openInto = ["--output", "opened", mapping("copy.ext", "opened.ext")];
      tde(cluster, "decrypt-datadir", "-D", "copy", ...openInto, ...KEYS);
      const opened = join(cluster.folder, "opened");
      // The links lead to where the mapping says, and pg_wal is a folder.
      const except = (path: string): boolean => stopped.get(path)?.kind === "link";
      assertSameTree(treeOf(opened), stopped, { except });
      const again = await startServer(major, opened);
      try {
        assert.deepEqual(await tableChecksums(again), rows);
      } finally {
        await again.stop();
      }
    } finally {
      cluster.remove();
    }
  });
}

/** Where the cluster has checksums, and is of the major whose stock tools are there. */
function assertChecksums(t: TestContext, major: number, datadir: string): void {
  const tools = requireStockTools(t);
  if (tools?.major !== major) return;
  const { status, stdout, stderr } = tools.run("pg_checksums", ["-c", "-D", datadir]);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^Bad checksums: +0$/m);
}

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

function walSegmentBytes(major: number): number {
  return (varied(major).walSegsizeMb ?? 16) * 2 ** 20;
}

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

function tde(cluster: Cluster, ...args: readonly string[]): TdeResult {
  const result = runTdeThreaded(args, { cwd: cluster.folder });
  assert.equal(result.status, 0, result.stderr);
  return result;
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
