/** pglz values that a real server made, against what it printed of the same values. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TdeError } from "../../src/errors.ts";
import { decodePglz } from "../../src/postgres/pglz.ts";
import { truthRows } from "../support/fixture-truth.ts";
import { readFixture } from "../support/fixtures.ts";
import { assertProperty } from "../support/property.ts";

for (const id of ["1", "3"]) {
  test(`the pglz value of row ${id} is the text that the server printed`, () => {
    assert.equal(
      decodePglz(value(id), text(id).length).toString("utf8"),
      text(id).toString("utf8"),
    );
  });
}

test("a pglz value that is cut anywhere is refused", () => {
  const whole = value("1");
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => decodePglz(whole.subarray(0, length), text("1").length), {
      code: "format",
    });
  }
});

test("a pglz value of another size than expected is refused", () => {
  for (const size of [0, text("1").length - 1, text("1").length + 1]) {
    assert.throws(() => decodePglz(value("1"), size), { code: "format" });
  }
});

test("a match before the content of a pglz value is refused", () => {
  // One literal, then a match of three bytes, two bytes back.
  const before = Buffer.from([0x02, 0x61, 0x00, 0x02]);
  assert.throws(() => decodePglz(before, 4), /a match begins before the content/);
  before[3] = 1;
  assert.equal(decodePglz(before, 4).toString(), "aaaa");
});

test("a pglz value with any bytes changed gives an error of tde or as many bytes as expected", () => {
  const size = text("1").length;
  assertProperty(
    fc.property(fc.nat(value("1").length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const changed = value("1");
      changed[at] = (changed[at] ?? 0) ^ mask;
      try {
        assert.equal(decodePglz(changed, size).length, size);
      } catch (error) {
        assert.ok(error instanceof TdeError, String(error));
      }
    }),
  );
});

function value(id: string): Buffer {
  return readFixture(`compression/row-${id}-b.pglz`);
}

function text(id: string): Buffer {
  const row = truthRows(17, "public", "docs_lz4").find((one) => one["id"] === id);
  return Buffer.from(row?.["b"] ?? "");
}
