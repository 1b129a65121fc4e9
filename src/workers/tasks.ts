/**
 * What a worker can be asked to do, as plain data: a batch of files, or a range of one large file. A batch leaves
 * its new files synced and closed under working names; nothing else of it counts before the engine's journal says so.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { RelationFiles, SlotRange } from "../datadir/relation-job.ts";
import type { ChecksumAlgorithm } from "../format/backup-manifest-file.ts";
import type { Problem } from "../format/problem.ts";

/** A relation file, or a range of it. Without a range the whole file: its new files are created, too. */
export interface RelationItem {
  readonly kind: "relation";
  readonly files: RelationFiles;
  /** When sealing: 16 random bytes, the same for every range of a file. */
  readonly fileSalt?: Uint8Array | undefined;
  /** When sealing anew: the new files. */
  readonly target?: { readonly sealed: BytePath; readonly sidecar: BytePath } | undefined;
  readonly range?: SlotRange | undefined;
}

/** A whole file, sealed as a container. */
export interface ContentItem {
  readonly kind: "content";
  /** Relative to the data directory. */
  readonly path: BytePath;
  readonly plain: BytePath;
  readonly sealed: BytePath;
  /** What the container's header says it is. */
  readonly context: string;
  /** When sealing anew: the new container. */
  readonly target?: BytePath | undefined;
  readonly sizeBytes: number;
}

/** A file that stays as it is: copied, or digested. */
export interface ReadableItem {
  readonly kind: "readable";
  readonly path: BytePath;
  readonly from: BytePath;
  readonly to: BytePath;
  readonly sizeBytes: number;
  /** SHA-256 in hex that a copy must have; undefined where nothing is known of the content. */
  readonly digest?: string | undefined;
  /** Of a task that lists files for backup_manifest. */
  readonly algorithm?: ChecksumAlgorithm | undefined;
}

export type Item = RelationItem | ContentItem | ReadableItem;

/**
 * How deep a check goes. form: what needs no key: slots, stored checksums, marks. macs: also the MACs of sidecar
 * pages. tags: also the tag of every page and chunk.
 */
export type CheckDepth = "form" | "macs" | "tags";

export type Task =
  /** plain -> sealed; readable files are copied. */
  | { readonly kind: "seal"; readonly items: readonly Item[] }
  /** sealed -> plain; readable files are copied. */
  | { readonly kind: "open"; readonly items: readonly Item[] }
  /** sealed -> sealed under the current key; no readable files. */
  | { readonly kind: "reseal"; readonly items: readonly Item[] }
  | {
      readonly kind: "check";
      readonly depth: CheckDepth;
      /** Of containers, where it is another. */
      readonly wholeFiles?: CheckDepth | undefined;
      readonly items: readonly Item[];
    }
  /** What the manifest keeps of each file, without reading its pages. */
  | { readonly kind: "digest"; readonly items: readonly Item[] }
  /** What backup_manifest keeps of each file: a checksum over its stored bytes. */
  | { readonly kind: "checksum"; readonly items: readonly Item[] };

/** What came of one item. Fields that its task does not find are absent. */
export interface ItemResult {
  readonly path: BytePath;
  /** Pages (slots) under each key, 0 for a key that only MACs sidecar pages; a container counts 1. */
  readonly keys?: ReadonlyMap<number, number> | undefined;
  /** The manifest's digest, 64 hex digits; undefined for an empty relation file. */
  readonly digest?: string | undefined;
  /** As backup_manifest writes it. */
  readonly backupChecksum?: string | undefined;
  /** Size of the stored file. */
  readonly sizeBytes?: number | undefined;
  readonly pages?: number | undefined;
  readonly zeroPages?: number | undefined;
  /** Those of the run's own epoch. */
  readonly newestPages?: number | undefined;
  /** Pages whose original checksum was wrong. */
  readonly wrongChecksums?: number | undefined;
  /** The first of them; `problemCount` has them all. */
  readonly problems?: readonly Problem[] | undefined;
  readonly problemCount?: number | undefined;
}

/** How many problems of one file cross to the engine; more would fill the memory when a whole file is bad. */
export const MAX_PROBLEMS_PER_FILE = 200;
