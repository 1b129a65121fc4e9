/**
 * Real servers of every major that npm brings: a varied cluster is made and stopped, must come back with every row
 * of every table, and must show none of its secrets once it is encrypted.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import {
  assertSameTree,
  type Cluster,
  type ClusterOptions,
  copyTree,
  findMarkers,
  LIVE_MAJORS,
  makeCluster,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
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
  test(`a cluster of PostgreSQL ${major} that was stopped and copied holds what it held`, async () => {
    const cluster = await makeCluster(varied(major));
    try {
      const stopped = treeOf(cluster.datadir);
      const copy = join(cluster.folder, "copy");
      copyTree(cluster.datadir, copy);
      assertSameTree(treeOf(copy), stopped, { directoryTimes: true });

      const before = await checksumsOf(cluster);
      assert.equal(before.get("shop.public.orders")?.rows, 4500);
      assert.equal(before.get("second.public.ledger")?.rows, 501);
      assert.deepEqual(await checksumsOf(cluster), before);
    } finally {
      cluster.remove();
    }
  });

  test(`an encrypted cluster of PostgreSQL ${major} shows none of its secrets and does not start`, async () => {
    const cluster = await makeCluster(varied(major));
    try {
      // A marker that the plain files do not hold would prove nothing when it is missing later.
      const plain = new Set(markerFiles(cluster).map(([name]) => name));
      assert.deepEqual(
        Object.keys(cluster.markers).filter((name) => !plain.has(name)),
        [],
      );
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
