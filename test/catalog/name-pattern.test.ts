/** Names and patterns as psql's \d takes them. The examples of psql's documentation are among them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  parseNamePattern,
  parseRelationPattern,
  quoteName,
} from "../../src/catalog/name-pattern.ts";
import { assertProperty } from "../support/property.ts";

test("what is outside of quotes is folded to lower case and split at dots, what is inside is itself", () => {
  const parts = (text: string): (string | undefined)[] => {
    const { database, schema, name } = parseRelationPattern(text);
    return [database?.text, schema?.text, name.text];
  };
  assert.deepEqual(parts("Orders"), [undefined, undefined, "orders"]);
  assert.deepEqual(parts("Sales.ORDERS"), [undefined, "sales", "orders"]);
  assert.deepEqual(parts("shop.public.orders"), ["shop", "public", "orders"]);
  assert.deepEqual(parts('"Shop"."a.b".FOO"BAR"'), ["Shop", "a.b", "fooBAR"]);
  assert.deepEqual(parts('FOO"FOO""FOO"'), [undefined, undefined, 'fooFOO"FOO']);
  assert.deepEqual(parts("ЗАКАЗЫ"), [undefined, undefined, "ЗАКАЗЫ"]);
});

test("stars and question marks are wildcards outside of quotes only, and nothing else is", () => {
  const fits = (pattern: string, name: string): boolean => parseNamePattern(pattern).fits(name);
  assert.ok(fits("int*", "integer") && fits("int*", "int") && !fits("int*", "point"));
  assert.ok(fits("*.*".slice(2), "anything at all\nwith a line end"));
  assert.ok(fits("o?ders", "orders") && !fits("o?ders", "oders") && fits("?", "\u{1f600}"));
  assert.ok(fits('"a*"', "a*") && !fits('"a*"', "ab"));
  assert.ok(fits("a.b".slice(0, 1), "a") && fits("x(y)|[z]^$\\+{1}-/", "x(y)|[z]^$\\+{1}-/"));
  assert.ok(!fits("[a-z]", "b"));
  assert.deepEqual(
    ["orders", '"*"', "a*", "a?"].map((text) => parseNamePattern(text).isPattern),
    [false, false, true, true],
  );
});

test("a pattern of many stars fails as fast as one of a few", () => {
  const pattern = parseNamePattern(`${"*".repeat(200)}x`);
  assert.equal(pattern.fits("a".repeat(63)), false);
});

for (const [text, message] of [
  ['"open', /a double quote without its end$/],
  ["a..b", /an empty part$/],
  ["", /an empty part$/],
  ["a.", /an empty part$/],
  ['""', /an empty part$/],
  ["a.b.c.d", /too many parts for the name of a relation$/],
] as const) {
  test(`${JSON.stringify(text)} is refused as the name of a relation`, () => {
    assert.throws(() => parseRelationPattern(text), { code: "usage", message });
  });
}

test("one name is one part", () => {
  assert.throws(() => parseNamePattern("a.b"), { code: "usage", message: /too many parts/ });
  assert.equal(parseNamePattern('"a.b"').text, "a.b");
});

test("a name as it is printed means just that name", () => {
  const printable = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
    .filter((name) => !/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u.test(name));
  assertProperty(
    fc.property(printable, (name) => {
      const part = parseNamePattern(quoteName(name));
      assert.deepEqual([part.text, part.isPattern], [name, false]);
    }),
    500,
  );
});

test("a printed name can neither break a line nor move the cursor", () => {
  assert.equal(quoteName("a\nb\u001b[2J\u202e"), '"a\\u{a}b\\u{1b}[2J\\u{202e}"');
});

test("a pattern fits what the regular expression of the same meaning fits", () => {
  const letters = fc.constantFrom("a", "b", "*", "?", "\u{1f418}");
  const patterns = fc.array(letters, { minLength: 1, maxLength: 8 });
  const names = fc.array(fc.constantFrom("a", "b", "\u{1f418}"), { maxLength: 12 });
  assertProperty(
    fc.property(patterns, names, (pattern, name) => {
      const source = pattern.map((letter) =>
        letter === "*" ? ".*" : letter === "?" ? "." : letter,
      );
      const expected = new RegExp(`^${source.join("")}$`, "su").test(name.join(""));
      assert.equal(parseNamePattern(pattern.join("")).fits(name.join("")), expected);
    }),
    3000,
  );
});
