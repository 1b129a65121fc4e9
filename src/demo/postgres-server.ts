/**
 * A real PostgreSQL server for the demo and the tests: made, started, asked and stopped. It listens on a socket
 * in a private folder only, never syncs, and is always ended: by `stop`, or by the keeper of its folder.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client, ClientConfig } from "pg";
import { StateError } from "../errors.ts";
import type { PostgresPrograms } from "./embedded-postgres.ts";
import type { ServerUser } from "./server-user.ts";
import type { TemporaryFolder } from "./temporary-folder.ts";

/** What every cluster and server here needs to know. */
export interface ServerHome {
  readonly programs: PostgresPrograms;
  readonly user: ServerUser | undefined;
  readonly folder: TemporaryFolder;
}

export interface InitOptions {
  readonly checksums: boolean;
  /** `--wal-segsize`; 16 by default. */
  readonly walSegmentSizeMb?: number;
  /** `--waldir`: an absolute path; pg_wal becomes a link to it. */
  readonly walFolder?: string;
  /** Lines for the end of postgresql.conf. */
  readonly settings?: readonly string[];
}

/** The superuser of every cluster here. */
export const SUPERUSER = "postgres";
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;
const POLL_MS = 25;

/** One row: every column as PostgreSQL prints it. */
export type Row = readonly (string | null)[];

/**
 * Makes a cluster with initdb: UTF8, locale C, superuser `postgres`, trust.
 * @param datadir - an absolute path in a folder that the server's user can reach; must not exist.
 * @throws {StateError} with initdb's own words when it fails.
 */
export function initializeCluster(home: ServerHome, datadir: string, options: InitOptions): void {
  makeOwnFolder(datadir, home.user);
  const locale = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"];
  // On by default from 18 on; before, there is no option to say no.
  const checksumsOff = home.programs.major >= 18 ? ["--no-data-checksums"] : [];
  const { status, stdout, stderr, error } = spawnSync(
    join(home.programs.binFolder, "initdb"),
    [
      "--no-sync",
      `--pgdata=${datadir}`,
      ...locale,
      ...(options.checksums ? ["--data-checksums"] : checksumsOff),
      `--wal-segsize=${options.walSegmentSizeMb ?? 16}`,
      ...(options.walFolder === undefined ? [] : [`--waldir=${options.walFolder}`]),
    ],
    { ...home.user, cwd: "/", encoding: "utf8", env: environment() },
  );
  if (status !== 0) {
    const said = (error?.message ?? stderr + stdout).trim().split("\n").slice(-4).join("; ");
    throw new StateError(`initdb of PostgreSQL ${home.programs.version} failed: ${said}`);
  }
  const lines = ["", ...(options.settings ?? []), ""].join("\n");
  appendFileSync(join(datadir, "postgresql.conf"), lines);
}

/** A folder that belongs to the server's user, mode 0700. */
export function makeOwnFolder(path: string, user: ServerUser | undefined): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

export class PostgresServer {
  readonly datadir: string;
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #home: ServerHome;
  readonly #socketFolder: string;

  private constructor(
    home: ServerHome,
    datadir: string,
    socketFolder: string,
    child: ChildProcess,
  ) {
    this.#home = home;
    this.datadir = datadir;
    this.#socketFolder = socketFolder;
    this.#process = child;
    this.pid = child.pid ?? 0;
  }

  /**
   * Starts a server and waits until it answers.
   * @param settings - `name=value`, for this start only.
   * @throws {StateError} when it ends instead: the message holds what it wrote.
   */
  static async start(
    home: ServerHome,
    datadir: string,
    settings: readonly string[] = [],
  ): Promise<PostgresServer> {
    // Short: with "/.s.PGSQL.5432" it has to fit into 107 bytes.
    const socketFolder = mkdtempSync(join(home.folder.path, "s-"));
    if (home.user !== undefined) chownSync(socketFolder, home.user.uid, home.user.gid);
    const log = `${socketFolder}.log`;
    const logFile = openSync(log, "w", 0o600);
    const allSettings = ["listen_addresses=", "autovacuum=off", ...settings];
    // Detached: an interrupt at the terminal is for us, and we (or the keeper) end the server.
    const child = spawn(
      join(home.programs.binFolder, "postgres"),
      ["-F", "-D", datadir, "-k", socketFolder, ...allSettings.flatMap((one) => ["-c", one])],
      {
        ...home.user,
        cwd: "/",
        env: environment(),
        stdio: ["ignore", logFile, logFile],
        detached: true,
      },
    );
    closeSync(logFile);
    if (child.pid === undefined) {
      const [error] = await once(child, "error");
      throw new StateError("could not start PostgreSQL", { cause: error });
    }
    home.folder.watch(child.pid);
    // A caller that fails before it stops the server must be able to end; the keeper then ends the server.
    child.unref();
    const server = new PostgresServer(home, datadir, socketFolder, child);
    try {
      await server.#waitUntilReady(log);
    } catch (error) {
      await server.crash();
      throw error;
    }
    return server;
  }

  /** The rows of one statement. */
  async query(database: string, statement: string): Promise<Row[]> {
    return this.#connected(database, async (client) => {
      const result = await client.query<(string | null)[]>({ text: statement, rowMode: "array" });
      return result.rows;
    });
  }

  /** Runs statements one by one, each in a transaction of its own, in one session. */
  async run(database: string, ...statements: readonly string[]): Promise<void> {
    await this.#connected(database, async (client) => {
      for (const statement of statements) await client.query(statement);
    });
  }

  /** As `pg_ctl -m fast stop -w`: returns when the cluster is shut down and none of its processes is left. */
  async stop(): Promise<void> {
    const family = [this.pid, ...childrenOf(this.pid)];
    this.#process.kill("SIGINT");
    if (!(await waitUntilGone(family, STOP_TIMEOUT_MS))) {
      await this.crash();
      throw new StateError(`the server on ${this.datadir} did not stop`);
    }
    this.#home.folder.forget(this.pid);
    while (!this.#hasEnded()) await sleep(POLL_MS);
    if (this.#process.exitCode !== 0) {
      throw new StateError(`the server on ${this.datadir} did not stop cleanly`);
    }
  }

  /** Ends all of its processes at once, as a power cut would. */
  async crash(): Promise<void> {
    const family = [this.pid, ...childrenOf(this.pid)];
    for (const pid of family) signal(pid, "SIGSTOP");
    for (const pid of family) signal(pid, "SIGKILL");
    await waitUntilGone(family, STOP_TIMEOUT_MS);
    this.#home.folder.forget(this.pid);
  }

  #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  async #waitUntilReady(log: string): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    let last: unknown;
    while (Date.now() < deadline) {
      if (this.#hasEnded()) {
        const said = readFileSync(log, "utf8").trim();
        throw new StateError(`PostgreSQL ${this.#home.programs.version} did not start: ${said}`);
      }
      try {
        await this.query(SUPERUSER, "SELECT 1");
        return;
      } catch (error) {
        if (error instanceof StateError) throw error;
        last = error;
      }
      await sleep(POLL_MS);
    }
    throw new StateError(`PostgreSQL ${this.#home.programs.version} was not ready in time`, {
      cause: last,
    });
  }

  async #connected<T>(database: string, action: (client: Client) => Promise<T>): Promise<T> {
    const PgClient = await loadClient();
    const client = new PgClient(connection(this.#socketFolder, database));
    // A server that ends closes the connection; the query that was under way tells of it.
    client.on("error", () => undefined);
    await client.connect();
    try {
      return await action(client);
    } finally {
      await client.end();
    }
  }
}

function connection(socketFolder: string, database: string): ClientConfig {
  return {
    host: socketFolder,
    port: 5432,
    user: SUPERUSER,
    database,
    ssl: false,
    options: "-c TimeZone=UTC -c DateStyle=ISO -c bytea_output=hex",
    // Everything as text: what PostgreSQL prints, without a JavaScript number or Date in between.
    types: { getTypeParser: () => (text: string) => text },
  };
}

async function loadClient(): Promise<typeof Client> {
  try {
    return (await import("pg")).Client;
  } catch (error) {
    throw new StateError("the PostgreSQL client that the demo uses is not installed", {
      hint: 'It is a development dependency: run "npm install" in a clone of tde.',
      cause: error,
    });
  }
}

/** The caller's PGDATA, PGPORT, PGOPTIONS and locale must not reach these servers. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" };
}

/** Direct children of a process, as Linux lists them; elsewhere none are known. */
function childrenOf(parent: number): number[] {
  return processes().filter((pid) => statusOf(pid)?.parent === parent);
}

function processes(): number[] {
  try {
    return readdirSync("/proc").map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** State letter and parent from /proc/<pid>/stat (proc(5)): the name in parentheses may hold anything. */
function statusOf(pid: number): { state: string; parent: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: state ?? "", parent: Number(parent) };
  } catch {
    return undefined;
  }
}

/** Gone is also a zombie: it runs nothing, and a container may lack the process that collects it. */
async function waitUntilGone(pids: readonly number[], timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    if (pids.every((pid) => !signal(pid, 0) || statusOf(pid)?.state === "Z")) return true;
    await sleep(POLL_MS);
  }
  return false;
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}
