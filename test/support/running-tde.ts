/**
 * `bin/tde.js` as a process that runs beside the test, so that it can be killed, interrupted or raced; and a real
 * cluster on disk for it to work on.
 */
import { spawn } from "node:child_process";
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { unpackFixture } from "./fixture.ts";
import { temporaryDirectory } from "./temporary-directory.ts";
import { runTde, TDE_PROGRAM } from "./tde.ts";

export interface Ended {
  readonly status: number | null;
  /** The signal that ended it, where it did not end by itself. */
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

export interface Stop {
  readonly signal: NodeJS.Signals;
  readonly afterMs: number;
}

/** Runs tde, and sends it a signal after a while if it still runs. */
export function startTde(
  args: readonly string[],
  cwd: string,
  stop?: Stop,
  user?: { uid: number; gid: number },
): Promise<Ended> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(TDE_(?!CRYPTO$)|PG)/.test(name));
  const started = performance.now();
  const child = spawn(process.execPath, [TDE_PROGRAM, ...args], {
    cwd,
    env: Object.fromEntries(kept),
    stdio: ["ignore", "pipe", "pipe"],
    ...user,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const timer =
    stop === undefined ? undefined : setTimeout(() => child.kill(stop.signal), stop.afterMs);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout, stderr, durationMs: performance.now() - started });
    });
  });
}

export const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"] as const;

export interface RealCluster {
  /** Where `data`, its tablespace and the keyring are. */
  readonly folder: string;
  readonly datadir: string;
}

/** Relation files below this size are left out, for they are many. */
const SMALL_BYTES = 65536;

/** A part of a fixture, some 10 MB in about 200 files, with a keyring beside it; removed at the end of the test. */
export function realCluster(t: TestContext): RealCluster {
  const folder = temporaryDirectory(t);
  const { datadir } = unpackFixture(17, folder);
  for (const database of ["1", "4"]) rmSync(join(datadir, "base", database), { recursive: true });
  for (const database of ["5", "16386"]) {
    const path = join(datadir, "base", database);
    for (const name of readdirSync(path)) {
      if (!/^\d+(_vm|_fsm)?$/.test(name)) continue;
      if (statSync(join(path, name)).size < SMALL_BYTES) rmSync(join(path, name));
    }
  }
  const wal = readdirSync(join(datadir, "pg_wal")).filter((name) => /^[0-9A-F]{24}$/.test(name));
  for (const name of wal.slice(1)) rmSync(join(datadir, "pg_wal", name));
  const { status, stderr } = runTde(["keyring", "create", ...KEYS, "--new-key-file"], {
    cwd: folder,
  });
  if (status !== 0) throw new Error(stderr);
  return { folder, datadir };
}
