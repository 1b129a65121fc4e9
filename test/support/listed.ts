/**
 * Listings of whole directories, for tests: everything in them, and what it is held against: the files on disk, and
 * what psql said of the fixtures.
 */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { RELATION_KINDS } from "../../src/catalog/database-catalog.ts";
import { Listing, type ListRequest } from "../../src/engine/list-directory.ts";
import type { ListedRelation } from "../../src/engine/listed-relations.ts";
import { readListingSources } from "../../src/engine/listing-sources.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { datadirAt } from "./fixture-catalog.ts";
import type { FixtureMajor } from "./fixture.ts";
import { type TruthRow, truthTable } from "./fixture-truth.ts";
import { SmallEngine } from "./small-cluster.ts";

export const EVERYTHING: ListRequest = {
  scope: NOTHING_SELECTED,
  schemas: [],
  kinds: [],
  system: true,
  sort: "name",
};

export function listingOf(
  datadir: string,
  {
    keys,
    engine = new SmallEngine(keys && { keys }),
  }: { keys?: DataKeys; engine?: SmallEngine } = {},
): Listing {
  const opened = datadirAt(datadir);
  const sources = readListingSources(engine.engine, opened, keys && engine.keyContext);
  return new Listing(engine.engine, opened, sources);
}

export function rowsOf(listing: Listing, request: Partial<ListRequest> = {}): ListedRelation[] {
  return [...listing.relations({ ...EVERYTHING, ...request })];
}

/** Every relation of `shop`, and the shared ones, with OIDs, files and sizes as psql told them; every file once. */
export function assertListedAsTold(major: FixtureMajor, datadir: string): void {
  const rows = rowsOf(listingOf(datadir));
  assertEachFileOnce(rows, datadir);
  const listed = rows.filter(({ database, relation }) => {
    return relation !== undefined && (database?.name === "shop" || relation.isShared);
  });
  const truth = truthTable(major, "relations.csv");
  const onDisk = bytesOnDisk(datadir);
  const files = truth.filter(({ path, relkind }) => path != null || relkind === "p");
  assert.deepEqual(
    listed.map(asTruth).sort(byFirst),
    files.map((row) => psqlSays(row, truth, onDisk)).sort(byFirst),
  );
  assert.ok(listed.every(({ remark }) => remark === undefined));
}

/** Bytes of each relation's files below a directory, sidecars left out, by the path of the main fork. */
export function bytesOnDisk(datadir: string): Map<string, number> {
  const found = new Map<string, number>();
  const folders = ["global", ...foldersIn(datadir, "base")];
  for (const tablespace of foldersIn(datadir, "pg_tblspc"))
    for (const version of foldersIn(datadir, tablespace))
      folders.push(...foldersIn(datadir, version));
  for (const folder of folders) {
    for (const name of readdirSync(join(datadir, folder))) {
      const main = /^((?:t\d+_)?\d+)(?:_fsm|_vm|_init)?(?:\.\d+)?$/.exec(name)?.[1];
      if (main === undefined) continue;
      const path = `${folder}/${main}`;
      found.set(path, (found.get(path) ?? 0) + statSync(join(datadir, folder, name)).size);
    }
  }
  return found;
}

function foldersIn(datadir: string, folder: string): string[] {
  return readdirSync(join(datadir, folder)).map((name) => `${folder}/${name}`);
}

export function assertEachFileOnce(rows: readonly ListedRelation[], datadir: string): void {
  const withFiles = rows.filter(({ path, remark }) => path !== undefined && remark !== "no-file");
  const listed = withFiles.map(({ path, sizeBytes }) => [path, sizeBytes]);
  assert.deepEqual(listed.sort(byFirst), [...bytesOnDisk(datadir)].sort(byFirst));
}

function byFirst([a]: readonly unknown[], [b]: readonly unknown[]): number {
  return String(a) < String(b) ? -1 : 1;
}

function asTruth(row: ListedRelation): unknown[] {
  const { relation, path, mainBytes, totalBytes } = row;
  return [
    relation?.oid,
    `${relation?.schema}.${relation?.name}`,
    relation?.kind,
    relation?.toastOid ?? 0,
    path ?? null,
    mainBytes,
    totalBytes,
  ];
}

/** pg_total_relation_size was not asked for: it is summed up from the files of what the server says belongs together. */
function psqlSays(
  row: TruthRow,
  truth: readonly TruthRow[],
  onDisk: ReadonlyMap<string, number>,
): unknown[] {
  const { oid, schema, relname, relkind, toast_oid: toast, path, bytes } = row;
  const kind = RELATION_KINDS[relkind as keyof typeof RELATION_KINDS];
  const total = (one: TruthRow): number =>
    truth
      .filter((other) => other["index_of"] === one["oid"] || other["oid"] === one["toast_oid"])
      .reduce((sum, part) => sum + total(part), onDisk.get(one["path"] ?? "") ?? 0);
  return [
    Number(oid),
    `${schema}.${relname}`,
    kind,
    Number(toast),
    path ?? null,
    Number(bytes),
    total(row),
  ];
}
