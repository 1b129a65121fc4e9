/**
 * Names in the scope of a command, on whole clusters of real servers: what they stand for is held against what psql
 * said of the same cluster, and what is under which key afterwards against the bytes on disk.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { catalogNames } from "../../src/engine/catalog-names.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import type { ScopeNames } from "../../src/engine/select-scope.ts";
import { KeyError, UsageError } from "../../src/errors.ts";
import { serializeScope } from "../../src/format/scope.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { temporaryPath } from "../support/cluster.ts";
import { FIXTURE_MAJORS, type FixtureMajor, unpackFixture } from "../support/fixture.ts";
import { type TruthRow, truthTable } from "../support/fixture-truth.ts";
import { edit, sidecarOf } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { copyTree } from "../support/tree.ts";

const MAJOR = 17;
let plain = "";
let encrypted = "";

before(async () => {
  plain = unpackFixture(MAJOR, temporaryPath("whole")).datadir;
  encrypted = unpackFixture(MAJOR, temporaryPath("sealed")).datadir;
  await new SmallEngine().encrypt(encrypted);
});

function namesOf(
  datadir: string,
  options: { keys?: DataKeys; withPartitions?: boolean; engine?: SmallEngine } = {},
): ScopeNames {
  const { keys, withPartitions, engine = new SmallEngine() } = options;
  const opened = openDatadir(engine.engine.fs, bytePath(datadir));
  return catalogNames(engine.engine, opened, { keys, manifest: undefined, withPartitions })();
}

function partsOf(names: ScopeNames, name: string): string[] {
  return [...names.partsOf("relation", bytePath(name))].sort();
}

/** A table, its TOAST table, and the indexes of both, as the server told them. */
function familyOf(table: TruthRow, relations: readonly TruthRow[]): string[] {
  const owners = new Set([table["oid"], table["toast_oid"]]);
  const family = relations.filter(
    ({ oid, index_of: of }) => owners.has(oid ?? "") || (of != null && owners.has(of)),
  );
  return family.map(({ path }) => partOfPath(path ?? "")).sort();
}

function partOfPath(path: string): string {
  const [, tablespace, database, number] =
    /^(?:base|pg_tblspc\/(\d+)\/PG_[^/]+)\/(\d+)\/(\d+)$/.exec(path) ?? [];
  return `relation:${tablespace ?? 1663}/${database}/${number}`;
}

/** Tables and materialized views of users, in the order of the truth. */
function tablesOf(relations: readonly TruthRow[]): TruthRow[] {
  return relations.filter(
    ({ schema, relkind }) =>
      !/^(pg_|information_schema)/.test(schema ?? "") && /^[rm]$/.test(relkind ?? ""),
  );
}

function quoted({ schema, relname }: TruthRow): string {
  return [schema, relname].map((part) => `"${(part ?? "").replaceAll('"', '""')}"`).join(".");
}

function assertFamilies(major: FixtureMajor, names: ScopeNames): void {
  const relations = truthTable(major, "relations.csv");
  const tables = tablesOf(relations);
  assert.ok(tables.length > 30);
  for (const table of tables)
    assert.deepEqual(partsOf(names, `shop.${quoted(table)}`), familyOf(table, relations));
}

for (const major of FIXTURE_MAJORS) {
  test(`in ${major} each table means its files, its TOAST table's and all its indexes', as psql tells them`, () => {
    const datadir = major === MAJOR ? plain : unpackFixture(major, temporaryPath("names")).datadir;
    const names = namesOf(datadir);
    assertFamilies(major, names);
    const databases = names.partsOf("database", bytePath("shop"));
    const tablespaces = names.partsOf("tablespace", bytePath("ext"));
    assert.deepEqual(databases, [`database:${oidOf(major, "databases.csv", "datname", "shop")}`]);
    assert.deepEqual(tablespaces, [
      `tablespace:${oidOf(major, "tablespaces.csv", "spcname", "ext")}`,
    ]);
  });
}

function oidOf(major: FixtureMajor, table: string, column: string, name: string): string {
  return truthTable(major, table).find((row) => row[column] === name)?.["oid"] ?? "";
}

test("an encrypted directory gives the same names, with its keyring alone", () => {
  assertFamilies(MAJOR, namesOf(encrypted, { keys: testKeys() }));
  assert.throws(
    () => partsOf(namesOf(encrypted), "orders"),
    (error) => error instanceof KeyError && /Paths work without it/.test(error.hint ?? ""),
  );
});

test("a pattern means everything that fits, with the families of all of it", () => {
  const relations = truthTable(MAJOR, "relations.csv");
  const fitting = tablesOf(relations).filter(({ schema, relname }) =>
    `${schema}.${relname}`.startsWith("public.part_"),
  );
  assert.ok(fitting.length > 3);
  const parts = new Set(fitting.flatMap((table) => familyOf(table, relations)));
  assert.deepEqual(
    [...new Set(partsOf(namesOf(plain), "public.part_*"))].sort(),
    [...parts].sort(),
  );
});

test("a partitioned table means its partitions only when that is asked for", () => {
  assert.throws(
    () => partsOf(namesOf(plain), "public.part"),
    (error) => error instanceof UsageError && /--with-partitions/.test(error.hint ?? ""),
  );
  const parts = partsOf(namesOf(plain, { withPartitions: true }), "public.part");
  const leaves = partsOf(namesOf(plain), "public.part_*");
  assert.deepEqual([...new Set(parts)], [...new Set(leaves)]);
});

const ORDERS: ScopeSelection = { ...NOTHING_SELECTED, relations: [bytePath("shop.public.orders")] };

/** Files of the cluster that have a sidecar whose first slot is under this key. */
function sealedUnder(datadir: string, keyId: number, paths: readonly string[]): string[] {
  return paths.filter((path) => {
    const sidecar = sidecarOf(join(datadir, path));
    return existsSync(sidecar) && readFileSync(sidecar).readUInt32LE(24 + 4) === keyId;
  });
}

function pathsOf(rows: readonly TruthRow[]): string[] {
  return rows.flatMap(({ path, bytes }) => (path != null && bytes !== "0" ? [path] : []));
}

test("rotate --relation by name writes the table, its TOAST table and its indexes anew, and nothing else", async () => {
  const datadir = copyWithTablespaces(encrypted);
  const engine = new SmallEngine({ keys: testKeys(2) });
  await engine.rotate(datadir, { kind: "relations", named: ORDERS });
  const relations = truthTable(MAJOR, "relations.csv");
  const [orders] = relations.filter(({ relname }) => relname === "orders");
  const family = new Set(familyOf(orders ?? {}, relations));
  const expected = pathsOf(relations).filter((path) => family.has(partOfPath(path)));
  assert.deepEqual(sealedUnder(datadir, 2, pathsOf(relations)), expected);
  assert.ok(expected.length > 10);
  assert.deepEqual((await engine.verify(datadir, { scope: ORDERS })).problems, []);
});

/** With the tablespace beside the directory, to which its link leads. */
function copyWithTablespaces(datadir: string): string {
  const folder = join(temporaryPath("copy"), "cluster");
  copyTree(dirname(datadir), folder);
  return join(folder, "data");
}

test("an interrupted encryption of a name goes on by the same command, while its catalog may be half sealed", async () => {
  const database = { ...NOTHING_SELECTED, databases: [bytePath("shop")] };
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal }).encrypt(copyWithTablespaces(plain), { scope: database });
  for (const share of [0.3, 0.6, 0.9]) {
    const datadir = copyWithTablespaces(plain);
    const fs = new StoppingFileSystem(Math.floor(rehearsal.operations * share));
    const engine = new SmallEngine();
    const { memory } = engine.keyContext;
    await assert.rejects(new SmallEngine({ fs, memory }).encrypt(datadir, { scope: database }));
    const report = await engine.encrypt(datadir, { scope: database });
    const oid = oidOf(MAJOR, "databases.csv", "datname", "shop");
    assert.equal(serializeScope(report.scope), `database:${oid}`);
    assert.deepEqual(
      engine.notices.filter((notice) => !notice.startsWith("what is still plain is taken")),
      [],
    );
    assert.deepEqual((await engine.verify(datadir)).problems, []);
  }
});

test("names after an unclean stop are said to be those of the last state on disk", () => {
  const datadir = copyWithTablespaces(plain);
  edit(join(datadir, "global/pg_control"), (bytes) => {
    bytes.writeUInt32LE(6, 16);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
  const engine = new SmallEngine();
  assert.ok(partsOf(namesOf(datadir, { engine }), "shop.public.orders").length > 0);
  assert.match(engine.notices.join(), /may be stale/);
});

test("where a catalog page is damaged the block is named, and paths still work", async () => {
  const datadir = copyWithTablespaces(plain);
  const oid = oidOf(MAJOR, "databases.csv", "datname", "shop");
  const catalog = truthTable(MAJOR, "relations.csv").find(({ relname }) => relname === "pg_class");
  edit(join(datadir, catalog?.["path"] ?? ""), (bytes) => void bytes.fill(0x5a, 8192, 8300));
  const engine = new SmallEngine();
  await assert.rejects(engine.encrypt(datadir, { scope: ORDERS, dryRun: true }), (error) =>
    new RegExp(`${catalog?.["path"]} block 1`).test(String(error)),
  );
  const byPath = { ...NOTHING_SELECTED, relations: [bytePath(`base/${oid}/17386`)] };
  const report = await engine.encrypt(datadir, { scope: byPath, dryRun: true });
  assert.equal(serializeScope(report.scope), `relation:1663/${oid}/17386`);
  writeFileSync(join(datadir, "base", oid, "pg_filenode.map"), "short");
  await assert.rejects(engine.encrypt(datadir, { scope: ORDERS, dryRun: true }), /pg_filenode.map/);
});
