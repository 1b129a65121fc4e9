/**
 * PostgreSQL 19, for which npm has no server: a directory that one wrote comes back byte for byte.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { unpackFixture } from "../support/fixture.ts";
import { runTdeThreaded } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

test("a directory of PostgreSQL 19 comes back from encryption byte for byte", (t) => {
  const folder = temporaryDirectory(t);
  unpackFixture(19, folder);
  const datadir = join(folder, "data");
  const before = treeOf(datadir);
  const keys = ["--keyring", "app.keyring", "--key-file", "kek.key"];
  const tde = (...args: string[]): string => {
    const { status, stdout, stderr } = runTdeThreaded([...args, ...keys], { cwd: folder });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  tde("keyring", "create", "--new-key-file");
  tde("encrypt-datadir", "-D", "data");
  assert.throws(() => assertSameTree(treeOf(datadir), before));
  assert.match(tde("verify", "-D", "data"), /^verified: every tag of/m);
  tde("decrypt-datadir", "-D", "data");
  assertSameTree(treeOf(datadir), before);
});
