/**
 * How much a key protects: pages and bytes, counted by key id.
 */

export interface KeyLoad {
  /** Pages; a sealed whole file counts as one. */
  readonly pages: number;
  readonly bytes: number;
}

/** By key id. A key with 0 pages is in use, too: it authenticates a sidecar. */
export type KeyLoads = ReadonlyMap<number, KeyLoad>;

const NOTHING: KeyLoad = { pages: 0, bytes: 0 };

export function loadOf(loads: KeyLoads, keyId: number): KeyLoad {
  return loads.get(keyId) ?? NOTHING;
}

/** Adds to the load of one key, up to the largest number that a file can hold. */
export function addLoad(loads: Map<number, KeyLoad>, keyId: number, more: KeyLoad): void {
  const { pages, bytes } = loadOf(loads, keyId);
  loads.set(keyId, { pages: bounded(pages + more.pages), bytes: bounded(bytes + more.bytes) });
}

/** What is under each key now and was not before. A key that lost pages is not in it. */
export function loadGained(now: KeyLoads, before: KeyLoads): KeyLoads {
  const gained = new Map<number, KeyLoad>();
  for (const [keyId, { pages, bytes }] of now) {
    const old = loadOf(before, keyId);
    if (pages <= old.pages) continue;
    gained.set(keyId, { pages: pages - old.pages, bytes: Math.max(0, bytes - old.bytes) });
  }
  return gained;
}

/** The sum over several directories. */
export function sumOfLoads(all: Iterable<KeyLoads>): Map<number, KeyLoad> {
  const sum = new Map<number, KeyLoad>();
  for (const loads of all) for (const [keyId, load] of loads) addLoad(sum, keyId, load);
  return sum;
}

function bounded(count: number): number {
  return Math.min(count, Number.MAX_SAFE_INTEGER);
}
