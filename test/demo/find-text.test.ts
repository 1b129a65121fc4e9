import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findTexts } from "../../src/demo/find-text.ts";
import { temporaryPath } from "../support/cluster.ts";

const NEEDLE = "a secret text";

test("a text is found wherever it lies across the chunks that are read", () => {
  const folder = temporaryPath("find");
  for (const at of [0, 1, (1 << 20) - 20, (1 << 20) - 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 5]) {
    const content = Buffer.alloc(3 << 20, 0x61);
    content.write(NEEDLE, at);
    writeFileSync(join(folder, "file"), content);
    assert.deepEqual(findTexts(folder, { needle: NEEDLE, other: "not there" }), [
      { name: "needle", path: "file", offset: at },
    ]);
  }
  for (const at of [(2 << 20) + 3, (3 << 20) - NEEDLE.length]) {
    const content = Buffer.alloc(3 << 20, 0x61);
    content.write(NEEDLE, at);
    writeFileSync(join(folder, "file"), content);
    assert.equal(findTexts(folder, { needle: NEEDLE })[0]?.offset, at);
  }
});

test("links are followed, and names that are not UTF-8 are kept", () => {
  const folder = temporaryPath("find");
  const elsewhere = temporaryPath("elsewhere");
  mkdirSync(join(elsewhere, "deep"));
  writeFileSync(
    Buffer.concat([Buffer.from(`${elsewhere}/deep/`), Buffer.from([0xff, 0x41])]),
    `x${NEEDLE}`,
  );
  symlinkSync(elsewhere, join(folder, "link"));
  assert.deepEqual(findTexts(folder, { needle: NEEDLE }), [
    { name: "needle", path: "link/deep/\u00ffA", offset: 1 },
  ]);
});
