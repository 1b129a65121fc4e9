/**
 * A keyring that was given a new key in two places has two keys of one id. The wrong one is told from damage, at
 * once and in every command.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyError } from "../../src/errors.ts";
import { copyOf, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { testKeys } from "../support/keys.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

test("another key of the same keyring and id is a key error, not damage", async () => {
  const datadir = copyOf(makeSmallCluster());
  await new SmallEngine().encrypt(datadir);
  const before = treeOf(datadir);
  const other = new SmallEngine({ keys: testKeys(1, { fill: 100 }) });
  await assert.rejects(other.decrypt(datadir), KeyError);
  const report = await other.verify(datadir);
  assert.equal(report.ok, false);
  assert.ok(
    report.problems.some(({ kind, message }) => kind === "key" && /other keys/.test(message)),
  );
  assertSameTree(treeOf(datadir), before);
});
