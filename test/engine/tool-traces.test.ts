/**
 * What PostgreSQL's own tools leave of an encrypted directory when they write into it or copy from it: verify must
 * say which of them it was, and must never take the rest for a directory that was not encrypted. pg_rewind is the
 * real one; what pg_combinebackup leaves is made as the wider run of stock tools found it.
 */
import assert from "node:assert/strict";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import { makeCluster, startServer, temporaryPath } from "../support/cluster.ts";
import { type Diverged, diverge, leaveOneDatabase, rewind } from "../support/diverged.ts";
import { copyOf, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { requireStockTools, type StockTools } from "../support/stock-tools.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

let diverged: Promise<Diverged> | undefined;

/** Copies of a pair that is made once. */
async function divergedCopies(tools: StockTools): Promise<Diverged> {
  diverged ??= makeDiverged(tools);
  const { left, right } = await diverged;
  return { left: copyOwned(left), right: copyOwned(right) };
}

async function makeDiverged({ major }: StockTools): Promise<Diverged> {
  const { datadir: left } = await makeCluster({ major, checksums: true, content: "small" });
  const pair = { left, right: copyOwned(left) };
  await diverge(pair, (datadir) => startServer(major, datadir));
  leaveOneDatabase(pair.left);
  leaveOneDatabase(pair.right);
  return pair;
}

function copyOwned(datadir: string): string {
  const folder = temporaryPath("diverged");
  giveTree(folder, serverUser());
  copyTree(datadir, join(folder, "data"));
  return join(folder, "data");
}

test("pg_rewind onto an encrypted directory with plain WAL is named by verify, and nothing passes for plain", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { left, right } = await divergedCopies(tools);
  const engine = new SmallEngine();
  await engine.encrypt(left, { wal: "skip" });
  const { status, stderr } = rewind(tools, left, right);
  assert.equal(status, 0, stderr);
  const top = readdirSync(left).filter((name) => name.startsWith("tde"));
  assert.deepEqual(top, [], "pg_rewind removed what its source does not have");

  const report = await engine.verify(left);
  assert.equal(report.ok, false);
  assert.deepEqual(
    report.traces.map(({ tool }) => tool),
    ["pg_rewind"],
  );
  assert.match(report.traces[0]?.happened ?? "", /on this directory while it was encrypted/);
  const before = treeOf(left);
  await assert.rejects(engine.encrypt(left), { code: "state", message: /is sealed already/ });
  await assert.rejects(engine.decrypt(left), { code: "integrity", message: /is missing/ });
  assertSameTree(treeOf(left), before);
});

test("pg_rewind onto an encrypted directory with sealed WAL stops before it changes anything", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { left, right } = await divergedCopies(tools);
  const engine = new SmallEngine();
  await engine.encrypt(left);
  const before = treeOf(left);
  const { status, stderr } = rewind(tools, left, right);
  assert.equal(status, 1);
  assert.match(stderr, /could not read WAL record/);
  assertSameTree(treeOf(left), before);
});

test("pg_rewind from an encrypted directory is named by verify", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { left, right } = await divergedCopies(tools);
  const engine = new SmallEngine();
  await engine.encrypt(right);
  const source = treeOf(right);
  const { status, stderr } = rewind(tools, left, right);
  assert.equal(status, 0, stderr);
  assertSameTree(treeOf(right), source);
  const { ok, traces } = await engine.verify(left);
  assert.equal(ok, false);
  assert.match(traces[0]?.happened ?? "", /^pg_rewind copied the changed files of an encrypted/);
});

test("a directory that was rewound while it was plain and encrypted then has no trace", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { left, right } = await divergedCopies(tools);
  assert.equal(rewind(tools, left, right).status, 0);
  const engine = new SmallEngine();
  await engine.encrypt(left);
  const { problems, traces } = await engine.verify(left);
  assert.deepEqual([problems, traces], [[], []]);
});

test("sealed pages without manifest, guard and sidecars are called what they are, with and without a key", async () => {
  const sealed = makeSmallCluster();
  const engine = new SmallEngine();
  await engine.encrypt(sealed);
  const left = copyOf(sealed);
  for (const [path, { kind }] of treeOf(left)) {
    if (kind === "file" && /_tde$|\/tde\./.test(path)) rmSync(join(left, path));
  }
  writeFileSync(join(left, "postgresql.auto.conf"), "");
  for (const report of [await engine.verify(left), await engine.verifyWithoutKey(left)]) {
    assert.equal(report.ok, false);
    assert.deepEqual(
      report.traces.map(({ tool }) => tool),
      ["pg_combinebackup"],
    );
  }
  await assert.rejects(engine.decrypt(left), { code: "integrity" });
});
