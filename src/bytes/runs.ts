/**
 * Runs of neighbours, so that what lies side by side is read, written and worked on at once.
 */

/** The runs of numbers from 0 to below `count` that have a property, so that neighbours are read and written at once. */
export function* runsOf(
  count: number,
  has: (index: number) => boolean,
): Generator<{ readonly start: number; readonly end: number }> {
  for (let start = 0; start < count; start++) {
    if (!has(start)) continue;
    let end = start + 1;
    while (end < count && has(end)) end++;
    yield { start, end };
    start = end;
  }
}
