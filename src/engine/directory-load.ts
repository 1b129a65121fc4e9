/**
 * What each key protects in a directory, as its manifest says.
 */
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import { addLoad, type KeyLoad } from "../keyring/key-load.ts";

/** Adds a file to the sums. Of a file under several keys the bytes are counted in whole pages. */
export function addEntryLoad(
  loads: Map<number, KeyLoad>,
  { keys, sizeBytes }: ManifestEntry,
  blockSizeBytes: number,
): void {
  for (const { keyId, count: pages } of keys) {
    const bytes = keys.length === 1 ? sizeBytes : Math.min(sizeBytes, pages * blockSizeBytes);
    addLoad(loads, keyId, { pages, bytes });
  }
}

export function directoryLoad(manifest: Manifest, blockSizeBytes: number): Map<number, KeyLoad> {
  const loads = new Map<number, KeyLoad>();
  for (const entry of manifest.entries()) addEntryLoad(loads, entry, blockSizeBytes);
  return loads;
}
