/**
 * Every operation that writes, with any of its writes flipped, dropped or doubled, on a simulated disk that reports
 * success: never a clean end over wrong bytes, and always either the original or a right copy.
 */
import { test } from "node:test";
import { type Figures, measure, writeBadly } from "../support/crash-harness.ts";
import { OPERATIONS } from "../support/crash-operations.ts";
import { seed, strideOf } from "../support/crash-size.ts";

for (const operation of OPERATIONS) {
  test(`${operation.name} survives a bad write`, async (t) => {
    const { head } = await measure(operation, await operation.prepare());
    const writes = head.kinds.length;
    const figures: Figures = { cuts: 0, recovered: 0, errors: 0, badWrites: 0, noticed: 0 };
    await writeBadly(operation, { stride: strideOf(writes), seed }, figures);
    t.diagnostic(
      `${operation.name}: ${writes} writes, seed ${seed}: ${figures.badWrites} bad ones, ${figures.noticed} noticed, ${figures.cuts} power cuts, ${figures.recovered} recoveries`,
    );
  });
}
