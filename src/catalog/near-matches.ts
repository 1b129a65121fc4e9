/** What a mistyped name may have been. */

/** How many are told. */
const MOST = 8;

export interface Candidate {
  /** What the wanted text is compared with. */
  readonly name: string;
  /** What is told. */
  shown(): string;
}

/** The candidates whose names are like `wanted`, the nearest first. */
export function nearMatches(wanted: string, candidates: Iterable<Candidate>): string[] {
  const text = wanted.toLowerCase();
  const found: { distance: number; candidate: Candidate }[] = [];
  // A third of the letters wrong is another word.
  const mostEdits = Math.max(1, Math.floor(text.length / 3));
  let limit = mostEdits + 1;
  for (const candidate of candidates) {
    const distance = distanceTo(text, candidate.name.toLowerCase(), mostEdits);
    if (distance > limit) continue;
    found.push({ distance, candidate });
    if (found.length <= MOST) continue;
    found.sort((a, b) => a.distance - b.distance).length = MOST;
    limit = Math.min(limit, found.at(-1)?.distance ?? limit);
  }
  const sorted = found.sort((a, b) => a.distance - b.distance);
  return [...new Set(sorted.map(({ candidate }) => candidate.shown()))];
}

/**
 * Names that begin with what was typed are near, however long they are, but less so than those with a slip or two: for
 * `order`, `orders` comes before `orders_id_seq`. The shorter of them come first.
 * @returns edits, up to `mostEdits`; less than one more for a longer name; infinity for another word.
 */
function distanceTo(wanted: string, name: string, mostEdits: number): number {
  const edits = editDistance(wanted, name, mostEdits);
  if (edits <= mostEdits) return edits;
  if (wanted.length < 3 || !name.startsWith(wanted)) return Infinity;
  return mostEdits + 1 - 1 / (name.length - wanted.length);
}

/**
 * Letters to insert, remove or replace, and neighbours to swap, until one text is the other (optimal string alignment).
 * @returns a number above `limit` where there are more; how many is then not said.
 */
export function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(
        (last[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (last[j - 1] ?? 0) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(least);
    }
    if (Math.min(...row) > limit) return limit + 1;
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
