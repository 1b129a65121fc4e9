/**
 * Property tests with fast-check: a failure prints its seed, and TDE_TEST_SEED and TDE_TEST_RUNS set seed and number
 * of runs.
 */
import * as fc from "fast-check";

/** @param runs - how many cases, unless TDE_TEST_RUNS says otherwise. */
export function assertProperty<T>(property: fc.IProperty<T>, runs = 100): void {
  const seed = process.env["TDE_TEST_SEED"];
  const wanted = process.env["TDE_TEST_RUNS"];
  fc.assert(property, {
    numRuns: wanted === undefined ? runs : Number(wanted),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  });
}
