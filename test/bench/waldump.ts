/**
 * How long `tde waldump` takes beside the C pg_waldump of the same major, on WAL as pgbench's TPC-B-like transactions
 * write it: an insert and three updates each. A procedure makes them, since pgbench itself would take an hour.
 */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import {
  initializeCluster,
  PostgresServer,
  type ServerHome,
} from "../../src/demo/postgres-server.ts";
import { compare, type Comparison } from "./measure.ts";

const PG_WALDUMP = "/usr/lib/postgresql/15/bin/pg_waldump";
const SEGMENT_MB = 16;
const ACCOUNTS = 1_000_000;
const BATCH = 10_000;

export interface WaldumpBench {
  readonly home: ServerHome;
  /** For the cluster. */
  readonly path: string;
  readonly tde: (...args: string[]) => readonly string[];
  /** How much WAL, at least. */
  readonly walMb: number;
  readonly runs: number;
  readonly say: (text: string) => void;
}

export async function benchWaldump(bench: WaldumpBench): Promise<Comparison[]> {
  const { tde, runs, say } = bench;
  const folder = join(bench.path, "wal-bench");
  const [first, last] = await writeWal(bench, folder);
  const wal = join(folder, "pg_wal");
  const smallest = ["-n", "1", join(wal, first)];
  const range = ["-p", wal, first, last];
  const counted = run([PG_WALDUMP, "--stats", ...range]);
  const records = Number(/^Total +(\d+)/m.exec(counted)?.[1]);
  say(`${records} records`);
  const cases: readonly (readonly [string, readonly string[], number])[] = [
    ["waldump", range, runs],
    ["waldump --stats", ["--stats", ...range], runs],
    ["waldump --quiet", ["--quiet", ...range], runs],
    ["waldump of one record", smallest, Math.max(runs, 9)],
  ];
  const results: Comparison[] = [];
  for (const [title, args, count] of cases) {
    const result = await compare(
      title,
      { name: "tde waldump", run: { command: tde("waldump", ...args) } },
      { name: "pg_waldump", run: { command: [PG_WALDUMP, ...args] } },
      count,
    );
    results.push(result);
    if (args === smallest) continue;
    const millions = (seconds: number): string => (records / seconds / 1e6).toFixed(2);
    say(
      `${title}: ${millions(result.secondsA)} million records a second, pg_waldump ${millions(result.secondsB)}: ` +
        `${(1 / result.ratio).toFixed(2)} x as many`,
    );
  }
  results.push(
    await compare(
      "waldump, beside Node.js alone",
      { name: "tde waldump", run: { command: tde("waldump", ...smallest) } },
      { name: "node -e 0", run: { command: [process.execPath, "-e", "0"] } },
      Math.max(runs, 9),
    ),
    await compare(
      "waldump, through a pipe",
      { name: "tde waldump", run: { command: piped(tde("waldump", ...range)) } },
      { name: "pg_waldump", run: { command: piped([PG_WALDUMP, ...range]) } },
      runs,
    ),
  );
  return results;
}

/** To a reader that takes everything: what is written to /dev/null is not even looked at. */
function piped(command: readonly string[]): readonly string[] {
  return ["sh", "-c", `${command.map((word) => `'${word}'`).join(" ")} | cat > /dev/null`];
}

function run([program = "", ...args]: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8" });
}

/** @returns the first and the last whole segment. */
export async function writeWal(
  { home, walMb, say }: Pick<WaldumpBench, "home" | "walMb" | "say">,
  folder: string,
): Promise<readonly [string, string]> {
  say(`writing ${walMb} MB of WAL ...`);
  initializeCluster(home, folder, {
    checksums: false,
    walSegmentSizeMb: SEGMENT_MB,
    settings: [
      "max_wal_size = '64GB'",
      "wal_keep_size = '64GB'",
      "checkpoint_timeout = '1h'",
      "synchronous_commit = off",
      "shared_buffers = '512MB'",
    ],
  });
  const server = await PostgresServer.start(home, folder);
  const before = new Set(readdirSync(join(folder, "pg_wal")));
  try {
    await server.run("postgres", ...TPCB_TABLES);
    const bytes = async (): Promise<number> => {
      const [row] = await server.query("postgres", "SELECT pg_current_wal_lsn() - '0/1000000'");
      return Number(row?.[0] ?? 0);
    };
    while ((await bytes()) < walMb * 2 ** 20) await server.run("postgres", `CALL tpcb(${BATCH})`);
    await server.run("postgres", "SELECT pg_switch_wal()");
  } finally {
    await server.stop();
  }
  const segments = readdirSync(join(folder, "pg_wal"))
    .filter((name) => /^[0-9A-F]{24}$/.test(name) && !before.has(name))
    .sort();
  const count = Math.ceil(walMb / SEGMENT_MB);
  return [segments[0] ?? "", segments[count - 1] ?? ""];
}

/** As pgbench -i makes them, and one of its transactions. */
const TPCB_TABLES = [
  "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
  "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)) WITH (fillfactor = 100)",
  "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor = 100)",
  "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor = 100)",
  `INSERT INTO pgbench_branches SELECT b, 0, '' FROM generate_series(1, ${ACCOUNTS / 100_000}) b`,
  `INSERT INTO pgbench_tellers SELECT t, (t - 1) / 10 + 1, 0, '' FROM generate_series(1, ${ACCOUNTS / 10_000}) t`,
  `INSERT INTO pgbench_accounts SELECT a, (a - 1) / 100000 + 1, 0, '' FROM generate_series(1, ${ACCOUNTS}) a`,
  "CHECKPOINT",
  `CREATE PROCEDURE tpcb(transactions int) LANGUAGE plpgsql AS $$
   DECLARE a int; b int; t int; delta int;
   BEGIN
     FOR i IN 1..transactions LOOP
       a := 1 + floor(random() * ${ACCOUNTS})::int;
       b := 1 + floor(random() * ${ACCOUNTS / 100_000})::int;
       t := 1 + floor(random() * ${ACCOUNTS / 10_000})::int;
       delta := floor(random() * 10000)::int - 5000;
       UPDATE pgbench_accounts SET abalance = abalance + delta WHERE aid = a;
       PERFORM abalance FROM pgbench_accounts WHERE aid = a;
       UPDATE pgbench_tellers SET tbalance = tbalance + delta WHERE tid = t;
       UPDATE pgbench_branches SET bbalance = bbalance + delta WHERE bid = b;
       INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, delta, CURRENT_TIMESTAMP);
       COMMIT;
     END LOOP;
   END $$`,
];
