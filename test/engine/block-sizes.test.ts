/**
 * Clusters of every block size that PostgreSQL can be built with. Their pages are made from those of 8 kB, so that
 * most of their headers are garbage: that, too, must come back.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { edit, flipBit } from "../support/forger.ts";
import { copyOf, LARGE, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

/** Offset in pg_control of 17. */
const BLOCK_SIZE_OFFSET = 216;

for (const blockSize of [1024, 2048, 4096, 16384, 32768]) {
  test(`a cluster with blocks of ${blockSize} bytes is encrypted, verified and comes back`, async () => {
    const datadir = makeSmallCluster();
    edit(join(datadir, "global/pg_control"), (bytes) => {
      bytes.writeUInt32LE(blockSize, BLOCK_SIZE_OFFSET);
      bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
    });
    const plain = treeOf(datadir);
    const engine = new SmallEngine();
    await engine.encrypt(datadir);
    assert.deepEqual((await engine.verify(datadir)).problems, []);

    const damaged = copyOf(datadir);
    const block = 17;
    flipBit(join(damaged, LARGE), (block * blockSize + 500) * 8);
    const { problems } = await engine.verify(damaged);
    assert.ok(problems.some(({ kind, path }) => kind === "tag" && path === LARGE));
    assert.deepEqual(new Set(problems.map((problem) => problem.block)), new Set([block]));

    await engine.decrypt(datadir);
    assertSameTree(treeOf(datadir), plain);
  });
}
