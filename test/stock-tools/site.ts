/**
 * The directories of one major that the wider run of stock tools works on: the fixture, plain and encrypted, and
 * copies of both to be spoilt. All of them belong to the user who runs servers; pg_resetwal, pg_rewind and servers
 * refuse root.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { PostgresServer, type ServerHome } from "../../src/demo/postgres-server.ts";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { StateError } from "../../src/errors.ts";
import { LIVE_MAJORS, serverHome, temporaryPath } from "../support/cluster.ts";
import { type Diverged, diverge, leaveOneDatabase } from "../support/diverged.ts";
import { type FixtureMajor, unpackFixture } from "../support/fixture.ts";
import type { RunOptions, StockTools, ToolResult } from "../support/stock-tools.ts";
import { runTdeThreaded, type TdeResult } from "../support/tde.ts";
import { copyTree } from "../support/tree.ts";

type Wal = "readable" | "sealed" | "skip";

/** What the fixtures and the varied clusters need to start. */
const SETTINGS = ["allow_in_place_tablespaces=on", "max_prepared_transactions=5"];

export class Site {
  readonly major: FixtureMajor;
  readonly folder: string;
  readonly #tools: StockTools;
  readonly #made: Map<string, Promise<string>> = new Map();
  #copies = 0;

  constructor(major: FixtureMajor, tools: StockTools) {
    this.major = major;
    this.#tools = tools;
    this.folder = temporaryPath(`tools-${major}`);
    giveTree(this.folder, serverUser());
    const keyring = this.tde("keyring", "create", "--new-key-file");
    assert.equal(keyring.status, 0, keyring.stderr);
  }

  /** A program of this major, as the user who runs servers. */
  run(program: string, args: readonly string[], options: RunOptions = {}): ToolResult {
    return this.#tools.run(program, args, { asServerUser: true, ...options });
  }

  tools(): StockTools {
    return this.#tools;
  }

  /** The fixture with data checksums on, not to be changed. @returns its data directory. */
  plain(): Promise<string> {
    return this.once("plain", async () => {
      const folder = join(this.folder, "plain");
      mkdirSync(folder);
      const { datadir } = unpackFixture(this.major, folder);
      giveTree(folder, serverUser());
      this.run("pg_checksums", ["--enable", "-D", datadir]);
      return datadir;
    });
  }

  /** The same, encrypted; not to be changed. */
  encrypted(): Promise<string> {
    return this.once("encrypted", async () => {
      const datadir = this.copy(await this.plain());
      this.encrypt(datadir);
      return datadir;
    });
  }

  /** Two plain directories that diverged, not to be changed. */
  async diverged(): Promise<Diverged> {
    const left = await this.once("left", async () => this.copy(await this.plain()));
    const right = await this.once("right", async () => {
      const pair = { left, right: this.copy(left) };
      await diverge(pair, (datadir) => this.start(datadir));
      for (const datadir of [pair.left, pair.right]) leaveOneDatabase(datadir);
      return pair.right;
    });
    return { left, right };
  }

  /** What is made once and used by several rows. */
  once(name: string, make: () => Promise<string>): Promise<string> {
    const known = this.#made.get(name) ?? make();
    this.#made.set(name, known);
    return known;
  }

  /** A data directory with what lies beside it, in a folder of its own; links that lead there lead to the copy. */
  copy(datadir: string): string {
    const from = join(datadir, "..");
    const to = join(this.folder, `copy-${++this.#copies}`);
    copyTree(from, to);
    const copied = join(to, "data");
    for (const name of readdirSync(join(copied, "pg_tblspc"))) {
      const link = join(copied, "pg_tblspc", name);
      const target = linkTarget(link);
      if (target === undefined || !target.startsWith(from)) continue;
      unlinkSync(link);
      symlinkSync(target.replace(from, to), link);
    }
    return copied;
  }

  /** A copy of the plain fixture for a server to be backed up: pg_basebackup wants absolute links. */
  async copyWithAbsoluteLinks(): Promise<string> {
    const datadir = this.copy(await this.plain());
    const folder = join(datadir, "pg_tblspc");
    for (const name of readdirSync(folder)) {
      const target = linkTarget(join(folder, name));
      if (target === undefined) continue;
      unlinkSync(join(folder, name));
      symlinkSync(resolve(folder, target), join(folder, name));
    }
    giveTree(datadir, serverUser());
    return datadir;
  }

  tde(...args: readonly string[]): TdeResult {
    const keys = ["--keyring", "app.keyring", "--key-file", "kek.key"];
    return runTdeThreaded([...args, ...keys], { cwd: this.folder });
  }

  encrypt(datadir: string, wal: Wal = "readable"): void {
    const { status, stderr } = this.tde("encrypt-datadir", `--wal=${wal}`, ...this.#where(datadir));
    assert.equal(status, 0, stderr);
  }

  /** Tablespaces of copies lie beside them. */
  decrypt(datadir: string): void {
    const where = this.#where(datadir);
    const { status, stderr } = this.tde("decrypt-datadir", "--accept-moved", ...where);
    assert.equal(status, 0, stderr);
  }

  verify(datadir: string): VerifyReport {
    const { status, stdout, stderr } = this.tde("verify", "--format=json", ...this.#where(datadir));
    assert.ok(status === 0 || status === 3, stderr);
    const report = JSON.parse(stdout) as VerifyReport;
    assert.equal(report.ok, status === 0);
    return report;
  }

  assertVerified(datadir: string): void {
    assert.deepEqual(this.verify(datadir).problems, []);
  }

  /** That verify finds the directory damaged and says which tool did it. */
  assertTraced(datadir: string, tool: string): void {
    const { ok, traces } = this.verify(datadir);
    assert.equal(ok, false);
    assert.deepEqual(
      traces.map((trace) => trace.tool),
      [tool],
    );
  }

  start(datadir: string, settings: readonly string[] = []): Promise<PostgresServer> {
    return PostgresServer.start(this.#home(), datadir, [...SETTINGS, ...settings]);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Copies have the same directory id, and go different ways: each has a memory of its own. */
  #where(datadir: string): string[] {
    return ["-D", datadir, "--state", `${datadir}.state`];
  }

  /** A server from npm, and where npm has none, the one beside the tools. */
  #home(): ServerHome {
    try {
      return serverHome(this.major);
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      const { binFolder } = this.#tools;
      const programs = { major: this.major, version: `${this.major}`, binFolder };
      return { ...serverHome(LIVE_MAJORS[0] ?? this.major), programs };
    }
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // A tablespace inside the data directory is a folder.
    return undefined;
  }
}
