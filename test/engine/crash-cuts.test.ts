/**
 * Every operation that writes, stopped by a power cut before any of its steps, on a simulated disk.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { cutEverywhere, type Figures, measure } from "../support/crash-harness.ts";
import { OPERATIONS } from "../support/crash-operations.ts";
import { seed, strideOf } from "../support/crash-size.ts";

for (const operation of OPERATIONS) {
  test(`${operation.name} survives a power cut before any step`, async (t) => {
    const { steps } = await measure(operation, await operation.prepare());
    const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
    await cutEverywhere(operation, { stride: strideOf(steps), seed }, figures);
    t.diagnostic(
      `${operation.name}: ${steps} steps, seed ${seed}: ${figures.cuts} power cuts, ${figures.recovered} recoveries`,
    );
  });
}

test("the table has an entry for each way to write", () => {
  assert.equal(new Set(OPERATIONS.map(({ name }) => name)).size, OPERATIONS.length);
});
