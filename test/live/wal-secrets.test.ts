/**
 * Values that a server of 15 has just written to its WAL, in records of the types that carry rows, keys and messages,
 * are nowhere in the encrypted segments and their sidecars.
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
import { plainRecords } from "../support/plain-records.ts";
import { type SecretValue, writeSecrets } from "../support/secret-workload.ts";
import { requireStockTools, STOCK_MAJOR, type StockTools } from "../support/stock-tools.ts";
import { encryptedCopies, type NamedSegment } from "../support/wal-on-disk.ts";
import { WORKLOAD_SETTINGS } from "../support/wal-workload.ts";

const SEGMENT_MB = 1;

test("rows, keys, messages and names are in no encrypted segment and in no sidecar", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { segments, secrets } = await writeWal(tools);
  assertIsInItsRecords(segments, secrets);
  const files = (await encryptedCopies(segments)).flatMap(({ stored, sidecar }) => [
    stored,
    sidecar,
  ]);
  assert.equal(files.length, 2 * segments.length);
  for (const { what, bytes, pieceBytes } of secrets) {
    for (let at = 0; at + pieceBytes <= bytes.length; at++) {
      const piece = bytes.subarray(at, at + pieceBytes);
      assert.ok(!files.some((file) => file.includes(piece)), what);
    }
  }
});

/** What is nowhere proves nothing unless it was there before. */
function assertIsInItsRecords(
  segments: readonly NamedSegment[],
  secrets: readonly SecretValue[],
): void {
  const run = Buffer.concat(segments.map(({ bytes }) => bytes));
  const records = plainRecords(run, STOCK_MAJOR, SEGMENT_MB * 2 ** 20);
  const rmgrs = resourceManagersOf(STOCK_MAJOR);
  for (const { what, bytes, types } of secrets) {
    const holding = records.filter((record) => record.bytes.includes(bytes));
    const found = new Set(
      holding.map(({ rmid, info }) => {
        const rmgr = rmgrs[rmid];
        return `${rmgr?.name} ${rmgr?.identify(info)?.replace("+INIT", "")}`;
      }),
    );
    assert.deepEqual(
      types.filter((type) => !found.has(type)),
      [],
      `${what} is in ${[...found].join()}`,
    );
  }
}

async function writeWal(
  tools: StockTools,
): Promise<{ segments: NamedSegment[]; secrets: readonly SecretValue[] }> {
  const home: ServerHome = {
    ...serverHome(STOCK_MAJOR),
    programs: { major: STOCK_MAJOR, version: "15 of Debian", binFolder: tools.binFolder },
  };
  const folder = temporaryPath("wal-secrets");
  makeOwnFolder(folder, home.user);
  const datadir = join(folder, "data");
  initializeCluster(home, datadir, {
    checksums: false,
    walSegmentSizeMb: SEGMENT_MB,
    settings: WORKLOAD_SETTINGS,
  });
  const server = await PostgresServer.start(home, datadir);
  const current = async (): Promise<string> => {
    const [[name] = []] = await server.query(
      "postgres",
      "SELECT pg_walfile_name(pg_current_wal_lsn())",
    );
    return String(name);
  };
  try {
    await server.run("postgres", "SELECT pg_switch_wal()");
    const before = await current();
    const secrets = await writeSecrets(server, "postgres", folder);
    const last = await current();
    const wal = join(datadir, "pg_wal");
    const names = readdirSync(wal).filter((name) => /^[0-9A-F]{24}$/.test(name));
    const segments = names
      .filter((name) => name >= before && name <= last)
      .sort()
      .map((name) => ({ name, bytes: readFileSync(join(wal, name)) }));
    return { segments, secrets };
  } finally {
    await server.stop();
  }
}
