/**
 * Every operation that writes, stopped by a power cut before any of its steps and by an error in any of its calls, on
 * a simulated disk. Without TDE_CRASH=full a sample, which TDE_TEST_RUNS enlarges; the seed is printed.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cutEverywhere,
  failEverywhere,
  type Figures,
  measure,
  passWith,
  spoilEverywhere,
} from "../support/crash-harness.ts";
import { randomFrom } from "../support/crash-nodes.ts";
import { OPERATIONS } from "../support/crash-operations.ts";

const full = process.env["TDE_CRASH"] === "full";
const seed = Number(process.env["TDE_TEST_SEED"] ?? 1);
/** How many steps and how many calls of each operation a sample stops. */
const samples = Number(process.env["TDE_TEST_RUNS"] ?? 12);

for (const operation of OPERATIONS) {
  test(`${operation.name} survives a power cut before any step`, async (t) => {
    const { steps } = await measure(operation, await operation.prepare());
    const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
    const stride = full ? 1 : Math.max(1, Math.ceil(steps / samples));
    await cutEverywhere(operation, { stride, seed }, figures);
    t.diagnostic(
      `${operation.name}: ${steps} steps, seed ${seed}: ${figures.cuts} power cuts, ${figures.recovered} recoveries`,
    );
  });

  test(`${operation.name} survives an error in any call`, async (t) => {
    const { calls } = await measure(operation, await operation.prepare());
    const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
    const stride = full ? 1 : Math.max(1, Math.ceil(calls / samples));
    await failEverywhere(operation, { stride, seed }, figures);
    t.diagnostic(
      `${operation.name}: ${calls} calls, seed ${seed}: ${figures.errors} errors, ${figures.cuts} power cuts, ${figures.recovered} recoveries`,
    );
  });

  if (operation.provesReads) {
    test(`${operation.name} notices changed bytes in any read`, async (t) => {
      const { reads } = await measure(operation, await operation.prepare());
      const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
      const stride = full ? 1 : Math.max(1, Math.ceil(reads / samples));
      await spoilEverywhere(operation, { stride, seed }, figures);
      t.diagnostic(`${operation.name}: ${reads} reads, seed ${seed}: ${figures.errors} spoilt`);
    });
  }

  test(`${operation.name} takes short reads and writes`, async () => {
    for (let round = 0; round < (full ? 20 : 1); round++) {
      await passWith(operation, { shortTransfers: randomFrom(seed + round) });
    }
  });

  test(`${operation.name} takes an interrupt of every call`, async () => {
    await passWith(operation, { interruptEach: true });
  });
}

test("the table has an entry for each way to write", () => {
  assert.equal(new Set(OPERATIONS.map(({ name }) => name)).size, OPERATIONS.length);
});
