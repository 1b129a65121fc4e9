import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { FormatError, TdeError } from "../../src/errors.ts";
import {
  makeScope,
  parseScope,
  type Scope,
  type ScopePart,
  scopeFilter,
  serializeScope,
} from "../../src/format/scope.ts";
import { assertProperty } from "../support/property.ts";

/** In base/5, base/6, global and the tablespace 16400, as paths would have them. */
const RELATIONS = {
  "base/5/100": { tablespaceOid: 1663, databaseOid: 5, relfilenumber: 100 },
  "base/5/200": { tablespaceOid: 1663, databaseOid: 5, relfilenumber: 200 },
  "base/6/100": { tablespaceOid: 1663, databaseOid: 6, relfilenumber: 100 },
  "16400/5/100": { tablespaceOid: 16400, databaseOid: 5, relfilenumber: 100 },
  "16400/6/300": { tablespaceOid: 16400, databaseOid: 6, relfilenumber: 300 },
  "global/1260": { tablespaceOid: 1664, databaseOid: 0, relfilenumber: 1260 },
} as const;
const ALL = Object.keys(RELATIONS);

const CASES: readonly (readonly [text: string, inScope: readonly string[]])[] = [
  ["all", ALL],
  ["database:5", ["base/5/100", "base/5/200", "16400/5/100"]],
  ["tablespace:16400", ["16400/5/100", "16400/6/300"]],
  ["tablespace:1664", ["global/1260"]],
  ["relation:1663/5/100", ["base/5/100"]],
  ["database:6,relation:1663/5/100", ["base/5/100", "base/6/100", "16400/6/300"]],
  ["all except database:5", ["base/6/100", "16400/6/300", "global/1260"]],
  ["database:5 except relation:1663/5/100,tablespace:16400", ["base/5/200"]],
  ["database:7", []],
];

for (const [text, inScope] of CASES) {
  test(`the scope "${text}" holds just what it names`, () => {
    const isInScope = scopeFilter(parseScope(text, "a test"));
    const held = Object.entries(RELATIONS).filter(([, relation]) => isInScope(relation));
    assert.deepEqual(
      held.map(([path]) => path),
      inScope,
    );
  });
}

const oid = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const part: fc.Arbitrary<ScopePart> = fc.oneof(
  oid.map((n) => `database:${n}` as const),
  oid.map((n) => `tablespace:${n}` as const),
  fc.tuple(oid, oid, oid).map(([a, b, c]) => `relation:${a}/${b}/${c}` as const),
);
const scope: fc.Arbitrary<Scope> = fc
  .tuple(
    fc.oneof(fc.constant("all" as const), fc.array(part, { minLength: 1, maxLength: 6 })),
    fc.array(part, { maxLength: 6 }),
  )
  .map(([included, excluded]) => makeScope(included, excluded));

test("every scope has one text, and comes back from it", () => {
  assertProperty(
    fc.property(scope, (value) => {
      const text = serializeScope(value);
      assert.deepEqual(parseScope(text, "a test"), value);
      assert.equal(serializeScope(parseScope(text, "a test")), text);
    }),
  );
});

test("a text that was changed in one place is another scope or none", () => {
  assertProperty(
    fc.property(
      scope,
      fc.nat(),
      fc.constantFrom("0", " ", ",", ":", "/", "a", "x"),
      (value, at, character) => {
        const text = serializeScope(value);
        const place = at % text.length;
        const changed = text.slice(0, place) + character + text.slice(place + 1);
        try {
          assert.equal(serializeScope(parseScope(changed, "a test")), changed);
        } catch (error) {
          assert.ok(error instanceof TdeError);
        }
      },
    ),
  );
});

for (const text of [
  "",
  "all,all",
  "database:5,database:5",
  "all except",
  "database:05",
  "table:5",
]) {
  test(`"${text}" is no scope`, () => {
    assert.throws(() => parseScope(text, "a test"), FormatError);
  });
}
