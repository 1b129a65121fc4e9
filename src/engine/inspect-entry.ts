/**
 * One line of a directory's manifest, and what stands at its path now.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { StateError, UsageError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import { openManifestWithoutKey } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileStat, FileSystem } from "../storage/file-system.ts";
import { hasManifest, manifestSource, openAuthenticManifest } from "./open-manifest.ts";

export interface InspectedEntry {
  readonly entry: ManifestEntry;
  /** The manifest's MAC holds; otherwise its entries are hearsay. */
  readonly authentic: boolean;
  /** Undefined where nothing is there now. */
  readonly now: Pick<FileStat, "kind" | "sizeBytes"> | undefined;
}

/**
 * @param keys - undefined: only form and root of the manifest are checked.
 * @throws {StateError} without a manifest. @throws {UsageError} for a path that it does not name.
 * @throws {KeyError} {IntegrityError} {FormatError} as opening the manifest does.
 */
export function inspectEntry(
  fs: FileSystem,
  root: BytePath,
  path: BytePath,
  keys: DataKeys | undefined,
): InspectedEntry {
  if (!hasManifest(fs, root)) {
    throw new StateError(`"${displayPath(root)}" has no "${OWN_FILES.manifest}"`, {
      hint: '"tde info" says what the directory is.',
    });
  }
  const manifest =
    keys === undefined
      ? openManifestWithoutKey(manifestSource(fs, root), OWN_FILES.manifest)
      : openAuthenticManifest(fs, root, keys);
  let found: ManifestEntry | undefined;
  // To the end: only there it shows that these are the bytes which were checked.
  for (const entry of manifest.entries()) if (entry.path === path) found = entry;
  if (found === undefined) {
    throw new UsageError(`the manifest does not name "${displayPath(path)}"`, {
      hint: "Give a path relative to the data directory. Sidecars and tde's own files have no lines.",
    });
  }
  const now = fs.stat(joinPath(root, path));
  return { entry: found, authentic: keys !== undefined, now };
}
