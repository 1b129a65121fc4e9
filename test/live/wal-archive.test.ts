/**
 * A real server archives by `tde wal archive` under load, its base backup is encrypted, and from these two parts alone
 * it comes back: at a named restore point, at a time, and along a timeline that began in between. The server is
 * Debian's of 15; with TDE_TEST_MAJORS=all those of npm, too.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PostgresServer, type ServerHome } from "../../src/demo/postgres-server.ts";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import {
  type Cluster,
  copyTree,
  LIVE_MAJORS,
  makeCluster,
  serverHome,
} from "../support/cluster.ts";
import { startTde } from "../support/running-tde.ts";
import { requireStockTools, STOCK_MAJOR, type StockTools } from "../support/stock-tools.ts";
import { runTdeThreaded, TDE_PROGRAM, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { MARKER, SEGMENT_BYTES, walSegment, walSegmentName } from "../support/wal-segment.ts";

const WAIT_MS = 100;
const WAIT_LIMIT_MS = 60_000;

const MAJORS =
  process.env["TDE_TEST_MAJORS"] === "all" ? [STOCK_MAJOR, ...LIVE_MAJORS] : [STOCK_MAJOR];

for (const major of new Set(MAJORS)) {
  test(`a cluster of ${major} comes back from an encrypted backup and an encrypted archive, at each moment that is asked for`, async (t) => {
    const tools = requireStockTools(t);
    if (tools !== undefined) await assertComesBack(await Site.make(tools, major));
  });
}

async function assertComesBack(site: Site): Promise<void> {
  try {
    const server = await site.start(site.cluster.datadir, site.archiving);
    const moments = await writeHistory(site, server);
    await server.stop();
    assertNothingReadable(site);
    site.tde("wal", "verify", site.archive);
    site.tde("encrypt-datadir", "-D", "backup");
    site.tde("verify", "-D", "backup");

    const named = await site.recover("named", ["recovery_target_name=before_the_mistake"]);
    assert.deepEqual(await stateOf(named), moments.named.state);
    // It has begun timeline 2, and archives it.
    await named.run("postgres", "INSERT INTO notes VALUES ('written on timeline 2')");
    const onTimeline2 = await stateOf(named);
    await archiveAll(named);
    await named.stop();

    const timed = await site.recover("timed", [
      `recovery_target_time=${moments.timed.time}`,
      "recovery_target_timeline=1",
    ]);
    assert.deepEqual(await stateOf(timed), moments.timed.state);
    await timed.stop();

    const latest = await site.recover("latest", ["recovery_target_timeline=2"]);
    assert.deepEqual(await stateOf(latest), onTimeline2);
    await latest.stop();

    const report = JSON.parse(
      site.tde("wal", "verify", site.archive, "--format", "json").stdout,
    ) as {
      readonly timelines: readonly { readonly timeline: number }[];
    };
    assert.deepEqual(report.timelines.map(({ timeline }) => timeline).slice(0, 2), [1, 2]);

    // With trouble in the archive no server takes it for the end of its WAL.
    rmSync(join(site.cluster.folder, "kek.key"));
    await assert.rejects(site.recover("keyless", []), /key file ".*kek\.key" does not exist/);
  } finally {
    site.cluster.remove();
  }
}

interface Moments {
  readonly named: { readonly state: unknown };
  readonly timed: { readonly state: unknown; readonly time: string };
}

/** A backup under load while archivers are killed, then a restore point, a moment, and a mistake after each. */
async function writeHistory(site: Site, server: PostgresServer): Promise<Moments> {
  await site.bench(server, "-i", "-s", "1", "-q");
  await server.run("postgres", "CREATE TABLE notes (note text)");
  const load = site.bench(server, "-c", "2", "-T", "4", "-R", "150");
  const killer = killArchivers(site.archive, 3);
  await site.backUp(server);
  await load;
  assert.ok((await killer) > 0, "no archiver was killed");
  const named = { state: await stateOf(server) };
  await server.run("postgres", "SELECT pg_create_restore_point('before_the_mistake')");
  await server.run("postgres", "DELETE FROM pgbench_history");
  await site.bench(server, "-c", "2", "-t", "100");
  const state = await stateOf(server);
  const [[time] = []] = await server.query("postgres", "SELECT clock_timestamp()::text");
  await sleep(WAIT_MS);
  await server.run("postgres", "TRUNCATE pgbench_accounts, pgbench_history");
  await archiveAll(server);
  return { named, timed: { state, time: String(time) } };
}

/** What a row was written, changed and deleted by: the state of all tables of the load. */
async function stateOf(server: PostgresServer): Promise<unknown> {
  const tables = ["pgbench_accounts", "pgbench_history", "pgbench_tellers", "notes"];
  const parts = tables.map(
    (table) => `SELECT '${table}', count(*), sum(hashtext(r::text)) FROM ${table} AS r`,
  );
  return await server.query("postgres", parts.join(" UNION ALL "));
}

/** Waits until the server has archived all that was written so far. */
async function archiveAll(server: PostgresServer): Promise<void> {
  const [[last] = []] = await server.query("postgres", "SELECT pg_walfile_name(pg_switch_wal())");
  await until(async () => {
    const [[done] = []] = await server.query(
      "postgres",
      "SELECT max(name) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.done'",
    );
    const [[ready] = []] = await server.query(
      "postgres",
      `SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`,
    );
    return ready === "0" && String(done) >= String(last);
  });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + WAIT_LIMIT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "it took too long");
    await sleep(WAIT_MS);
  }
}

/** Ends so many archivers of this archive by SIGKILL, each as soon as it is seen. @returns how many it met. */
async function killArchivers(archive: string, most: number): Promise<number> {
  let killed = 0;
  for (const deadline = Date.now() + 4000; killed < most && Date.now() < deadline;) {
    const pid = archiverOf(archive);
    // Each at another moment of its life.
    await sleep(pid === undefined ? 20 : 60 * killed);
    if (pid === undefined) continue;
    try {
      process.kill(pid, "SIGKILL");
      killed++;
    } catch {
      // It was done.
    }
    await sleep(WAIT_MS);
  }
  return killed;
}

function archiverOf(archive: string): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      const isTde = args[1] === TDE_PROGRAM && args[3] === "archive";
      if (isTde && args.some((one) => one.startsWith(archive))) return Number(pid);
    } catch {
      // It has ended.
    }
  }
  return undefined;
}

/** In no file of the archive are the texts that pgbench writes, or the names of its tables. */
function assertNothingReadable(site: Site): void {
  const names = readdirSync(site.archive).filter((name) => name !== "tde.archive");
  assert.ok(names.length > 5, `${names.length} files were archived`);
  for (const name of names) {
    const bytes = readFileSync(join(site.archive, name));
    assert.equal(bytes.subarray(0, 4).toString(), "TDEC", name);
    assert.equal(bytes.includes("pgbench"), false, name);
  }
}

class Site {
  /** Programs that are no server: those of 15 serve later majors as well. */
  readonly tools: StockTools;
  readonly home: ServerHome;
  readonly cluster: Cluster;
  readonly archive: string;
  readonly keys: readonly string[];

  private constructor(tools: StockTools, cluster: Cluster) {
    this.tools = tools;
    const home = serverHome(cluster.major);
    const isStock = cluster.major === tools.major;
    const programs = { ...home.programs, binFolder: tools.binFolder };
    this.home = isStock ? { ...home, programs } : home;
    this.cluster = cluster;
    this.archive = join(cluster.folder, "archive");
    this.keys = [
      "--keyring",
      join(cluster.folder, "app.keyring"),
      "--key-file",
      join(cluster.folder, "kek.key"),
    ];
  }

  static async make(tools: StockTools, major: number): Promise<Site> {
    const cluster = await makeCluster({
      major,
      checksums: true,
      walSegsizeMb: 1,
      content: "small",
    });
    const site = new Site(tools, cluster);
    mkdirSync(site.archive);
    site.tde("keyring", "create", "--new-key-file");
    for (const name of ["archive", "app.keyring", "kek.key"])
      giveTree(join(cluster.folder, name), serverUser());
    return site;
  }

  /** A killed archiver is an ordinary failure: else the server would wait ten seconds for a new archiver process. */
  get archiving(): readonly string[] {
    return [
      "archive_mode=on",
      `archive_command=${this.command("archive", "%p", `${this.archive}/%f`)} || exit 1`,
    ];
  }

  async start(datadir: string, settings: readonly string[]): Promise<PostgresServer> {
    return await PostgresServer.start(this.home, datadir, settings);
  }

  /** Runs pgbench beside the test. */
  async bench(server: PostgresServer, ...args: readonly string[]): Promise<void> {
    const child = spawn(
      join(this.tools.binFolder, "pgbench"),
      ["-h", await socketOf(server), "-U", "postgres", "-n", ...args, "postgres"],
      { stdio: "ignore" },
    );
    const [code] = (await once(child, "exit")) as [number | null];
    assert.equal(code, 0);
  }

  /** Without WAL: what it needs comes from the archive. */
  async backUp(server: PostgresServer): Promise<void> {
    const target = join(this.cluster.folder, "backup");
    if (this.cluster.major !== this.tools.major) return await this.copyWhileRunning(server, target);
    const connection = ["-h", await socketOf(server), "-U", "postgres"];
    const child = spawn(
      join(this.tools.binFolder, "pg_basebackup"),
      [...connection, "-D", target, "-X", "none", "-c", "fast"],
      { stdio: "ignore", ...serverUser() },
    );
    const [code] = (await once(child, "exit")) as [number | null];
    assert.equal(code, 0);
  }

  /** By the low-level API, in one session of the server, whose programs copy: pg_basebackup serves one major only. */
  async copyWhileRunning(server: PostgresServer, target: string): Promise<void> {
    const isOld = this.cluster.major < 15;
    const start = isOld ? "pg_start_backup('b', true, false)" : "pg_backup_start('b', true)";
    const stop = isOld ? "pg_stop_backup(false, false)" : "pg_backup_stop(false)";
    // Files may come and go while they are copied.
    const copy = `cp -a ${this.cluster.datadir} ${target} 2>/dev/null; rm -rf ${target}/postmaster.pid ${target}/pg_wal/*`;
    await server.run(
      "postgres",
      `SELECT ${start}`,
      `COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; ${copy}'`,
      // Line by line: COPY would write the end of a line as two characters.
      `COPY (SELECT line FROM ${stop} AS s, regexp_split_to_table(rtrim(s.labelfile, E'\n'), E'\n') AS line)
         TO '${target}/backup_label'`,
    );
  }

  /** Decrypts a copy of the backup, and lets a server recover from the archive until it takes writes. */
  async recover(name: string, targets: readonly string[]): Promise<PostgresServer> {
    const datadir = join(this.cluster.folder, name);
    if (existsSync(join(this.cluster.folder, "kek.key")))
      this.tde("decrypt-datadir", "-D", "backup", "--output", name);
    else copyTree(join(this.cluster.folder, "latest"), datadir);
    writeFileSync(join(datadir, "recovery.signal"), "");
    giveTree(datadir, serverUser());
    const restore = `restore_command=${this.command("restore", `${this.archive}/%f`, "%p")}`;
    const server = await this.start(datadir, [
      ...this.archiving,
      restore,
      ...targets,
      "recovery_target_action=promote",
    ]);
    await until(
      async () => (await server.query("postgres", "SELECT pg_is_in_recovery()"))[0]?.[0] === "f",
    );
    return server;
  }

  tde(...args: readonly string[]): TdeResult {
    const result = runTdeThreaded([...args, ...this.keys], { cwd: this.cluster.folder });
    assert.equal(result.status, 0, result.stdout + result.stderr);
    return result;
  }

  private command(...args: readonly string[]): string {
    return [process.execPath, TDE_PROGRAM, "wal", ...args, ...this.keys]
      .map((one) => `"${one}"`)
      .join(" ");
  }
}

async function socketOf(server: PostgresServer): Promise<string> {
  const [[socket] = []] = await server.query("postgres", "SHOW unix_socket_directories");
  return String(socket);
}

test("an archiver that is killed at any moment leaves the name free or on the whole file", async (t: TestContext) => {
  const folder = temporaryDirectory(t);
  const name = walSegmentName();
  const archive = join(folder, "archive");
  mkdirSync(archive);
  writeFileSync(join(folder, name), walSegment());
  const keys = ["--keyring", "app.keyring", "--key-file", "kek.key"];
  assert.equal(
    runTdeThreaded(["keyring", "create", "--new-key-file", ...keys], { cwd: folder }).status,
    0,
  );
  const args = ["wal", "archive", name, `archive/${name}`, ...keys];
  const whole = await startTde(args, folder);
  assert.equal(whole.status, 0, whole.stderr);
  const outcomes = { free: 0, whole: 0 };
  for (let i = 1; i <= 8; i++) {
    rmSync(join(archive, name), { force: true });
    await startTde(args, folder, { signal: "SIGKILL", afterMs: (whole.durationMs * i) / 7 });
    const restored = runTdeThreaded(["wal", "restore", `archive/${name}`, "x", ...keys], {
      cwd: folder,
    });
    const isThere = existsSync(join(archive, name));
    assert.equal(restored.status, isThere ? 0 : 1, restored.stderr);
    outcomes[isThere ? "whole" : "free"]++;
    if (isThere)
      assert.deepEqual(readFileSync(join(folder, "x")), readFileSync(join(folder, name)));
  }
  t.diagnostic(`killed 8 times: ${outcomes.free} free, ${outcomes.whole} whole`);
  const last = await startTde(args, folder);
  assert.equal(last.status, 0, last.stderr);
  const working = readdirSync(join(archive, "tde.archive")).filter((one) => one !== "identity");
  for (const one of working) {
    const bytes = readFileSync(join(archive, "tde.archive", one));
    assert.ok(bytes.length <= SEGMENT_BYTES + 4096 && !bytes.includes(MARKER));
  }
});
