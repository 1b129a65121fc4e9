/**
 * The catalog reader on clusters of every major, against what their servers said of themselves just before they were
 * stopped: rows of transactions that were aborted or only prepared are in the files, and must not be seen.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import type { Catalog } from "../../src/catalog/catalog.ts";
import type { CatalogRelation } from "../../src/catalog/database-catalog.ts";
import { RELATION_KINDS } from "../../src/catalog/database-catalog.ts";
import { RelationNames } from "../../src/catalog/names.ts";
import { formatRelationPath } from "../../src/datadir/relation-path.ts";
import { parseRelationPath } from "../../src/datadir/relation-path.ts";
import { temporaryPath } from "../support/cluster.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import {
  catalogAt,
  datadirAt,
  relationsOf,
  sharedFixture,
  visibleRows,
} from "../support/fixture-catalog.ts";
import { FIXTURE_MAJORS, type FixtureMajor, unpackFixture } from "../support/fixture.ts";
import { truthTable, type TruthRow } from "../support/fixture-truth.ts";
import { assertListedAsTold } from "../support/listed.ts";
import { testKeys } from "../support/keys.ts";
import { walkDatadir } from "../../src/datadir/walk.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";

for (const major of FIXTURE_MAJORS) {
  test(`databases, tablespaces and roles of PostgreSQL ${major} are those that the server listed`, () => {
    assertSharedCatalogs(major, catalogAt(sharedFixture(major)));
  });

  test(`every relation of a database of PostgreSQL ${major} is as the server listed it`, () => {
    assertRelations(major, sharedFixture(major), catalogAt(sharedFixture(major)));
  });

  test(`every file of a cluster of PostgreSQL ${major} has the name of its relation`, () => {
    const path = sharedFixture(major);
    const datadir = datadirAt(path);
    const names = new RelationNames(datadir, () => catalogAt(path), assert.fail);
    const truth = new Map(
      truthTable(major, "relations.csv")
        .filter((row) => row["path"] !== null)
        .map((row) => [row["path"], row]),
    );
    let files = 0;
    for (const { path: file, classification } of walkDatadir(fs, bytePath(path), datadir)) {
      if (classification.class !== "relation") continue;
      const name = names.nameOf(file);
      files++;
      const main = formatRelationPath(
        { ...classification.file, fork: "main", relationSegment: 0 },
        datadir,
      );
      const row = truth.get(main);
      if (row === undefined) continue;
      assert.ok(name?.endsWith(quoted(row["relname"])), `${file} is ${row["relname"]}: ${name}`);
    }
    assert.ok(files > truth.size);
  });

  test(`every file of PostgreSQL ${major} is listed once, with its relation's OIDs and sizes as psql told them`, () => {
    assertListedAsTold(major, sharedFixture(major));
  });

  test(`the visible rows of every table of PostgreSQL ${major} are those that the server saw`, () => {
    const catalog = catalogAt(sharedFixture(major));
    const shop = relationsOf(catalog, "shop");
    const seen = new Map<number, string[]>();
    for (const { oid, ctid, xmin, xmax } of truthTable(major, "syscols.csv")) {
      const rows = seen.get(Number(oid)) ?? [];
      seen.set(Number(oid), rows);
      rows.push(`${ctid} ${xmin} ${xmax}`);
    }
    assert.ok(seen.size > 20);
    const tables = truthTable(major, "rows.csv").filter(({ schema }) => schema !== "pg_catalog");
    for (const { oid, relname, rows } of tables) {
      const relation = shop.relationByOid(Number(oid));
      assert.ok(relation?.file !== undefined, relname ?? "");
      const visible = visibleRows(sharedFixture(major), relation.file).map(
        ({ where, header: { xmin, xmax } }) =>
          `${where.replace(/^.* block (\d+) line (\d+)$/, "($1,$2)")} ${xmin} ${xmax}`,
      );
      assert.equal(visible.length, Number(rows));
      assert.deepEqual(visible, seen.get(Number(oid)) ?? [], relname ?? "");
    }
  });
}

const fs = new NodeFileSystem();

/** The encrypted fixture is that of one major: where keys go in, majors do not differ. */
const ENCRYPTED: readonly FixtureMajor[] =
  process.env["TDE_TEST_MAJORS"] === "all" ? FIXTURE_MAJORS : [17];

for (const major of ENCRYPTED) {
  test(`an encrypted cluster of PostgreSQL ${major} tells the same names as the plain one`, async () => {
    const { datadir } = unpackFixture(major, temporaryPath("encrypted"));
    await new SmallEngine().encrypt(datadir);
    const catalog = catalogAt(datadir, { keys: testKeys() });
    assertSharedCatalogs(major, catalog);
    assertRelations(major, datadir, catalog);
  });
}

function assertSharedCatalogs(major: FixtureMajor, catalog: Catalog): void {
  const flag = (value: boolean): string => (value ? "t" : "f");
  const columns = ["oid", "datname", "datdba", "encoding", "encname", "datistemplate"] as const;
  const picked = (row: TruthRow): (string | null | undefined)[] =>
    [...columns, "datallowconn", "dattablespace"].map((column) => row[column]);
  assert.deepEqual(
    catalog.databases.map((one) => [
      ...[one.oid, one.name, one.ownerOid, one.encoding].map(String),
      one.encodingName,
      flag(one.isTemplate),
      flag(one.allowsConnections),
      String(one.tablespaceOid),
    ]),
    byOid(truthTable(major, "databases.csv")).map(picked),
  );
  assert.deepEqual(
    catalog.tablespaces.map(({ oid, name }) => [String(oid), name]),
    byOid(truthTable(major, "tablespaces.csv")).map(({ oid, spcname }) => [oid, spcname]),
  );
  const roles = catalog.roles();
  for (const { oid, rolname } of truthTable(major, "roles.csv")) {
    assert.equal(roles.get(Number(oid)), rolname);
  }
  assert.equal(catalog.mayBeStale, false);
}

function assertRelations(major: FixtureMajor, path: string, catalog: Catalog): void {
  const datadir = datadirAt(path);
  const shop = relationsOf(catalog, "shop");
  const kinds = new Map(Object.entries(RELATION_KINDS).map(([letter, kind]) => [kind, letter]));
  const asListed = (relation: CatalogRelation): (string | null)[] => {
    const { file } = relation;
    const name = { fork: "main", relationSegment: 0, backend: undefined } as const;
    return [
      relation.schema,
      relation.name,
      String(relation.oid),
      file === undefined ? null : String(file.relfilenumber),
      kinds.get(relation.kind as never) ?? "",
      relation.persistence.charAt(0),
      relation.accessMethod ?? "",
      String(relation.toastOid ?? 0),
      relation.isShared ? "t" : "f",
      relation.kind.endsWith("index") ? String(relation.belongsTo) : null,
      file === undefined ? null : formatRelationPath({ ...file, ...name }, datadir),
    ];
  };
  // prettier-ignore
  const columns = [
    "schema", "relname", "oid", "relfilenode", "relkind", "relpersistence", "am", "toast_oid", "relisshared",
    "index_of", "path",
  ];
  const truth = truthTable(major, "relations.csv");
  assert.equal(shop.count, truth.length);
  const found = new Map([...shop.relations()].map((one) => [String(one.oid), asListed(one)]));
  for (const row of truth) {
    assert.deepEqual(
      found.get(row["oid"] ?? ""),
      columns.map((column) => row[column] ?? null),
    );
  }
  for (const row of truth) {
    if (row["path"] === null || row["path"] === undefined) continue;
    const file = parseRelationPath(bytePath(row["path"]), datadir);
    assert.ok(file !== undefined);
    assert.equal(shop.relationOfFile(file)?.oid, Number(row["oid"]));
  }
  assertOwned(major, shop);
}

/** The family of a table is its TOAST table, that one's index, and its own indexes. */
function assertOwned(major: FixtureMajor, shop: ReturnType<typeof relationsOf>): void {
  const truth = truthTable(major, "relations.csv");
  const tables = truth.filter(({ relkind }) => relkind === "r" || relkind === "m");
  const indexes = new Map<string, string[]>();
  for (const { oid, index_of: table } of truth) {
    if (table == null || oid == null) continue;
    indexes.set(table, [...(indexes.get(table) ?? []), oid]);
  }
  for (const { oid, toast_oid: toast } of tables) {
    const expected = [oid ?? "", ...(indexes.get(oid ?? "") ?? [])];
    if (toast != null && toast !== "0") expected.push(toast, ...(indexes.get(toast) ?? []));
    const family = shop.familyOf(Number(oid), { partitions: false }).map((one) => String(one.oid));
    assert.deepEqual(family.sort(), expected.sort());
  }
}

function byOid(rows: readonly TruthRow[]): TruthRow[] {
  return rows.toSorted((a, b) => Number(a["oid"]) - Number(b["oid"]));
}

function quoted(name: string | null | undefined): string {
  return /^[a-z_][a-z0-9_]*$/.test(name ?? "") ? `.${name}` : `."${name?.replaceAll('"', '""')}"`;
}
