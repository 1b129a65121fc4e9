/**
 * What `tde ls` lists: names, OIDs, files and sizes against what psql said of the same clusters, keys against the
 * slots on disk, and every file of a directory exactly once, whatever state it is in.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { parseNamePattern } from "../../src/catalog/name-pattern.ts";
import type { Listing, ListRequest } from "../../src/engine/list-directory.ts";
import type { ListedRelation } from "../../src/engine/listed-relations.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { makeSmallCatalogCluster, sharedFixture } from "../support/fixture-catalog.ts";
import { type TruthRow, truthTable } from "../support/fixture-truth.ts";
import { edit, remakeChecksums } from "../support/forger.ts";
import { assertEachFileOnce, bytesOnDisk, listingOf, rowsOf } from "../support/listed.ts";
import { keyIdsOnDisk } from "../support/key-ids-on-disk.ts";
import { testKeys } from "../support/keys.ts";
import { copyOf, LARGE, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";

const small = makeSmallCatalogCluster();
const encrypted = copyOf(small);
await new SmallEngine().encrypt(encrypted);

function scoped(scope: Partial<Record<keyof ScopeSelection, string>>): Partial<ListRequest> {
  const named = Object.entries(scope).map(([option, text]) => [option, [bytePath(text)]]);
  return { scope: { ...NOTHING_SELECTED, ...Object.fromEntries(named) } };
}

test("databases and tablespaces are those that psql told, each with all of its files", () => {
  const datadir = sharedFixture(17);
  const listing = listingOf(datadir);
  const listed = (by: "database" | "tablespace"): unknown[] =>
    listing.folders(by, NOTHING_SELECTED, "oid").map(({ oid, name }) => [oid, name]);
  const told = (table: string, name: string): unknown[] =>
    truthTable(17, table).map((row) => [Number(row["oid"]), row[name]]);
  assert.deepEqual(listed("database"), [[0, undefined], ...told("databases.csv", "datname")]);
  assert.deepEqual(listed("tablespace"), told("tablespaces.csv", "spcname"));
  const total = [...bytesOnDisk(datadir).values()].reduce((sum, bytes) => sum + bytes, 0);
  for (const by of ["database", "tablespace"] as const) {
    const sums = listing.folders(by, NOTHING_SELECTED, "oid");
    assert.equal(
      sums.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      total,
    );
  }
});

test("that a prepared transaction is open is said, since names are those without it", () => {
  const engine = new SmallEngine();
  listingOf(sharedFixture(17), { engine });
  assert.match(engine.notices.join(), /^1 prepared transaction is open: names are those without/);
});

test("without --system only what users made is listed, with the TOAST tables and indexes of it", () => {
  const rows = rowsOf(listingOf(sharedFixture(17)), { system: false });
  const truth = truthTable(17, "relations.csv");
  const owners = new Map(truth.map((row) => [row["oid"], row]));
  const ownerOf = (row: TruthRow): TruthRow | undefined =>
    owners.get(row["index_of"] ?? "") ?? truth.find((one) => one["toast_oid"] === row["oid"]);
  const isUsers = (row: TruthRow): boolean => {
    const owner = ownerOf(row);
    return owner === undefined
      ? !/^(pg_|information_schema)/.test(row["schema"] ?? "")
      : isUsers(owner);
  };
  const expected = truth.filter((row) => (row["path"] ?? null) !== null && isUsers(row));
  assert.deepEqual(
    rows
      .filter(({ relation, path }) => relation !== undefined && path !== undefined)
      .map(({ path }) => String(path))
      .sort(),
    expected.map(({ path }) => String(path)).sort(),
  );
});

test("a name means what it means to other commands, and kind and schema narrow it", () => {
  const listing = (): Listing => listingOf(sharedFixture(17));
  const truth = truthTable(17, "relations.csv");
  const orders = truth.find(({ relname }) => relname === "orders");
  const indexes = truth.filter((row) => row["index_of"] === orders?.["oid"]);
  const named = rowsOf(listing(), {
    ...scoped({ relations: "shop.public.orders" }),
    kinds: ["index"],
  });
  const toast = `pg_toast_${orders?.["oid"]}_index`;
  assert.deepEqual(
    named.map(({ relation }) => relation?.name ?? "").sort(),
    [...indexes.map(({ relname }) => relname ?? ""), toast].sort(),
  );
  const inSchema = rowsOf(listing(), { schemas: [parseNamePattern("inv")], kinds: ["table"] });
  assert.deepEqual(
    inSchema.map(({ relation }) => relation?.name),
    truth.flatMap(({ schema, relkind, relname }) =>
      schema === "inv" && relkind === "r" ? [relname] : [],
    ),
  );
  assert.throws(() => rowsOf(listing(), scoped({ relations: "nothing" })), { code: "usage" });
});

test("the order is the one that is asked for, and by name a table is followed by what belongs to it", () => {
  const rows = (sort: ListRequest["sort"]): ListedRelation[] =>
    rowsOf(listingOf(sharedFixture(17)), { sort, ...scoped({ databases: "shop" }) }).filter(
      ({ relation }) => relation !== undefined,
    );
  const falling = (values: readonly number[]): boolean =>
    values.every((value, i) => i === 0 || value <= (values[i - 1] ?? 0));
  assert.ok(falling(rows("size").map(({ sizeBytes }) => sizeBytes)));
  assert.ok(falling(rows("pages").map(({ pages }) => pages)));
  assert.ok(falling(rows("oid").map(({ relation }) => -(relation?.oid ?? 0))));
  const names = rows("name").map(({ relation }) => relation?.name ?? "");
  const orders = names.indexOf("orders");
  assert.match(names[orders + 1] ?? "", /^orders_|^pg_toast_/);
});

test("of an encrypted directory each relation's keys are those of its slots", async () => {
  const datadir = copyOf(encrypted);
  const engine = new SmallEngine({ keys: testKeys(2) });
  const named = { ...NOTHING_SELECTED, relations: [bytePath(ORDINARY)] };
  await engine.rotate(datadir, { kind: "relations", named });
  const listing = listingOf(datadir, { keys: testKeys(2), engine });
  assert.equal(listing.evidence, "manifest");
  const rows = rowsOf(listing);
  const onDisk = keyIdsOnDisk(datadir);
  assert.deepEqual(pagesByKey(rows), [
    [1, onDisk.get("slot 1")],
    [2, onDisk.get("slot 2")],
  ]);
  const rotated = rows.filter(({ keys }) => keys.some(({ keyId }) => keyId === 2));
  assert.deepEqual(
    rotated.map(({ name, keys }) => [name, keys]),
    [["template1.pg_catalog.pg_class", [{ keyId: 2, count: rotated[0]?.pages }]]],
  );
  assertEachFileOnce(rows, datadir);
});

function pagesByKey(rows: readonly ListedRelation[]): unknown[] {
  const pages = new Map<number, number>();
  for (const { keys } of rows)
    for (const { keyId, count } of keys) pages.set(keyId, (pages.get(keyId) ?? 0) + count);
  return [...pages].sort(([a], [b]) => a - b);
}

test("a part that was encrypted shows in the shares, in relations and in their sums", async () => {
  const datadir = copyOf(small);
  const scope = { ...NOTHING_SELECTED, relations: [bytePath(LARGE)] };
  await new SmallEngine().encrypt(datadir, { scope });
  const listing = listingOf(datadir, { keys: testKeys() });
  const sealed = rowsOf(listing).filter(({ sealedBytes }) => sealedBytes > 0);
  assert.deepEqual(
    sealed.map(({ path, sizeBytes, sealedBytes }) => [path, sizeBytes - sealedBytes]),
    [[LARGE, 0]],
  );
  const [sum] = listing.folders("database", NOTHING_SELECTED, "size");
  assert.deepEqual([sum?.name, sum?.sealedBytes], ["template1", sealed[0]?.sizeBytes]);
});

test("after an interrupted run keys are counted in the sidecars, and names are there all the same", async () => {
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal }).encrypt(copyOf(small));
  const renames = rehearsal.log.flatMap((what, i) => (what === "rename" ? [i] : []));
  for (const share of [0.4, 0.9]) {
    const datadir = copyOf(small);
    const fs = new StoppingFileSystem(renames[Math.floor(renames.length * share)]);
    await assert.rejects(new SmallEngine({ fs }).encrypt(datadir));
    const listing = listingOf(datadir, { keys: testKeys() });
    const rows = rowsOf(listing);
    assert.equal(listing.evidence, "sidecars");
    assert.ok(rows.some(({ name }) => name === "template1.pg_catalog.pg_class"));
    // What is not in its place yet does not count.
    for (const name of readdirSync(datadir, { recursive: true, encoding: "utf8" }))
      if (name.includes("_tdenew")) rmSync(join(datadir, name));
    assert.deepEqual(pagesByKey(rows), [[1, keyIdsOnDisk(datadir).get("slot 1")]]);
  }
});

test("without a keyring an encrypted directory is listed by path, with sizes and keys that nothing proves", () => {
  const listing = listingOf(encrypted);
  const rows = rowsOf(listing);
  assert.equal(listing.evidence, "unproved-manifest");
  assertEachFileOnce(rows, encrypted);
  assert.deepEqual(new Set(rows.map(({ remark }) => remark)), new Set(["unnamed"]));
  assert.deepEqual(pagesByKey(rows), [[1, keyIdsOnDisk(encrypted).get("slot 1")]]);
  assert.deepEqual(
    listing.unreadable.map(({ code }) => code),
    ["key"],
  );
  assert.throws(() => rowsOf(listingOf(encrypted), { kinds: ["table"] }), { code: "key" });
  const byPath = rowsOf(listingOf(encrypted), scoped({ relations: ORDINARY }));
  assert.deepEqual(
    byPath.map(({ path }) => path),
    [ORDINARY],
  );
});

test("a file without a row is an orphan, and a row without its file is marked", () => {
  const datadir = copyOf(small);
  mkdirSync(join(datadir, "base/777"));
  for (const path of ["base/1/99999", "base/1/99999_fsm", "base/1/t3_99999", "base/777/5"])
    writeFileSync(join(datadir, path), Buffer.alloc(8192));
  rmSync(join(datadir, ORDINARY + "_vm"));
  rmSync(join(datadir, "base/1/1247"));
  const rows = rowsOf(listingOf(datadir));
  const orphans = rows.filter(({ remark }) => remark === "orphan");
  assert.deepEqual(
    orphans
      .map(({ path, sizeBytes }) => [path, sizeBytes])
      .filter(([path]) => !/9000[12]$/.test(`${path}`)),
    [
      ["base/1/99999", 16384],
      ["base/1/t3_99999", 8192],
      ["base/777/5", 8192],
    ],
  );
  const remarkOf = (name: string): unknown =>
    rows.find((row) => row.name === `template1.pg_catalog.${name}`)?.remark;
  // pg_type has forks left, but no main fork.
  assert.equal(remarkOf("pg_type"), "no-file");
  assert.equal(remarkOf("pg_trigger"), "no-file");
  assert.equal(remarkOf("pg_class"), undefined);
});

test("a sidecar whose file is gone does not pass for the file", () => {
  const datadir = copyOf(encrypted);
  rmSync(join(datadir, "tde.manifest"));
  rmSync(join(datadir, LARGE));
  const listing = listingOf(datadir, { keys: testKeys() });
  const rows = rowsOf(listing);
  assert.equal(listing.evidence, "sidecars");
  const row = rows.find(({ path }) => path === LARGE);
  assert.deepEqual([row?.remark, row?.mainBytes], ["no-file", 0]);
});

test("after an unclean stop names are listed, and said to be perhaps stale", () => {
  const datadir = copyOf(small);
  edit(join(datadir, "global/pg_control"), (bytes) => {
    bytes.writeUInt32LE(6, 16);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
  const engine = new SmallEngine();
  const rows = rowsOf(listingOf(datadir, { engine }));
  assert.ok(rows.some(({ name }) => name === "template1.pg_catalog.pg_class"));
  assert.match(engine.notices.join(), /may be stale/);
});

test("a kind of relation that a newer server has is listed as other", () => {
  const datadir = copyOf(small);
  edit(join(datadir, ORDINARY), (bytes) => {
    // Of the row about pg_namespace: relpersistence and relkind stand 110 bytes after relname begins.
    const at = bytes.lastIndexOf("pg_namespace\0") + 110;
    assert.equal(bytes.toString("latin1", at, at + 2), "pr");
    bytes.write("pZ", at, "latin1");
  });
  remakeChecksums(join(datadir, ORDINARY));
  const rows = rowsOf(listingOf(datadir));
  const row = rows.find(({ name }) => name === "template1.pg_catalog.pg_namespace");
  assert.equal(row?.relation?.kind, "other");
});

const UNREADABLE: readonly (readonly [string, string, (datadir: string) => void])[] = [
  [
    "a damaged page of pg_class",
    "integrity",
    (at) => edit(join(at, ORDINARY), (bytes) => void bytes.fill(0x5a, 8192, 8300)),
  ],
  [
    "a column of pg_class that is called otherwise",
    "format",
    (at) => {
      edit(join(at, "base/1/1249"), (bytes) => {
        const name = "relfilenode\0";
        for (let i = bytes.indexOf(name); i >= 0; i = bytes.indexOf(name, i)) bytes.write("x", i);
      });
      remakeChecksums(join(at, "base/1/1249"));
    },
  ],
];

for (const [what, code, damage] of UNREADABLE) {
  test(`with ${what} paths are listed, and why there are no names`, () => {
    const datadir = copyOf(small);
    damage(datadir);
    const listing = listingOf(datadir);
    const rows = rowsOf(listing);
    assertEachFileOnce(rows, datadir);
    const inDatabase = rows.filter(({ path }) => path?.startsWith("base/1/"));
    assert.deepEqual(new Set(inDatabase.map(({ remark }) => remark)), new Set(["unnamed"]));
    assert.ok(listing.unreadable.some((error) => error.code === code));
  });
}
