/**
 * Loads of keys as they are printed.
 */
import type { KeyLoad, KeyLoads } from "../keyring/key-load.ts";
import { formatBytes } from "./progress.ts";

/** `1200 pages (9.8 MB)` */
export function loadText({ pages, bytes }: KeyLoad): string {
  return `${pages} pages (${formatBytes(bytes)})`;
}

/** As JSON: pages by key id. */
export function pagesByKey(loads: KeyLoads): Readonly<Record<string, number>> {
  return Object.fromEntries([...loads].map(([keyId, { pages }]) => [keyId, pages]));
}

/** As JSON: a list by rising key id. */
export function loadsToJson(loads: KeyLoads): readonly ({ readonly keyId: number } & KeyLoad)[] {
  return [...loads].sort(([a], [b]) => a - b).map(([keyId, load]) => ({ keyId, ...load }));
}
