import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toNativePath } from "../../src/bytes/byte-path.ts";
import { decodeLosslessly, pathArgument } from "../../src/cli/raw-arguments.ts";
import { assertProperty } from "../support/property.ts";

test("any bytes come back from the string that stands for them", () => {
  assertProperty(
    fc.property(fc.uint8Array({ maxLength: 40 }), (array) => {
      const bytes = Buffer.from(array);
      const native = toNativePath(pathArgument(decodeLosslessly(bytes)));
      assert.deepEqual(Buffer.from(native), bytes);
    }),
    1000,
  );
});

test("UTF-8 is read as UTF-8", () => {
  assert.equal(decodeLosslessly(Buffer.from("/srv/Büro 🔑")), "/srv/Büro 🔑");
  assert.deepEqual(toNativePath(pathArgument("/srv/Büro 🔑")), Buffer.from("/srv/Büro 🔑"));
});
