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

test("the demo's account is true from the first step to the last", async () => {
  const before = demoFolders();
  const lines: string[] = [];
  const status = await runDemo({
    out: (line) => void lines.push(line),
    keep: false,
    major: undefined,
  });
  const account = lines.join("\n");
  assert.equal(status, 0, account);
  for (const command of ["keyring create", "encrypt-datadir", "verify", "decrypt-datadir"]) {
    assert.ok(account.includes(`$ tde ${command} `), account);
  }
  assert.match(account, /Nothing found\./);
  assert.match(account, /exit code 3/);
  assert.match(account, /files are back, byte for byte/);
  assert.match(account, /tables are as they were/);
  assert.deepEqual(demoFolders(), before);
});

function demoFolders(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith("tde-demo-"));
}
