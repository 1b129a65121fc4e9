/**
 * An encrypted directory through pgBackRest: backed up offline with its page checksums on, restored to another place
 * with the tablespace elsewhere. What it leaves out by design must not be missed.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import { temporaryPath } from "../support/cluster.ts";
import { unpackFixture } from "../support/fixture.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { requirePgBackRest, requireStockTools } from "../support/stock-tools.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

/** Of the tablespace `ext` in the fixture of 15. */
const TABLESPACE = "pg_tblspc/16387";

test("pgBackRest backs up an encrypted directory with page checksums, and what it restores verifies and decrypts", async (t) => {
  const tools = requireStockTools(t);
  const pgBackRest = requirePgBackRest(t);
  if (tools === undefined || pgBackRest === undefined) return;
  const folder = temporaryPath("pgbackrest");
  const { datadir } = unpackFixture(15, folder);
  // pgBackRest takes no tablespace inside the data directory; two databases are enough.
  for (const path of ["pg_tblspc/16388", "base/1", "base/4"])
    rmSync(join(datadir, path), { recursive: true });
  assert.equal(tools.run("pg_checksums", ["--enable", "-D", datadir]).status, 0);
  const plain = treeOf(datadir);
  const engine = new SmallEngine();
  await engine.encrypt(datadir);

  const run = (pgdata: string, ...args: readonly string[]): void => {
    const { status, stdout, stderr } = pgBackRest([
      `--config=${configure(folder, pgdata)}`,
      "--stanza=main",
      ...args,
    ]);
    assert.equal(status, 0, stdout + stderr);
  };
  configure(folder, datadir);
  giveTree(folder, serverUser());
  run(datadir, "--no-online", "stanza-create");
  run(datadir, "--no-online", "--checksum-page", "--type=full", "backup");
  assertPagesChecked(folder);
  const restored = join(folder, "restored");
  run(restored, `--tablespace-map=16387=${restored}.ext`, "restore");

  const report = await engine.verify(restored);
  assert.deepEqual(report.problems, []);
  assert.ok(report.missingExpendable.includes("base/16386/17519"), "an unlogged table is left out");
  await engine.decrypt(restored, { acceptMoved: true });
  assert.equal(readlinkSync(join(restored, TABLESPACE)), `${restored}.ext`);
  const left = new Set(report.missingExpendable.map((path) => `./${path}`));
  assertSameTree(contentOf(restored), contentOf(datadir, plain), {
    except: (path) => left.has(path) || path === `./${TABLESPACE}`,
  });
});

/** Files and links; times and owners are pgBackRest's business. */
function contentOf(datadir: string, tree = treeOf(datadir)): ReturnType<typeof treeOf> {
  return new Map(
    [...tree]
      .filter(([, { kind }]) => kind !== "directory")
      .map(([path, entry]) => [path, { ...entry, mtimeMs: 0, uid: 0, gid: 0 }]),
  );
}

/** @returns the path of a configuration for a data directory, with a repository in `folder`. */
function configure(folder: string, pgdata: string): string {
  const own = ["repo", "log", "lock", "spool"].map((name) => join(folder, name));
  for (const path of own) mkdirSync(path, { recursive: true });
  const [repo, log, lock, spool] = own;
  const config = join(folder, "pgbackrest.conf");
  const global = `repo1-path=${repo}\nlog-path=${log}\nlock-path=${lock}\nspool-path=${spool}`;
  const retention = "repo1-retention-full=1";
  writeFileSync(config, `[global]\n${global}\n${retention}\n[main]\npg1-path=${pgdata}\n`);
  return config;
}

/** Every relation file and every sidecar, each found good. */
function assertPagesChecked(folder: string): void {
  const latest = join(folder, "repo/backup/main/latest/backup.manifest");
  const lines = readFileSync(latest, "utf8").split("\n");
  const pages = lines.filter((line) => line.includes('"checksum-page":'));
  assert.deepEqual(
    pages.filter((line) => !line.includes('"checksum-page":true')),
    [],
  );
  assert.ok(pages.some((line) => line.startsWith("pg_data/base/5/1259=")));
  assert.ok(pages.some((line) => line.startsWith("pg_data/base/5/1259_tde=")));
}
