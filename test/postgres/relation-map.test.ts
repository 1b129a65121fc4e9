/** pg_filenode.map of real clusters: what must be in it, and what is refused. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseRelationMap } from "../../src/postgres/relation-map.ts";
import { sharedFixture } from "../support/fixture-catalog.ts";
import { truthTable } from "../support/fixture-truth.ts";

const MAJOR = 17;

test("the maps name the file of every relation whose relfilenode is 0 in pg_class, and no other", () => {
  const mapped = truthTable(MAJOR, "relations.csv").filter(
    (row) => row["raw_relfilenode"] === "0" && row["relfilenode"] !== null,
  );
  const shop = truthTable(MAJOR, "databases.csv").find(({ datname }) => datname === "shop");
  for (const [shared, folder] of [
    ["t", "global"],
    ["f", `base/${shop?.["oid"]}`],
  ] as const) {
    const expected = mapped
      .filter(({ relisshared }) => relisshared === shared)
      .map(({ oid, relfilenode }) => [Number(oid), Number(relfilenode)]);
    assert.ok(expected.length > 3);
    const found = [...parseRelationMap(mapOf(folder), MAJOR, "a map")];
    assert.deepEqual(found.toSorted(byFirst), expected.toSorted(byFirst));
  }
});

test("a map with any bit changed, cut or of another major is refused", () => {
  const map = mapOf("global");
  for (let at = 0; at < map.length; at++) {
    const changed = Buffer.from(map);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    assert.throws(() => parseRelationMap(changed, MAJOR, "a map"), { code: "format" });
  }
  assert.throws(() => parseRelationMap(map.subarray(0, 511), MAJOR, "a map"), { code: "format" });
  assert.throws(() => parseRelationMap(map, 13, "a map"), { code: "format" });
});

function mapOf(folder: string): Buffer {
  return readFileSync(join(sharedFixture(MAJOR), folder, "pg_filenode.map"));
}

function byFirst(a: readonly number[], b: readonly number[]): number {
  return (a[0] ?? 0) - (b[0] ?? 0);
}
