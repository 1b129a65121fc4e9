/**
 * How much an encryption has to do, and whether there is room for it: counted before anything is written.
 */
import { displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { sidecarSizeBytes } from "../datadir/relation-job.ts";
import { StorageError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../wal/page-header.ts";
import { countLinked, type LinkedFiles, noLinkedFiles } from "./hard-links.ts";
import { type InventoryOptions, type InventoryPass, takeInventory } from "./inventory.ts";

export interface Survey {
  relations: number;
  contents: number;
  bytes: number;
  /** Relations and whole files that earlier runs sealed. */
  sealedAlready: number;
  /** Relation files that stay plain. */
  outOfScope: { files: number; bytes: number };
  largestFileBytes: number;
  sidecarBytes: number;
  /** Of what is to be sealed. */
  readonly linked: LinkedFiles;
}

/** Counts what there is to do. @throws {StateError} as takeInventory: the first look at a directory refuses it. */
export function survey(
  fs: FileSystem,
  datadir: Datadir,
  options: InventoryOptions,
  pass: InventoryPass,
): Survey {
  const found: Survey = {
    relations: 0,
    contents: 0,
    bytes: 0,
    sealedAlready: 0,
    outOfScope: { files: 0, bytes: 0 },
    largestFileBytes: 0,
    sidecarBytes: 0,
    linked: noLinkedFiles(),
  };
  const { blockSizeBytes } = datadir.control;
  const inventory = takeInventory(fs, datadir, options, pass);
  for (const { entry, action, sizeBytes, linkCount } of inventory) {
    if (action.do === "nothing") found.sealedAlready++;
    if (action.do === "keep" && action.plaintext && entry.classification.class === "relation") {
      found.outOfScope.files++;
      found.outOfScope.bytes += sizeBytes;
    }
    if (!["seal-relation", "seal-wal", "seal-content"].includes(action.do)) continue;
    countLinked(found.linked, entry.path, linkCount);
    found.bytes += sizeBytes;
    found.largestFileBytes = Math.max(found.largestFileBytes, sizeBytes);
    if (action.do === "seal-relation") {
      found.relations++;
      found.sidecarBytes += sidecarSizeBytes(sizeBytes, blockSizeBytes);
    } else {
      found.contents++;
      if (action.do === "seal-wal")
        found.sidecarBytes += sidecarSizeBytes(sizeBytes, WAL_PAGE_BYTES);
    }
  }
  return found;
}

/** In place each file exists twice for a moment, and the sidecars stay. */
export function assertRoom(fs: FileSystem, { root }: Datadir, todo: Survey): void {
  const needed = todo.sidecarBytes + todo.largestFileBytes;
  const free = fs.freeBytes(root);
  if (free >= needed) return;
  throw new StorageError(
    `not enough space in "${displayPath(root)}": ${needed} bytes are needed, ${free} are free`,
    {
      errno: "ENOSPC",
      hint: "Nothing was changed. Free some space, or encrypt into another place with --output.",
    },
  );
}
