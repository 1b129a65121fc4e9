/**
 * How much of the crash harness runs: everything with TDE_CRASH=full, or a sample, which TDE_TEST_RUNS enlarges. The
 * seed is printed with every figure.
 */
export const full: boolean = process.env["TDE_CRASH"] === "full";
export const seed: number = Number(process.env["TDE_TEST_SEED"] ?? 1);

/** How many steps, and how many calls, of each operation a sample stops. */
const samples = Number(process.env["TDE_TEST_RUNS"] ?? 8);

/** Every how many of `count` places an operation is stopped. */
export function strideOf(count: number): number {
  return full ? 1 : Math.max(1, Math.ceil(count / samples));
}
