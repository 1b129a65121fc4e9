/**
 * Damaged WAL never crashes tde, never makes it run on for ever or fill its memory: a fixed part of what
 * `npm run fuzz` does without end.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runFuzz } from "../fuzz/run-fuzz.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("damaged records and files end in descriptions or messages, within a small heap", async (t) => {
  const result = await runFuzz({
    seed: Number(process.env["TDE_TEST_SEED"] ?? 1),
    records: 6000,
    seconds: 600,
    filesPerRound: 3,
    folder: temporaryDirectory(t),
  });
  assert.equal(result.problem, undefined);
  assert.ok(result.described > 3000, `${result.described} described`);
  assert.ok(result.refused > 0 && result.files > 30);
  assert.ok(result.memoryKb < 400 * 1024, `${result.memoryKb} kB`);
});
