import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { runDemo } from "../../src/demo/demo.ts";
import { StateError } from "../../src/errors.ts";

test("the demo of a major that is not installed is refused and leaves nothing", async () => {
  const before = demoFolders();
  await assert.rejects(runDemo({ out: () => undefined, keep: false, major: 99 }), StateError);
  assert.deepEqual(demoFolders(), before);
});

function demoFolders(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith("tde-demo-"));
}
