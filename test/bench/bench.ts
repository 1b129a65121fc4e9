/**
 * `npm run bench`: how long tde takes beside the tools that everybody knows, on a real cluster in the page cache.
 *
 *   npm run bench -- [--size-mb 2048] [--table-mb 700] [--runs 5] [--relations 0]
 *                    [--only rotate|waldump|wal-encrypt|ls|archive|archive-pgbench]
 *                    [--wal-mb 1024] [--seconds 60] [--json]
 *
 * Prints ratios, and with --json one document. With --relations it says how many files there are.
 * archive-pgbench is by itself: pgbench of --seconds, with an archive and without. As root it also compares verify with pg_checksums where nothing is in the page cache. Needs Debian's postgresql-15 for pg_checksums.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findPostgres } from "../../src/demo/embedded-postgres.ts";
import {
  initializeCluster,
  PostgresServer,
  type ServerHome,
} from "../../src/demo/postgres-server.ts";
import { serverUser } from "../../src/demo/server-user.ts";
import { makeTemporaryFolder } from "../../src/demo/temporary-folder.ts";
import { compare, type Comparison, type Side } from "./measure.ts";
import { benchLs } from "./ls.ts";
import { benchRotate } from "./rotate.ts";
import { compareSync } from "./sync.ts";
import { benchWalEncrypt } from "./wal-encrypt.ts";
import { benchWaldump } from "./waldump.ts";
import { benchArchivePgbench } from "./archive-pgbench.ts";
import { benchArchive } from "./archive.ts";

/** Stock pg_checksums fits its own major only. */
const MAJOR = 15;
const PG_CHECKSUMS = `/usr/lib/postgresql/${MAJOR}/bin/pg_checksums`;
const TDE = fileURLToPath(new URL("../../../bin/tde.js", import.meta.url));
const ROW_BYTES = 1000;
const LS_RELATIONS = 10_000;

const { values: options } = parseArgs({
  options: {
    "size-mb": { type: "string", default: "2048" },
    runs: { type: "string", default: "5" },
    relations: { type: "string", default: "0" },
    "table-mb": { type: "string", default: "700" },
    "wal-mb": { type: "string", default: "1024" },
    seconds: { type: "string", default: "60" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});
const sizeMb = options.only === "ls" ? 0 : Number(options["size-mb"]);
const runs = Number(options.runs);
/** A listing is about many relations, whatever their size. */
const relations = Number(options.relations) || (options.only === "ls" ? LS_RELATIONS : 0);
const say = (text: string): void => void process.stderr.write(`${text}\n`);

const folder = makeTemporaryFolder("tde-bench");
try {
  const comparisons = await bench(folder.path);
  const machine = `${cpus()[0]?.model ?? "?"}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node.js ${process.version}`;
  if (options.json)
    process.stdout.write(
      `${JSON.stringify({ machine, sizeMb, relations, comparisons }, undefined, 2)}\n`,
    );
  else
    process.stdout.write(
      `${machine}; cluster of ${sizeMb} MB${relations > 0 ? ` and ${relations} small relations` : ""}\n${table(comparisons)}\n`,
    );
} finally {
  folder.remove();
}

async function bench(path: string): Promise<Comparison[]> {
  const user = serverUser();
  const home: ServerHome = { programs: findPostgres(MAJOR, { user, scratch: path }), user, folder };
  const tde = (...args: string[]): readonly string[] => [process.execPath, TDE, ...args];
  const waldump = async (): Promise<Comparison[]> => {
    const results = await benchWaldump({
      home,
      path,
      tde,
      walMb: Number(options["wal-mb"]),
      runs,
      say,
    });
    say(table(results));
    return results;
  };
  if (options.only === "waldump") return waldump();
  if (options.only === "wal-encrypt") {
    const walKeys = ["--keyring", join(path, "wal.keyring"), "--key-file", join(path, "wal.key")];
    run(tde("keyring", "create", ...walKeys, "--new-key-file"));
    const walMb = Number(options["wal-mb"]);
    return benchWalEncrypt({ home, path, tde, walMb, runs, say, run, keys: walKeys });
  }
  if (options.only === "archive-pgbench") {
    const seconds = Number(options.seconds);
    process.stdout.write(
      `${await benchArchivePgbench({ home, path, tde, run, runs, seconds, say })}\n`,
    );
    return [];
  }
  if (options.only === "archive") {
    const results = await benchArchive({ home, path, tde, run, runs, say });
    say(table(results));
    return results;
  }
  const plain = join(path, "plain");
  await build(home, plain);
  const at = (name: string): string => join(path, name);
  const keys = ["--keyring", at("app.keyring"), "--key-file", at("kek.key")];
  run(tde("keyring", "create", ...keys, "--new-key-file"));

  const rotate = async (): Promise<Comparison[]> => {
    const results = await benchRotate({ home, path, plain, tde, run, runs });
    say(table(results));
    return results;
  };
  if (options.only === "rotate") return rotate();
  if (options.only === "ls") {
    return benchLs({ plain, encrypted: at("listed"), tde, keys, run, runs });
  }

  const work = at("work");
  const copy = at("copy");
  const renew = (source: string, target: string) => (): void => {
    rmSync(target, { recursive: true, force: true });
    run(["cp", "-a", source, target]);
    run(["sync", "-f", target]);
  };
  const remove = (target: string) => (): void => {
    rmSync(target, { recursive: true, force: true });
    run(["sync", "-f", path]);
  };
  const cpAndSync = (source: string): readonly string[] => [
    "sh",
    "-c",
    `cp -a '${source}' '${copy}' && sync -f '${copy}'`,
  ];
  const cp = (source: string, before: () => void = () => {}): Side => ({
    name: "cp -a, sync -f",
    prepare(): void {
      before();
      remove(copy)();
    },
    run: { command: cpAndSync(source) },
  });
  // A disk that has just written a whole cluster is slower than one that rested: both sides come after that.
  const inPlace = (command: string, source: string, ...more: string[]): [Side, Side] => [
    {
      name: `tde ${command}`,
      prepare: renew(source, work),
      run: { command: tde(command, "-D", work, ...keys, ...more) },
    },
    cp(source, renew(source, work)),
  ];
  const results: Comparison[] = [];
  const add = async (comparison: Promise<Comparison>): Promise<void> => {
    results.push(await comparison);
    say(table(results.slice(-1)));
  };

  if (relations > 0) {
    const files = readdirSync(plain, { recursive: true, withFileTypes: true });
    say(`${files.filter((entry) => entry.isFile()).length} files`);
  }
  await add(compare("encrypt-datadir in place", ...inPlace("encrypt-datadir", plain), runs));
  await add(
    compare(
      "encrypt-datadir --output",
      {
        name: "tde encrypt-datadir --output",
        prepare: remove(at("out")),
        run: { command: tde("encrypt-datadir", "-D", plain, "--output", at("out"), ...keys) },
      },
      cp(plain),
      runs,
    ),
  );
  const encrypted = at("out");
  if (existsSync(PG_CHECKSUMS)) {
    const checksums = {
      name: "pg_checksums --check",
      run: { command: [PG_CHECKSUMS, "--check", "-D", encrypted] },
    };
    await add(
      compare(
        "verify",
        { name: "tde verify", run: { command: tde("verify", "-D", encrypted, ...keys) } },
        checksums,
        runs,
      ),
    );
    await add(
      compare(
        "verify --checksums-only",
        {
          name: "tde verify --checksums-only",
          run: { command: tde("verify", "-D", encrypted, "--checksums-only") },
        },
        checksums,
        runs,
      ),
    );
    if (canDropCaches()) {
      await add(
        compare(
          "verify, nothing cached",
          {
            name: "tde verify",
            prepare: dropCaches,
            run: { command: tde("verify", "-D", encrypted, ...keys) },
          },
          { ...checksums, prepare: dropCaches },
          runs,
        ),
      );
    }
  } else {
    say(`no ${PG_CHECKSUMS}: verify is not compared`);
  }
  await add(
    compare(
      "decrypt-datadir in place",
      ...inPlace("decrypt-datadir", encrypted, "--accept-older"),
      runs,
    ),
  );
  await add(
    compare(
      "start-up",
      { name: "tde --version", run: { command: tde("--version") } },
      { name: "node -e 0", run: { command: [process.execPath, "-e", "0"] } },
      Math.max(runs, 9),
    ),
  );
  results.push(...(await rotate()), ...(await waldump()));
  // Last: it changes the pages of the plain cluster.
  await add(compareSync({ source: plain, copy: encrypted, tde, keys, runs }));
  return results;
}

/** Rows that do not compress, in tables of --table-mb, an index each, and as many empty relations as asked for. */
async function build(home: ServerHome, datadir: string): Promise<void> {
  say(`building a cluster of ${sizeMb} MB ...`);
  initializeCluster(home, datadir, {
    checksums: true,
    settings: ["max_wal_size = '1GB'", "autovacuum = off"],
  });
  const server = await PostgresServer.start(home, datadir);
  try {
    const tableMb = Number(options["table-mb"]);
    for (let left = sizeMb, i = 0; left > 0; left -= tableMb, i++) {
      const rows = Math.ceil((Math.min(left, tableMb) * 2 ** 20) / ROW_BYTES);
      await server.run(
        "postgres",
        `CREATE TABLE t${i} AS SELECT g AS id, (SELECT string_agg(md5(g::text || n), '') FROM generate_series(1, 29) n) AS body FROM generate_series(1, ${rows}) g`,
        `CREATE INDEX ON t${i} (id)`,
      );
    }
    for (let made = 0; made < relations; made += 500) {
      const many = Array.from(
        { length: Math.min(500, relations - made) },
        (_, i) => `CREATE TABLE s${made + i} AS SELECT 1 AS a`,
      );
      await server.run("postgres", many.join("; "));
    }
    await server.run("postgres", "CHECKPOINT");
  } finally {
    await server.stop();
  }
}

const DROP_CACHES = "/proc/sys/vm/drop_caches";

function canDropCaches(): boolean {
  try {
    dropCaches();
    return true;
  } catch {
    say("not root: verify is not compared where nothing is cached");
    return false;
  }
}

/** Linux, Documentation/admin-guide/sysctl/vm.rst: 3 frees pages, directory entries and inodes that are clean. */
function dropCaches(): void {
  run(["sync"]);
  writeFileSync(DROP_CACHES, "3");
}

function run(command: readonly string[]): void {
  const [program = "", ...args] = command;
  const { status } = spawnSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`${command.join(" ")}: exit ${status}`);
}

function table(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map(
    ({ title, b, ratio, ratioMin, ratioMax, secondsA, secondsB, peakMibA }) =>
      [
        title.padEnd(26),
        `${ratio.toFixed(2)} x ${b}`.padEnd(28),
        `(${ratioMin.toFixed(2)} to ${ratioMax.toFixed(2)})`.padEnd(18),
        `${secondsA.toFixed(2)} s / ${secondsB.toFixed(2)} s`.padEnd(20),
        `${Math.round(peakMibA)} MiB`,
      ].join(" "),
  );
  return rows.join("\n");
}
