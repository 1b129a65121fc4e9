/** What names mean in a real cluster: one relation, several, none, and what they may have been. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  findDatabases,
  findRelations,
  findTablespaces,
  relationName,
} from "../../src/catalog/names.ts";
import { editDistance, nearMatches } from "../../src/catalog/near-matches.ts";
import { catalogAt, sharedFixture } from "../support/fixture-catalog.ts";

const catalog = catalogAt(sharedFixture(17));

function found(text: string): string[] {
  return findRelations(catalog, text).map(({ database, relation }) =>
    relationName(database, relation),
  );
}

test("a name without database and schema means the one relation of that name", () => {
  assert.deepEqual(found("orders"), ["shop.public.orders"]);
  assert.deepEqual(found('"Odd ""Name"'), ['shop.inv."Odd ""Name"']);
});

test("a pattern means all that fit and have files", () => {
  assert.deepEqual(found("shop.public.docs*").sort(), [
    "shop.public.docs",
    "shop.public.docs_lz4",
    "shop.public.docs_lz4_pkey",
    "shop.public.docs_pkey",
  ]);
  assert.ok(!found("*").some((name) => name.includes("vw")), "a view has no files");
});

test("relations of the system are meant only where their schema is named", () => {
  assert.ok(found("*").every((name) => !/\.(pg_|information_schema)/.test(name)));
  assert.ok(found("shop.pg_catalog.*").includes("shop.pg_catalog.pg_class"));
  assert.throws(() => found("pg_class"), {
    code: "usage",
    message: "there is no relation pg_class",
    hint: /^The nearest: template1\.pg_catalog\.pg_class, /,
  });
});

test("a relation that all databases share is one", () => {
  assert.deepEqual(found("pg_catalog.pg_database"), ["pg_catalog.pg_database"]);
});

test("a name that means several relations is refused with all of them", () => {
  assert.throws(() => found("pg_catalog.pg_proc"), {
    code: "usage",
    message: "pg_catalog.pg_proc means 4 relations",
    hint: "Say which: template1.pg_catalog.pg_proc, template0.pg_catalog.pg_proc, postgres.pg_catalog.pg_proc, shop.pg_catalog.pg_proc.",
  });
});

test("an unknown name is refused with what it may have been", () => {
  assert.throws(() => found("ordres"), {
    code: "usage",
    message: "there is no relation ordres",
    hint: "The nearest: shop.public.orders.",
  });
  assert.throws(() => found("sales.orders"), {
    message: "there is no relation sales.orders",
    hint: /^The nearest: shop\.public\.orders/,
  });
  assert.throws(() => found("shpo.public.orders"), {
    message: "there is no database shpo",
    hint: "The nearest: shop.",
  });
  assert.throws(() => found("shop.public.nothing_like_it_*"), { code: "usage" });
});

test("a view is refused, since it has no files; a partitioned table has its partitions'", () => {
  assert.throws(() => found("vw"), {
    code: "usage",
    message: "shop.public.vw is a view, which has no files",
  });
  const [part] = findRelations(catalog, "part");
  assert.ok(part !== undefined);
  assert.equal(part.relation.file, undefined);
  const relations = catalog.relationsOf(part.database);
  const family = (partitions: boolean): string[] =>
    relations
      .familyOf(part.relation.oid, { partitions })
      .filter(({ kind }) => kind === "table")
      .map(({ name }) => name)
      .sort();
  assert.deepEqual(family(false), []);
  assert.deepEqual(family(true), ["part_h0", "part_h1", "part_n1", "part_n2", "part_s"]);
});

test("databases and tablespaces are found by name or pattern, and refused with those that there are", () => {
  const databases = (text: string): string[] =>
    findDatabases(catalog, text).map(({ name }) => name);
  assert.deepEqual(databases("SHOP"), ["shop"]);
  assert.deepEqual(databases("template?"), ["template1", "template0"]);
  assert.throws(() => databases("warehouse"), {
    code: "usage",
    message: "there is no database warehouse",
    hint: "Its databases: template1, template0, postgres, shop.",
  });
  assert.deepEqual(
    findTablespaces(catalog, "ext").map(({ oid }) => oid),
    [16387],
  );
  assert.throws(() => findTablespaces(catalog, "inplce"), {
    message: "there is no tablespace inplce",
    hint: "The nearest: inplace.",
  });
});

test("the distance of two names counts letters inserted, removed, replaced and swapped", () => {
  const distance = (a: string, b: string): number => editDistance(a, b, 10);
  assert.equal(distance("orders", "orders"), 0);
  assert.equal(distance("orders", "order"), 1);
  assert.equal(distance("orders", "ordres"), 1);
  assert.equal(distance("", "abc"), 3);
  assert.equal(distance("kitten", "sitting"), 3);
  assert.ok(editDistance("abcdef", "uvwxyz", 2) > 2);
});

test("a slip of the pen is nearer than a longer name that begins in the same way", () => {
  const candidates = ["orders_id_seq", "orders_pkey", "orders"].map((name) => ({
    name,
    shown: () => name,
  }));
  assert.deepEqual(nearMatches("order", candidates), ["orders", "orders_pkey", "orders_id_seq"]);
});

test("of many near names the nearest are told, each once", () => {
  const names = Array.from({ length: 5000 }, (_, i) => `order_${i}`);
  const candidates = [...names, "orders", "orders"].map((name) => ({ name, shown: () => name }));
  const near = nearMatches("ordrs", candidates);
  assert.equal(near[0], "orders");
  assert.ok(near.length <= 8 && new Set(near).size === near.length);
  assert.deepEqual(nearMatches("zzz", candidates), []);
});
