/**
 * PostgreSQL's own programs as Debian installs them (postgresql-15, or the major asked for): the judges of what
 * tde leaves on disk. The npm servers come without them. pg_controldata reads every major of its own pg_control
 * version (13 to 16 share one); pg_checksums fits its own major only, since it looks for `PG_<major>_...` in
 * tablespaces.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { TestContext } from "node:test";
import { serverUser } from "../../src/demo/server-user.ts";

export const STOCK_MAJOR = 15;

export interface ToolResult {
  /** Exit code; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /**
   * Run as the user who runs servers: what `postgres` needs, which refuses root, with a data directory that
   * belongs to it (`giveTree`). By default for `postgres` only.
   */
  readonly asServerUser?: boolean;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface StockTools {
  readonly major: number;
  readonly binFolder: string;
  /** Runs a program such as `pg_checksums` to its end; a server that does start is ended after 30 s. */
  run(program: string, args: readonly string[], options?: RunOptions): ToolResult;
}

/**
 * The tools, or undefined where they are missing: then the test has been marked as skipped and returns. Where CI
 * is set, a missing tool fails the test instead, so that a green run means what it says.
 */
export function requireStockTools(
  t: TestContext,
  major: number = STOCK_MAJOR,
): StockTools | undefined {
  const binFolder = `/usr/lib/postgresql/${major}/bin`;
  if (existsSync(join(binFolder, "pg_checksums"))) return stockToolsIn(major, binFolder);
  skipOrFail(t, `needs PostgreSQL's own tools: apt-get install postgresql-${major}`);
  return undefined;
}

/** The tools of a major in TDE_STOCK_TOOLS/<major>/bin, else Debian's; undefined where this program is in neither. */
export function findStockTools(major: number, program: string): StockTools | undefined {
  const others = process.env["TDE_STOCK_TOOLS"];
  const folders = [
    ...(others === undefined ? [] : [join(resolve(others), `${major}/bin`)]),
    `/usr/lib/postgresql/${major}/bin`,
  ];
  const binFolder = folders.find((folder) => existsSync(join(folder, program)));
  return binFolder === undefined ? undefined : stockToolsIn(major, binFolder);
}

export function stockToolsIn(major: number, binFolder: string): StockTools {
  return { major, binFolder, run: runIn(binFolder) };
}

/** pgBackRest, run as the user who runs servers; undefined as above. */
export function requirePgBackRest(
  t: TestContext,
): ((args: readonly string[]) => ToolResult) | undefined {
  const folder = "/usr/bin";
  if (existsSync(join(folder, "pgbackrest"))) {
    return (args) => runIn(folder)("pgbackrest", args, { asServerUser: true });
  }
  skipOrFail(t, "needs pgBackRest: apt-get install pgbackrest");
  return undefined;
}

function skipOrFail(t: TestContext, message: string): void {
  assert.ok(!isCi(), message);
  t.skip(message);
}

function isCi(): boolean {
  const value = process.env["CI"];
  return value !== undefined && value !== "" && value !== "false";
}

function runIn(binFolder: string): StockTools["run"] {
  return (program, args, options = {}) => {
    const user = (options.asServerUser ?? program === "postgres") ? serverUser() : undefined;
    const { status, stdout, stderr, error } = spawnSync(join(binFolder, program), args, {
      ...user,
      cwd: "/",
      encoding: "utf8",
      env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC", ...options.env },
      input: options.input ?? "",
      timeout: 30_000,
      killSignal: "SIGQUIT",
      maxBuffer: 1 << 26,
    });
    if (error !== undefined && status === null && stdout === null) throw error;
    return { status, stdout: stdout ?? "", stderr: stderr ?? "" };
  };
}
