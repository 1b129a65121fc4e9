/**
 * Real servers of every major that npm brings: a varied cluster is made, stopped, and must come back with every
 * row of every table.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  assertSameTree,
  type Cluster,
  copyTree,
  findMarkers,
  LIVE_MAJORS,
  makeCluster,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";

for (const major of LIVE_MAJORS) {
  test(`a cluster of PostgreSQL ${major} that was stopped and copied holds what it held`, async () => {
    const cluster = await makeCluster({ major, checksums: major !== 16, content: "varied" });
    try {
      assertMarkersAreThere(cluster);
      const stopped = treeOf(cluster.datadir);
      copyTree(cluster.datadir, `${cluster.folder}/copy`);
      assertSameTree(treeOf(`${cluster.folder}/copy`), stopped, { directoryTimes: true });

      const before = await checksumsOf(cluster);
      assert.deepEqual(before.get("shop.public.orders")?.rows, 4500);
      assert.ok(before.has("second.public.ledger"));
      assert.deepEqual(await checksumsOf(cluster), before);
    } finally {
      cluster.remove();
    }
  });
}

async function checksumsOf(cluster: Cluster): ReturnType<typeof tableChecksums> {
  const server = await cluster.start();
  try {
    return await tableChecksums(server);
  } finally {
    await server.stop();
  }
}

/** A marker that the plain files do not hold would prove nothing when it is missing from the encrypted ones. */
function assertMarkersAreThere(cluster: Cluster): void {
  const found = new Set(findMarkers(cluster.datadir, cluster.markers).map(({ name }) => name));
  const missing = Object.keys(cluster.markers).filter((name) => !found.has(name));
  assert.deepEqual(missing, []);
}
