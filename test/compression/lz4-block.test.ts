/** LZ4 blocks that a real server made, against what it printed of the same values. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { decodeLz4Block } from "../../src/compression/lz4-block.ts";
import { TdeError } from "../../src/errors.ts";
import { truthRows } from "../support/fixture-truth.ts";
import { readFixture } from "../support/fixtures.ts";
import { assertProperty } from "../support/property.ts";

for (const id of ["1", "50"]) {
  test(`the LZ4 value of row ${id} is the text that the server printed`, () => {
    assert.equal(
      decodeLz4Block(block(id), text(id).length).toString("utf8"),
      text(id).toString("utf8"),
    );
  });
}

test("an LZ4 block that is cut anywhere is refused", () => {
  const whole = block("1");
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => decodeLz4Block(whole.subarray(0, length), text("1").length), {
      code: "format",
    });
  }
});

test("an LZ4 block of another size than expected is refused", () => {
  for (const size of [0, text("50").length - 1, text("50").length + 1]) {
    assert.throws(() => decodeLz4Block(block("50"), size), { code: "format" });
  }
});

test("a match before the content of an LZ4 block is refused", () => {
  // One literal, then a match of four bytes, two bytes back.
  const before = Buffer.from([0x10, 0x61, 0x02, 0x00, 0x10, 0x62]);
  assert.throws(() => decodeLz4Block(before, 6), /a match begins before the content/);
  before[2] = 1;
  assert.equal(decodeLz4Block(before, 6).toString(), "aaaaab");
});

test("an LZ4 block with any bytes changed gives an error of tde or as many bytes as expected", () => {
  const size = text("1").length;
  assertProperty(
    fc.property(fc.nat(block("1").length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const changed = block("1");
      changed[at] = (changed[at] ?? 0) ^ mask;
      try {
        assert.equal(decodeLz4Block(changed, size).length, size);
      } catch (error) {
        assert.ok(error instanceof TdeError, String(error));
      }
    }),
  );
});

function block(id: string): Buffer {
  return readFixture(`compression/row-${id}-a.lz4`);
}

function text(id: string): Buffer {
  const row = truthRows(17, "public", "docs_lz4").find((one) => one["id"] === id);
  return Buffer.from(row?.["a"] ?? "");
}
