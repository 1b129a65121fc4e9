/**
 * The files of a rotation, as its manifest of before and the directory name them.
 */
import { joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { IntegrityError } from "../errors.ts";
import { displayPath } from "../bytes/byte-path.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import { joinByPath } from "../format/manifest-order.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { ContentItem, RelationItem, WalItem } from "../workers/tasks.ts";
import { expectationOf } from "./expected-entry.ts";
import { type RotationSelection, selector } from "./rotation-selection.ts";

/** A line of the manifest of before, and what is to be done with its file. */
export type RotationFile =
  /** Stays as it is. */
  | { readonly entry: ManifestEntry; readonly do: "keep" }
  | {
      readonly entry: ManifestEntry;
      readonly do: "reseal";
      readonly item: RelationItem | WalItem | ContentItem;
    }
  /** Expendable and gone; its sidecar may still be there. */
  | { readonly entry: ManifestEntry; readonly do: "drop"; readonly hasSidecar: boolean };

/**
 * Every line of the manifest, in its order.
 * @throws {IntegrityError} when a file to be sealed anew is missing or something else stands in its place.
 */
export function* rotationFiles(
  fs: FileSystem,
  datadir: Datadir,
  manifest: Manifest,
  selection: RotationSelection,
): Generator<RotationFile> {
  const isSelected = selector(selection, datadir, manifest);
  for (const { entry, found } of joinByPath(manifest.entries(), namedFiles(fs, datadir))) {
    if (entry === undefined) continue;
    if (!isSelected(entry)) yield { entry, do: "keep" };
    else if (found !== undefined) yield resealed(fs, datadir, entry, found);
    else yield dropped(fs, datadir, entry);
  }
}

function resealed(
  fs: FileSystem,
  datadir: Datadir,
  entry: ManifestEntry,
  found: WalkEntry,
): RotationFile {
  const { item, problems } = expectationOf(fs, datadir, found, entry);
  const [problem] = problems;
  if (problem === undefined && item !== undefined && item.kind !== "readable") {
    return { entry, do: "reseal", item };
  }
  throw new IntegrityError(
    `${displayPath(entry.path)}: ${problem?.message ?? "it is not sealed"}`,
    {
      file: displayPath(entry.path),
      hint: 'Restore this file from a backup; "tde verify" lists every problem.',
    },
  );
}

function dropped(fs: FileSystem, datadir: Datadir, entry: ManifestEntry): RotationFile {
  if (!entry.expendable) {
    throw new IntegrityError(`"${displayPath(entry.path)}" is missing`, {
      file: displayPath(entry.path),
      hint: "Restore it with its sidecar from a backup, then run the same command again.",
    });
  }
  const sidecar = joinPath(datadir.root, sidecarName(entry.path));
  const hasSidecar = entry.class === "P" && fs.stat(sidecar) !== undefined;
  return { entry, do: "drop", hasSidecar };
}

/** The files that can be sealed; the walk follows no link that leads elsewhere. */
function* namedFiles(fs: FileSystem, datadir: Datadir): Generator<WalkEntry> {
  for (const found of walkDatadir(fs, datadir.root, datadir)) {
    const { classification } = found;
    const canBeSealed =
      classification.class === "own"
        ? classification.file === "auto-conf" || classification.file === "backup-manifest"
        : ["relation", "wal", "sealed", "readable"].includes(classification.class);
    if (canBeSealed) yield found;
  }
}
