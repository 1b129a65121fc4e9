/** Two data directories of one cluster that went different ways, as after a failover: what pg_rewind is for. */
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import type { PostgresServer } from "./cluster.ts";
import type { StockTools, ToolResult } from "./stock-tools.ts";

export interface Diverged {
  readonly left: string;
  /** Was promoted: on another timeline. */
  readonly right: string;
}

/**
 * Lets two equal stopped directories, with a database `shop`, diverge; both are stopped again.
 * @param start - starts a server on one of them.
 */
export async function diverge(
  { left, right }: Diverged,
  start: (datadir: string) => Promise<PostgresServer>,
): Promise<void> {
  writeFileSync(join(right, "standby.signal"), "");
  giveTree(right, serverUser());
  for (const datadir of [right, left]) {
    const server = await start(datadir);
    if (datadir === right) await server.query("shop", "SELECT pg_promote()");
    await server.run(
      "shop",
      "CREATE TABLE diverged AS SELECT i, repeat('d', 50) FROM generate_series(1, 500) AS i",
      "CHECKPOINT",
    );
    await server.stop();
  }
}

/** Leaves of a stopped cluster only the newest database: the others are only many files. */
export function leaveOneDatabase(datadir: string): void {
  const databases = readdirSync(join(datadir, "base")).sort((a, b) => Number(a) - Number(b));
  for (const oid of databases.slice(0, -1)) {
    rmSync(join(datadir, "base", oid), { recursive: true });
  }
}

export function rewind(tools: StockTools, target: string, source: string): ToolResult {
  const args = ["--no-sync", `--target-pgdata=${target}`, `--source-pgdata=${source}`];
  return tools.run("pg_rewind", args, { asServerUser: true });
}
