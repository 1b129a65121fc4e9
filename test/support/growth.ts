/**
 * Whether time grows with the size of an input, and not with its square or worse. Times are those of the processor, of
 * this process alone, and what fails is a ratio of them, so that a busy or slow machine says nothing.
 */
import assert from "node:assert/strict";

/** Twice the input takes twice the time; with the square of the size it takes four times. */
const MOST_FOR_A_DOUBLING = 3;
const DOUBLINGS = 5;
const ATTEMPTS = 5;
/** Shorter than this a measurement is of the clock. */
const SHORTEST_MICROSECONDS = 1000;
/** No machine goes ten thousand times through a text of as many bytes in this time: it need not be looked at. */
const NOTHING_MICROSECONDS = 500;

/**
 * @param run - with a size; what it throws, it catches.
 * @param smallest - size of the smallest input in bytes, some hundred.
 * @throws {AssertionError} when time grows faster than the input.
 */
export function assertGrowsWithSize(
  what: string,
  smallest: number,
  run: (size: number) => () => void,
): void {
  const large = run(smallest * 2 ** DOUBLINGS);
  if (Math.min(once(large), once(large)) <= NOTHING_MICROSECONDS) return;
  const small = run(smallest);
  const middle = run(smallest * 2 ** (DOUBLINGS - 2));
  small();
  const least = { small: Infinity, middle: Infinity, large: Infinity };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    least.small = Math.min(least.small, onAverage(small));
    least.middle = Math.min(least.middle, onAverage(middle));
    least.large = Math.min(least.large, onAverage(large));
    // What has grown much in one place, as where an array gets too large for the young part of the heap, has not in the other.
    if (least.large <= MOST_FOR_A_DOUBLING ** DOUBLINGS * least.small) return;
    if (least.large <= MOST_FOR_A_DOUBLING ** 2 * least.middle) return;
  }
  const ratio = (least.large / least.small).toFixed(1);
  assert.fail(`${what}: ${2 ** DOUBLINGS} times the size took ${ratio} times as long`);
}

function once(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** Of one call, over as many as can be measured. */
function onAverage(run: () => void): number {
  for (let calls = 1; ; calls *= 4) {
    const before = process.cpuUsage();
    for (let i = 0; i < calls; i++) run();
    const { user, system } = process.cpuUsage(before);
    if (user + system >= SHORTEST_MICROSECONDS) return (user + system) / calls;
  }
}
