/**
 * Whether an archive holds a server up: pgbench beside `tde wal archive`, beside `cp`, and without an archive. What
 * counts is how many segments wait for the archiver at most, and how long it goes on after the last transaction.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import {
  initializeCluster,
  PostgresServer,
  type ServerHome,
} from "../../src/demo/postgres-server.ts";
import { giveTree } from "../../src/demo/server-user.ts";

export interface ArchivePgbench {
  readonly home: ServerHome;
  readonly path: string;
  readonly tde: (...args: string[]) => readonly string[];
  readonly run: (command: readonly string[]) => void;
  readonly runs: number;
  readonly seconds: number;
  readonly say: (text: string) => void;
}

interface Load {
  readonly archive: string;
  readonly transactionsPerSecond: number;
  readonly walMb: number;
  readonly archived: number;
  readonly failed: number;
  readonly mostWaiting: number;
  readonly meanWaiting: number;
  /** From the last transaction until nothing waits. */
  readonly secondsBehind: number;
}

/** What npm brings is without pgbench. */
const BIN_FOLDER = "/usr/lib/postgresql/15/bin";
const SCALE = 20;
const CLIENTS = 4;
const SAMPLE_MS = 250;

/** @returns a line for each archive, of medians. */
export async function benchArchivePgbench(bench: ArchivePgbench): Promise<string> {
  const { path, tde, run, say } = bench;
  const home = { ...bench.home, programs: { ...bench.home.programs, binFolder: BIN_FOLDER } };
  const datadir = join(path, "pgbench");
  initializeCluster(home, datadir, { checksums: true, settings: ["shared_buffers = '512MB'"] });
  const keys = ["--keyring", join(path, "app.keyring"), "--key-file", join(path, "kek.key")];
  run(tde("keyring", "create", ...keys, "--new-key-file"));
  for (const name of ["app.keyring", "kek.key"]) giveTree(join(path, name), home.user);
  const folders: string[] = [];
  const folder = (): string => {
    const made = join(path, `archive-${folders.length}`);
    folders.push(made);
    mkdirSync(made);
    giveTree(made, home.user);
    return made;
  };
  const quoted = (words: readonly string[]): string => words.map((word) => `"${word}"`).join(" ");
  const commands: Readonly<Record<string, () => string | undefined>> = {
    none: () => undefined,
    cp: () => `cp "%p" "${folder()}/%f"`,
    tde: () => quoted(tde("wal", "archive", "%p", `${folder()}/%f`, ...keys)),
  };
  const loads: Load[] = [];
  for (let i = 0; i < bench.runs; i++) {
    for (const [archive, command] of Object.entries(commands)) {
      const load = await underLoad(
        { ...bench, home },
        datadir,
        archive,
        command(),
        loads.length === 0,
      );
      say(lineOf(load));
      loads.push(load);
    }
  }
  return Object.keys(commands)
    .map((name) => lineOf(medianOf(loads.filter(({ archive }) => archive === name))))
    .join("\n");
}

async function underLoad(
  { home, seconds }: ArchivePgbench,
  datadir: string,
  archive: string,
  command: string | undefined,
  isFirst: boolean,
): Promise<Load> {
  // The tests' servers never sync; a server that does is slower, and so is its archive.
  const settings = ["fsync=on", `archive_mode=${command === undefined ? "off" : "on"}`];
  if (command !== undefined) settings.push(`archive_command=${command}`);
  const server = await PostgresServer.start(home, datadir, settings);
  try {
    const [[socket] = []] = await server.query("postgres", "SHOW unix_socket_directories");
    const pgbench = (...args: string[]): Promise<string> =>
      output(join(home.programs.binFolder, "pgbench"), ["-h", String(socket), ...args, "postgres"]);
    if (isFirst) await pgbench("-U", "postgres", "-i", "-q", "-s", String(SCALE));
    await server.run("postgres", "CHECKPOINT", "SELECT pg_stat_reset_shared('archiver')");
    const lsn = async (): Promise<number> =>
      Number((await server.query("postgres", "SELECT pg_current_wal_lsn() - '0/0'"))[0]?.[0]);
    const before = await lsn();
    const waiting: number[] = [];
    const end = new AbortController();
    const asked = ["-n", "-c", String(CLIENTS), "-j", "2", "-T", String(seconds)];
    const load = pgbench("-U", "postgres", ...asked).finally(() => end.abort());
    while (!end.signal.aborted) {
      waiting.push(countReady(datadir));
      await sleep(SAMPLE_MS);
    }
    const tps = /^tps = ([\d.]+) \(without/m.exec(await load)?.[1];
    const walMb = ((await lsn()) - before) / 2 ** 20;
    const last = performance.now();
    while (countReady(datadir) > 0) await sleep(SAMPLE_MS / 10);
    const secondsBehind = (performance.now() - last) / 1000;
    const [[archived, failed] = []] = await server.query(
      "postgres",
      "SELECT archived_count, failed_count FROM pg_stat_archiver",
    );
    return {
      archive,
      transactionsPerSecond: Number(tps),
      walMb,
      archived: Number(archived),
      failed: Number(failed),
      mostWaiting: Math.max(...waiting),
      meanWaiting: waiting.reduce((sum, count) => sum + count, 0) / waiting.length,
      secondsBehind,
    };
  } finally {
    await server.stop();
  }
}

/** Segments that are full and not archived yet, the one under way among them. */
function countReady(datadir: string): number {
  const names = readdirSync(join(datadir, "pg_wal/archive_status"));
  return names.filter((name) => name.endsWith(".ready")).length;
}

async function output(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"] });
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  if (code !== 0) throw new Error(`${program}: exit ${code}`);
  return said;
}

function medianOf(loads: readonly Load[]): Load {
  const [first] = loads;
  if (first === undefined) throw new Error("no run");
  const middle = (of: (load: Load) => number): number =>
    loads.map(of).toSorted((a, b) => a - b)[Math.floor(loads.length / 2)] ?? Number.NaN;
  return {
    archive: first.archive,
    transactionsPerSecond: middle((load) => load.transactionsPerSecond),
    walMb: middle((load) => load.walMb),
    archived: middle((load) => load.archived),
    failed: middle((load) => load.failed),
    mostWaiting: Math.max(...loads.map((load) => load.mostWaiting)),
    meanWaiting: middle((load) => load.meanWaiting),
    secondsBehind: middle((load) => load.secondsBehind),
  };
}

function lineOf(load: Load): string {
  return [
    load.archive.padEnd(5),
    `${Math.round(load.transactionsPerSecond)} tps`.padStart(9),
    `${Math.round(load.walMb)} MB of WAL`.padStart(15),
    `${load.archived} archived, ${load.failed} failed`.padStart(25),
    `waiting: ${load.mostWaiting} at most, ${load.meanWaiting.toFixed(2)} on average`.padStart(40),
    `done ${load.secondsBehind.toFixed(2)} s after the last transaction`.padStart(40),
  ].join(" ");
}
