/**
 * Every operation that writes, with an error in any of its calls, changed bytes in any of its reads, and transfers cut
 * short, on a simulated disk.
 */
import { test } from "node:test";
import {
  failEverywhere,
  type Figures,
  measure,
  passWith,
  spoilEverywhere,
} from "../support/crash-harness.ts";
import { randomFrom } from "../support/crash-nodes.ts";
import { OPERATIONS } from "../support/crash-operations.ts";
import { full, seed, strideOf } from "../support/crash-size.ts";

for (const operation of OPERATIONS) {
  test(`${operation.name} survives an error in any call`, async (t) => {
    const { calls } = await measure(operation, await operation.prepare());
    const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
    await failEverywhere(operation, { stride: strideOf(calls), seed }, figures);
    t.diagnostic(
      `${operation.name}: ${calls} calls, seed ${seed}: ${figures.errors} errors, ${figures.cuts} power cuts, ${figures.recovered} recoveries`,
    );
  });

  if (operation.provesReads) {
    test(`${operation.name} notices changed bytes in any read`, async (t) => {
      const { reads } = await measure(operation, await operation.prepare());
      const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
      await spoilEverywhere(operation, { stride: strideOf(reads), seed }, figures);
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
