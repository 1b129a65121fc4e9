/**
 * `tde waldump` beside the real pg_waldump of 15 on WAL that a server of 15 has just written: statements that provoke
 * many types of records, and pgbench. Other majors: encrypted-clusters.test.ts.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  initializeCluster,
  makeOwnFolder,
  PostgresServer,
  type ServerHome,
} from "../../src/demo/postgres-server.ts";
import { resourceManagersOf } from "../../src/wal/rmgr/index.ts";
import { serverHome, temporaryPath } from "../support/cluster.ts";
import { assertSameDump } from "../support/same-dump.ts";
import { requireStockTools, STOCK_MAJOR, type StockTools } from "../support/stock-tools.ts";
import { runWorkload, WORKLOAD_SETTINGS } from "../support/wal-workload.ts";

test("WAL of a server of 15 prints as its own pg_waldump prints it, byte for byte", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { wal, workload, pgbench } = await writeWal(tools);
  const builtin = resourceManagersOf(STOCK_MAJOR)
    .flatMap((rmgr) => rmgr ?? [])
    .slice(0, 22);
  const program = join(tools.binFolder, "pg_waldump");
  const same = (...args: readonly string[]): string =>
    assertSameDump(program, ["-p", wal, ...args]).toString("latin1");

  const types = same("--stats=record", ...workload);
  assert.ok(types.split("\n").length > 90, `the workload has too few types of records:\n${types}`);
  const records = same(...workload);
  same("--bkp-details", ...workload);
  same("--stats", ...workload);
  assert.match(same("--fullpage", "--bkp-details", ...workload), /for WAL verification/);
  for (const { name } of builtin) {
    const some = same("--rmgr", name, ...workload) !== "";
    // A page of CLOG is begun every 32768 transactions; only extensions write generic records.
    if (!["CLOG", "Generic"].includes(name)) assert.ok(some, `no record of ${name}`);
  }
  const relation = /rel (\d+\/\d+\/\d+) blk 1/.exec(records)?.[1] ?? "";
  assert.notEqual(same("--relation", relation, "--block", "1", ...workload), "");
  assert.notEqual(same("--fork", "vm", ...workload), "");
  const xid = /rmgr: Transaction .* tx: +(\d+), .* COMMIT/.exec(records)?.[1] ?? "";
  assert.notEqual(same("--xid", xid, ...workload), "");
  // From within a record up to where the WAL ends.
  const [, lsn] = /\n.* lsn: (\S+),.*\n$/.exec(same("--limit", "500", ...workload)) ?? [];
  same("--start", (lsn ?? "").replace(/.$/, "9"));

  same(...pgbench);
  same("--stats=record", ...pgbench);
});

type Range = readonly [first: string, last: string];

/** @returns the folder of the segments, and those that hold what the statements and what pgbench wrote. */
async function writeWal(
  tools: StockTools,
): Promise<{ wal: string; workload: Range; pgbench: Range }> {
  const home: ServerHome = {
    ...serverHome(STOCK_MAJOR),
    programs: { major: STOCK_MAJOR, version: "15 of Debian", binFolder: tools.binFolder },
  };
  const folder = temporaryPath("waldump-live");
  makeOwnFolder(folder, home.user);
  const datadir = join(folder, "data");
  const tablespace = join(folder, "ts");
  makeOwnFolder(tablespace, home.user);
  initializeCluster(home, datadir, {
    checksums: false,
    walSegmentSizeMb: 1,
    settings: WORKLOAD_SETTINGS,
  });
  const server = await PostgresServer.start(home, datadir);
  const current = async (): Promise<string> => {
    const [row] = await server.query("w", "SELECT pg_walfile_name(pg_current_wal_lsn())");
    return String(row?.[0]);
  };
  try {
    await runWorkload(server, tablespace);
    const between = await current();
    const socket = readFileSync(join(datadir, "postmaster.pid"), "utf8").split("\n")[4] ?? "";
    const connect = ["-h", socket, "-U", "postgres"];
    for (const args of [
      ["-i", "-q"],
      ["-t", "200", "-c", "4", "-n"],
    ]) {
      const { status, stderr } = tools.run("pgbench", [...connect, ...args, "w"]);
      assert.equal(status, 0, stderr);
    }
    await server.run("w", "SELECT pg_switch_wal()");
    const wal = join(datadir, "pg_wal");
    const first = readdirSync(wal)
      .filter((name) => /^[0-9A-F]{24}$/.test(name))
      .sort()[0];
    return { wal, workload: [first ?? "", between], pgbench: [between, await current()] };
  } finally {
    await server.stop();
  }
}
