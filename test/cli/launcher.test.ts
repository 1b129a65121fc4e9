/**
 * What bin/tde.js does before any of the program runs: how it ends where the program does not, and what it loads for a
 * server, which waits for it with every file of its WAL.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { TDE_PROGRAM } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Exit code and message of the launcher with another program behind it. */
function launch(t: TestContext, program: string | undefined): (number | string | null)[] {
  const folder = temporaryDirectory(t);
  cpSync(dirname(TDE_PROGRAM), join(folder, "bin"), { recursive: true });
  mkdirSync(join(folder, "dist/bundle"), { recursive: true });
  if (program !== undefined) writeFileSync(join(folder, "dist/bundle/wal-server.cjs"), program);
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(folder, "bin/tde.js"), "wal", "archive"],
    { encoding: "utf8" },
  );
  return [status, stderr];
}

test("a program that stops without an end is no success to a server", (t) => {
  const never = "exports.serve = () => new Promise(() => {});";
  assert.deepEqual(launch(t, never), [255, "tde: error: it stopped before its end\n"]);
});

test("a program that is not whole ends with 255, which a recovering server does not take for the end", (t) => {
  const [status, stderr] = launch(t, undefined);
  assert.equal(status, 255);
  assert.match(String(stderr), /^tde: error: the program is not whole: Error: Cannot find module/);
});

test("what a server calls loads no package, but where it has to", () => {
  const bundle = join(dirname(TDE_PROGRAM), "../dist/bundle/wal-server.cjs");
  const loaded = [...readFileSync(bundle, "utf8").matchAll(/\brequire\("([^"]+)"\)/g)];
  assert.ok(loaded.length > 5);
  assert.deepEqual(
    loaded.map(([, name = ""]) => name).filter((name) => !isBuiltin(name)),
    [],
  );
});
