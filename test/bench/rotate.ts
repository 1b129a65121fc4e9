/**
 * How long `tde rotate` of one table with its index takes beside a copy of the same files, and what a stock server's
 * VACUUM FULL of the same table takes, which is how one changes the key of a table on a server that encrypts.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PostgresServer, type ServerHome } from "../../src/demo/postgres-server.ts";
import { compare, type Comparison, type Side } from "./measure.ts";

/** npm's servers come without psql. */
const PSQL = "/usr/lib/postgresql/15/bin/psql";

export interface RotateBench {
  readonly home: ServerHome;
  /** For the copies; on the disk that is measured. */
  readonly path: string;
  /** A stopped plain cluster that has the table `t0` with one index. */
  readonly plain: string;
  readonly tde: (...args: string[]) => readonly string[];
  /** Runs a command to its end. */
  readonly run: (command: readonly string[]) => void;
  readonly runs: number;
}

export async function benchRotate(bench: RotateBench): Promise<Comparison[]> {
  const { path, plain, tde, run, runs } = bench;
  const encrypted = join(path, "rotate-encrypted");
  const work = join(path, "rotate-work");
  const copy = join(path, "rotate-copy");
  const keys = ["--keyring", join(path, "rotate.keyring"), "--key-file", join(path, "rotate.key")];
  const relations = await relationPaths(bench);
  run(tde("keyring", "create", ...keys, "--new-key-file"));
  run(tde("encrypt-datadir", "-D", plain, "--output", encrypted, ...keys));
  run(tde("keyring", "new-key", ...keys));

  // Before both: a disk that has just written a whole cluster is slower than one that rested.
  const renew = (): void => {
    rmSync(copy, { recursive: true, force: true });
    rmSync(work, { recursive: true, force: true });
    run(["cp", "-a", encrypted, work]);
    run(["sync", "-f", work]);
  };
  const rotate: Side = {
    name: "tde rotate",
    prepare: renew,
    run: {
      command: tde(
        "rotate",
        ...relations.flatMap((relation) => ["--relation", relation]),
        "-D",
        work,
        ...keys,
        "--accept-older",
      ),
    },
  };
  const files = relations.map((relation) => `'${join(encrypted, relation)}'*`).join(" ");
  const cp: Side = {
    name: "cp -a, sync -f",
    prepare: renew,
    run: {
      command: ["sh", "-c", `mkdir '${copy}' && cp -a ${files} '${copy}' && sync -f '${copy}'`],
    },
  };
  const results = [await compare("rotate --relation", rotate, cp, runs)];
  rmSync(copy, { recursive: true, force: true });
  rmSync(encrypted, { recursive: true, force: true });
  if (existsSync(PSQL)) results.push(await againstVacuumFull(bench, work, results[0]));
  rmSync(work, { recursive: true, force: true });
  return results;
}

/** One after the other: the server has the cluster to itself. The figures of `rotate` are those that were measured. */
async function againstVacuumFull(
  { home, plain, path, run, runs }: RotateBench,
  work: string,
  rotated: Comparison | undefined,
): Promise<Comparison> {
  rmSync(work, { recursive: true, force: true });
  const copy = join(path, "rotate-vacuum");
  run(["cp", "-a", plain, copy]);
  const server = await PostgresServer.start(home, copy, ["fsync=on", "max_wal_size=8GB"]);
  try {
    const [[socket] = []] = await server.query("postgres", "SHOW unix_socket_directories");
    const sql = ["-h", socket ?? "", "-U", "postgres", "-qc", "VACUUM FULL t0", "-c", "CHECKPOINT"];
    const vacuum: Side = { name: "VACUUM FULL, CHECKPOINT", run: { command: [PSQL, ...sql] } };
    const wait: Side = {
      name: "psql",
      run: { command: [PSQL, ...sql.slice(0, 4), "-qc", "SELECT 1"] },
    };
    const measured = await compare("VACUUM FULL", vacuum, wait, Math.min(runs, 3));
    const secondsA = rotated?.secondsA ?? Number.NaN;
    const ratio = secondsA / measured.secondsA;
    return {
      ...measured,
      title: "rotate beside VACUUM FULL",
      a: "tde rotate",
      b: vacuum.name,
      secondsA,
      secondsB: measured.secondsA,
      ratio,
      ratioMin: ratio,
      ratioMax: ratio,
      peakMibA: rotated?.peakMibA ?? 0,
    };
  } finally {
    await server.stop();
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Paths of the table and its index, below the data directory. */
async function relationPaths({ home, plain }: RotateBench): Promise<string[]> {
  const server = await PostgresServer.start(home, plain);
  try {
    const rows = await server.query(
      "postgres",
      "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relname IN ('t0', 't0_id_idx')",
    );
    return rows.map(([path]) => path ?? "");
  } finally {
    await server.stop();
  }
}
