/**
 * A real cluster of which one page in a hundred is damaged: decrypted without them, it starts, and every row of every other page
 * is what the server had.
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import { type Cluster, LIVE_MAJORS, makeCluster, type PostgresServer } from "../support/cluster.ts";
import { flipBit } from "../support/forger.ts";
import { runTdeThreaded } from "../support/tde.ts";

type Row = Awaited<ReturnType<PostgresServer["query"]>>[number];

const PAGE_BYTES = 8192;
const TABLES = ["orders", "many"];
const ENV = { TDE_KEYRING: "app.keyring", TDE_KEY_FILE: "kek.key" };

test("of a cluster with one page in a hundred damaged all other rows come back", async () => {
  const major = LIVE_MAJORS[0];
  assert.ok(major !== undefined);
  const cluster = await makeCluster({ major, checksums: true, content: "small" });
  try {
    const server = await cluster.start();
    await server.query(
      "shop",
      "CREATE TABLE many AS SELECT i AS id, repeat(md5(i::text), 10) AS note FROM generate_series(1, 12000) AS i",
    );
    await server.query("shop", "CREATE INDEX ON many (id)");
    const rows = await rowsOf(server);
    const files = await filesOf(server);
    await server.stop();

    tde(cluster, 0, "keyring", "create", "--new-key-file");
    tde(cluster, 0, "encrypt-datadir", "-D", "data");
    const damaged = new Map(files.map((file) => [file, damageOneInHundred(cluster, file)]));
    tde(cluster, 3, "decrypt-datadir", "-D", "data");
    const report = JSON.parse(
      tde(cluster, 3, "decrypt-datadir", "-D", "data", "--damaged=keep", "--format=json"),
    ) as DecryptReport;

    assert.deepEqual(report.damaged.map(({ path }) => path).sort(), [...files].sort());
    for (const { path, relation, lost } of report.damaged) {
      const blocks = lost.flatMap(({ first, count }) =>
        Array.from({ length: count }, (_, i) => first + i),
      );
      assert.deepEqual(blocks, damaged.get(path));
      assert.equal(relation, `shop.public.${TABLES[files.indexOf(path)]}`);
    }
    const again = await cluster.start();
    const left = await rowsOf(again);
    await again.stop();
    for (const [i, table] of TABLES.entries()) {
      const lost = new Set(damaged.get(files[i] ?? ""));
      const expected = (rows.get(table) ?? []).filter(([ctid]) => !lost.has(blockOf(ctid ?? "")));
      assert.ok(expected.length > 0 && expected.length < (rows.get(table)?.length ?? 0));
      assert.deepEqual(left.get(table), expected, table);
    }
  } finally {
    cluster.remove();
  }
});

/** Each row with its place. */
async function rowsOf(server: PostgresServer): Promise<Map<string, readonly Row[]>> {
  const rows = new Map<string, readonly Row[]>();
  for (const table of TABLES)
    rows.set(
      table,
      await server.query(
        "shop",
        `SELECT ctid::text, md5(t::text) FROM ${table} AS t ORDER BY ctid`,
      ),
    );
  return rows;
}

async function filesOf(server: PostgresServer): Promise<string[]> {
  const names = TABLES.map((table) => `pg_relation_filepath('${table}')`).join(", ");
  const [files = []] = await server.query("shop", `SELECT ${names}`);
  return files.map(String);
}

/** @returns the blocks, at least one. */
function damageOneInHundred({ datadir }: Cluster, file: string): number[] {
  const path = join(datadir, file);
  const pages = statSync(path).size / PAGE_BYTES;
  const blocks: number[] = [];
  for (let block = Math.min(2, pages - 1); block < pages; block += 100) {
    flipBit(path, (block * PAGE_BYTES + 30 + ((block * 7919) % 8000)) * 8);
    blocks.push(block);
  }
  return blocks;
}

function blockOf(ctid: string): number {
  return Number(/^\((\d+),/.exec(ctid)?.[1]);
}

function tde(cluster: Cluster, status: number, ...args: readonly string[]): string {
  const run = runTdeThreaded(args, { cwd: cluster.folder, env: ENV });
  assert.equal(run.status, status, run.stderr);
  return run.stdout;
}
