/**
 * Fixture clusters opened with the catalog reader, unpacked once in each test process.
 */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { type Catalog, openCatalog } from "../../src/catalog/catalog.ts";
import { readVisibleRows, type Row } from "../../src/catalog/catalog-rows.ts";
import type { DatabaseCatalog } from "../../src/catalog/database-catalog.ts";
import { StoredFiles, type Unsealing } from "../../src/catalog/stored-files.ts";
import { TransactionFiles } from "../../src/catalog/transaction-files.ts";
import { type Datadir, openDatadir } from "../../src/datadir/datadir.ts";
import type { ScopedRelation } from "../../src/format/scope.ts";
import type { Attribute } from "../../src/postgres/heap-tuple.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "./cluster.ts";
import { type FixtureMajor, unpackFixture } from "./fixture.ts";
import { truthTable } from "./fixture-truth.ts";
import { makeSmallCluster } from "./small-cluster.ts";

const fs = new NodeFileSystem();
const unpacked = new Map<FixtureMajor, string>();

/** PGDATA of an unpacked fixture that tests share: they must not change it. */
export function sharedFixture(major: FixtureMajor): string {
  let path = unpacked.get(major);
  if (path === undefined) {
    path = unpackFixture(major, temporaryPath(`fixture${major}`)).datadir;
    unpacked.set(major, path);
  }
  return path;
}

/** What the reader needs and the small cluster lacks: pg_attribute and the like of template1, and pg_tablespace. */
// prettier-ignore
const MISSING_CATALOGS = [
  "base/1/1249", "base/1/2601", "base/1/2610", "base/1/2611", "base/1/2615", "global/1213",
];

/** A copy of the small cluster whose database template1 can be read; the folders of the others are not there. */
export function makeSmallCatalogCluster(): string {
  const datadir = makeSmallCluster(17);
  for (const file of MISSING_CATALOGS) {
    copyFileSync(join(sharedFixture(17), file), join(datadir, file));
  }
  return datadir;
}

export function datadirAt(path: string): Datadir {
  return openDatadir(fs, bytePath(path));
}

export function catalogAt(path: string, unsealing: Unsealing = {}): Catalog {
  return openCatalog(fs, datadirAt(path), unsealing);
}

export function relationsOf(catalog: Catalog, name: string): DatabaseCatalog {
  const database = catalog.databases.find((one) => one.name === name);
  if (database === undefined) throw new Error(`there is no database ${name}`);
  return catalog.relationsOf(database);
}

/** The visible rows of a relation in the order of their ctid, each with bytes of its own. */
export function visibleRows(path: string, relation: ScopedRelation): Row[] {
  const datadir = datadirAt(path);
  const rows: Row[] = [];
  const files = new StoredFiles(fs, datadir, {});
  readVisibleRows(files, relation, new TransactionFiles(fs, datadir), (row) => {
    rows.push({ ...row, tuple: Buffer.from(row.tuple) });
    return true;
  });
  return rows;
}

/** The columns of a user's table, dropped ones included, as the server printed its pg_attribute. */
export function attributesOf(
  major: FixtureMajor,
  schema: string,
  table: string,
): (Attribute & { readonly name: string; readonly isDropped: boolean })[] {
  return truthTable(major, "attributes.csv")
    .filter((row) => row["schema"] === schema && row["relname"] === table)
    .sort((a, b) => Number(a["attnum"]) - Number(b["attnum"]))
    .map((row) => ({
      name: row["attname"] ?? "",
      isDropped: row["attisdropped"] === "t",
      length: Number(row["attlen"]),
      align: (row["attalign"] ?? "c") as Attribute["align"],
    }));
}
