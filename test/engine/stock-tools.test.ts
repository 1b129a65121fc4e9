/**
 * PostgreSQL's own programs on an encrypted directory: pg_checksums and pg_controldata take it as it is, and every
 * way to start a server stops without a byte changed; with the guard gone, at the first page.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import { temporaryPath } from "../support/cluster.ts";
import { type FixtureMajor, fixtureTruth, unpackFixture } from "../support/fixture.ts";
import { requireStockTools, type StockTools } from "../support/stock-tools.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { assertSameTree, copyTree, type Tree, treeOf } from "../support/tree.ts";

const GUARD = "data_directory_is_encrypted_by_tde__run_tde_decrypt_datadir_first";

interface Encrypted {
  readonly plain: string;
  readonly encrypted: string;
}

const made = new Map<FixtureMajor, Promise<Encrypted>>();

/** The whole fixture, encrypted once for all tests; belongs to the user who runs servers. */
function encryptedFixture(major: FixtureMajor): Promise<Encrypted> {
  const known = made.get(major) ?? encryptFixture(major);
  made.set(major, known);
  return known;
}

async function encryptFixture(major: FixtureMajor): Promise<Encrypted> {
  const folder = temporaryPath("stock");
  unpackFixture(major, folder);
  const plain = join(folder, "data");
  const encrypted = copyWithTablespace(plain);
  await new SmallEngine().encrypt(encrypted);
  giveTree(dirname(encrypted), serverUser());
  return { plain, encrypted };
}

async function withTools(t: TestContext, use: (tools: StockTools) => Promise<void>): Promise<void> {
  const tools = requireStockTools(t);
  if (tools !== undefined) await use(tools);
}

// pg_checksums wants its own major; that of the fixture without checksums has them switched on first.
test("pg_checksums accepts an encrypted directory, and counts its sidecars", (t) =>
  withTools(t, async (tools) => {
    const folder = temporaryPath("checksums");
    const { datadir } = unpackFixture(15, folder);
    assert.equal(tools.run("pg_checksums", ["--enable", "-D", datadir]).status, 0);
    await new SmallEngine().encrypt(datadir);
    const before = treeOf(datadir);
    const checked = tools.run("pg_checksums", ["--check", "-D", datadir]);
    assert.equal(checked.status, 0, checked.stderr);
    assert.match(checked.stdout, /^Bad checksums: +0$/m);
    assertSameTree(treeOf(datadir), before, { directoryTimes: true });
  }));

test("pg_checksums finds the same wrong pages before and after encryption, and after decryption", (t) =>
  withTools(t, async (tools) => {
    const { datadir } = unpackFixture(15, temporaryPath("checksums"));
    assert.equal(tools.run("pg_checksums", ["--enable", "-D", datadir]).status, 0);
    for (const [path, block] of [
      ["base/1/1255", 70],
      ["base/1/1259", 0],
      ["global/1260", 0],
    ] as const) {
      const bytes = readFileSync(join(datadir, path));
      const at = block * 8192 + 8;
      bytes.writeUInt16LE(bytes.readUInt16LE(at) ^ 0x1234, at);
      writeFileSync(join(datadir, path), bytes);
    }
    const wrongPages = (): string[] => {
      const { status, stderr } = tools.run("pg_checksums", ["--check", "-D", datadir]);
      assert.equal(status, 1);
      return [...stderr.matchAll(/failed in file "[^"]*\/data\/([^"]*)", block (\d+)/g)]
        .map(([, path, block]) => `${path} ${block}`)
        .sort();
    };
    const wrong = ["base/1/1255 70", "base/1/1259 0", "global/1260 0"];
    assert.deepEqual(wrongPages(), wrong);
    const engine = new SmallEngine();
    const plain = treeOf(datadir);
    await engine.encrypt(datadir);
    assert.deepEqual(wrongPages(), wrong);
    const report = await engine.verify(datadir);
    assert.deepEqual([report.problems, report.wrongChecksums], [[], 3]);
    await engine.decrypt(datadir);
    assert.deepEqual(wrongPages(), wrong);
    assertSameTree(treeOf(datadir), plain);
  }));

for (const mode of ["--disable", "--enable"] as const) {
  test(`pg_checksums ${mode} on an encrypted directory is undone by decryption`, (t) =>
    withTools(t, async (tools) => {
      const { datadir } = unpackFixture(15, temporaryPath("checksums"));
      if (mode === "--disable") tools.run("pg_checksums", ["--enable", "-D", datadir]);
      const plain = treeOf(datadir);
      const engine = new SmallEngine();
      await engine.encrypt(datadir);
      const { status, stderr } = tools.run("pg_checksums", [mode, "-D", datadir]);
      assert.equal(status, 0, stderr);
      const { problems, traces } = await engine.verify(datadir);
      assert.deepEqual(
        problems.map(({ path }) => path),
        ["global/pg_control"],
      );
      assert.deepEqual(
        traces.map(({ tool }) => tool),
        [`pg_checksums ${mode}`],
      );
      await engine.decrypt(datadir);
      assertSameTree(treeOf(datadir), plain, { except: (path) => path === "./global/pg_control" });
      const control = treeOf(datadir).get("./global/pg_control")?.sha256;
      assert.equal(control, plain.get("./global/pg_control")?.sha256);
    }));
}

// pg_controldata of 15 reads what 13 to 16 share.
for (const major of [13, 15] as const) {
  test(`pg_controldata says of an encrypted directory of ${major} what it said before`, (t) =>
    withTools(t, async (tools) => {
      const { plain, encrypted } = await encryptedFixture(major);
      const { status, stdout } = tools.run("pg_controldata", ["-D", encrypted]);
      assert.equal(status, 0);
      assert.equal(stdout, tools.run("pg_controldata", ["-D", plain]).stdout);
      assert.ok(fixtureTruth(major, "pg_controldata.txt").includes(stdout.split("\n")[2] ?? "-"));
    }));
}

const STARTS: Readonly<Record<string, readonly string[]>> = {
  postgres: [],
  "postgres --single": ["--single"],
  "postgres -C": ["-C", "shared_buffers"],
};
for (const [name, args] of Object.entries(STARTS)) {
  test(`${name} stops with the guard's message and changes no byte`, (t) =>
    withTools(t, async (tools) => {
      const { encrypted } = await encryptedFixture(15);
      const before = treeOf(encrypted);
      const single = args.includes("--single") ? ["postgres"] : [];
      const { status, stderr } = tools.run("postgres", [...args, "-D", encrypted, ...single]);
      assert.notEqual(status, 0);
      assert.match(stderr, new RegExp(GUARD));
      assertSameTree(treeOf(encrypted), before, { directoryTimes: true });
    }));
}

for (const signal of ["recovery.signal", "standby.signal"] as const) {
  test(`${signal} does not get a server past the guard`, (t) =>
    withTools(t, async (tools) => {
      const { encrypted } = await encryptedFixture(15);
      const copy = copyWithTablespace(encrypted);
      writeFileSync(join(copy, signal), "");
      const before = treeOf(copy);
      const { stderr } = tools.run("postgres", ["-D", copy, "-c", "restore_command=false"]);
      assert.match(stderr, new RegExp(GUARD));
      assertSameTree(treeOf(copy), before, { directoryTimes: true });
    }));
}

test("without the guard a server is refused by the first sealed file, and changes no relation file", (t) =>
  withTools(t, async (tools) => {
    const { encrypted } = await encryptedFixture(15);
    const copy = copyWithTablespace(encrypted);
    writeFileSync(join(copy, "postgresql.auto.conf"), "");
    assertNoServer(tools, copy, /invalid primary checkpoint|could not locate a valid checkpoint/);
  }));

// What a tool that copies changed files from a plain cluster makes of an encrypted one: it drops the sidecars, too.
test("where only pages are sealed a server answers invalid page, and changes no relation file", (t) =>
  withTools(t, async (tools) => {
    const { plain, encrypted } = await encryptedFixture(15);
    const copy = copyWithTablespace(plain);
    const before = treeOf(copy);
    for (const path of relationsOf(before).keys()) {
      rmSync(join(copy, path));
      copyTree(join(encrypted, path), join(copy, path));
    }
    assertNoServer(tools, copy, /invalid page in block \d+ of relation/);
  }));

function assertNoServer(tools: StockTools, datadir: string, says: RegExp): void {
  giveTree(dirname(datadir), serverUser());
  const before = relationsOf(treeOf(datadir));
  assert.ok(before.size > 900);
  const settings = ["allow_in_place_tablespaces=on", "max_prepared_transactions=1"];
  const options = settings.flatMap((setting) => ["-c", setting]);
  const run = tools.run("postgres", ["--single", ...options, "-D", datadir, "shop"]);
  assert.notEqual(run.status, 0);
  assert.match(run.stderr, says);
  assertSameTree(relationsOf(treeOf(datadir)), before);
}

/** Of a fixture's data directory, whose link to the tablespace beside it is relative. */
function copyWithTablespace(datadir: string): string {
  const folder = temporaryPath("stock");
  for (const name of ["data", "ts_ext"]) copyTree(join(datadir, "..", name), join(folder, name));
  giveTree(folder, serverUser());
  return join(folder, "data");
}

/** Page files and their sidecars; what a failing server writes beside them is no harm. */
function relationsOf(tree: Tree): Tree {
  const pattern = /\/(?:base|global|PG_15_\d+)\/(?:\d+\/)?t?\d[^/]*$/;
  return new Map([...tree].filter(([path, { kind }]) => kind === "file" && pattern.test(path)));
}
