/**
 * What a worker can be asked to do, as plain data: a batch of files, or a range of one large file. A batch leaves
 * its new files synced and closed under working names; nothing else of it counts before the engine's journal says so.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { ChangedSlots } from "../datadir/compare-relation.ts";
import type { PlainAccess } from "../datadir/plain-access.ts";
import type { LostPart } from "../datadir/salvage.ts";
import type { RelationFiles, SlotRange } from "../datadir/relation-job.ts";
import type { ChecksumAlgorithm } from "../format/backup-manifest-file.ts";
import type { WalSegmentFiles, WalSurroundings } from "../datadir/wal-segment.ts";
import type { Problem } from "../format/problem.ts";
import type { OpenCrc } from "../format/wal/record-checksum.ts";
import type { FilePatch } from "../storage/journal.ts";

/** A run of bytes in a file. */
export interface FilePart {
  readonly path: BytePath;
  readonly position: number;
  readonly length: number;
}

/** A plain file that the plain content of a sealed one, or a readable file, is held against. */
export interface Original {
  readonly path: BytePath;
  readonly sizeBytes: number;
}

/** A relation file, or a range of it. Without a range the whole file: its new files are created, too. */
export interface RelationItem {
  readonly kind: "relation";
  readonly files: RelationFiles;
  /** When sealing: 16 random bytes, the same for every range of a file. */
  readonly fileSalt?: Uint8Array | undefined;
  /** When sealing anew: the new files. */
  readonly target?: { readonly sealed: BytePath; readonly sidecar: BytePath } | undefined;
  readonly range?: SlotRange | undefined;
  readonly against?: Original | undefined;
  /** It was written in place: a write to a wrong place would be anywhere in it. */
  readonly patched?: boolean | undefined;
}

/** Pages of a relation file that are to be sealed anew, in place. */
export interface PatchItem {
  /** Where `plain` is what the pages come from, and `sizeBytes` what the sealed file has before. */
  readonly files: RelationFiles;
  readonly plainSizeBytes: number;
  readonly range: SlotRange;
  readonly sizeAfterBytes: number;
  /** Which pages of those that the file has before. Undefined: to be found out. */
  readonly changed: ChangedSlots | undefined;
  /** SHA-256 in hex of the sidecar pages of each chunk of the range that the file has before, as they were compared. */
  readonly sidecarDigests: readonly string[];
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
  /** When a plain file is checked: header and tags of the container that it was. */
  readonly keptTags?: FilePart | undefined;
  readonly sizeBytes: number;
  readonly against?: Original | undefined;
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
  readonly against?: Original | undefined;
}

/** A WAL segment in readable mode. */
export interface WalItem {
  readonly kind: "wal";
  readonly files: WalSegmentFiles;
  readonly sizeBytes: number;
  /** When sealing: what stands around the plain segment. */
  readonly surroundings?: WalSurroundings | undefined;
  /** When sealing anew: the stored segment before it, where there is one. */
  readonly before?: BytePath | undefined;
  /** The new files: both when sealing, the segment alone when opening. */
  readonly target?: WalTarget | undefined;
  readonly against?: Original | undefined;
}

export interface WalTarget {
  readonly segment: BytePath;
  readonly sidecar: BytePath;
}

export type Item = RelationItem | WalItem | ContentItem | ReadableItem;

/** Relative to the data directory. */
export function pathOf(item: Item): BytePath {
  return item.kind === "relation" || item.kind === "wal" ? item.files.path : item.path;
}

/** Of the file as it is stored, or as it is read. */
export function sizeOf(item: Item): number {
  return item.kind === "relation" ? item.files.sizeBytes : item.sizeBytes;
}

/**
 * How deep a check goes. form: what needs no key: slots, stored checksums, marks. macs: also the MACs of sidecar
 * pages. tags: also the tag of every page and chunk.
 */
export type CheckDepth = "form" | "macs" | "tags";

/**
 * A task that writes new files. They count for nothing until they have been read back, which is a task of its own: a
 * file that several tasks write must not be written to any more by then. runner.ts, runWriting.
 */
export type WritingTask =
  /** plain -> sealed; readable files are copied. */
  | { readonly kind: "seal"; readonly items: readonly Item[] }
  /** sealed -> plain; readable files are copied. */
  | { readonly kind: "open"; readonly access: PlainAccess; readonly items: readonly Item[] }
  /** sealed -> sealed under the current key; no readable files. */
  | { readonly kind: "reseal"; readonly items: readonly Item[] };

/** An item whose new files are written, synced and closed. */
export interface WrittenItem {
  readonly item: Item;
  /** As the result of its task says. */
  readonly plainDigest: string | undefined;
}

/**
 * Files that this run has read to their last tag already, since anything was written to them. Of these a check reads less
 * once more: sidecars and headers, with what authenticates those, and of relation files no more than some pages. All other
 * files it reads as deep as it is asked to.
 */
export interface ReadBefore {
  /**
   * of-run: those whose salt says that it is this run which made them; each was read back. all-but-patched: also those
   * that stood there before; each was compared.
   */
  readonly files: "of-run" | "all-but-patched";
  readonly pages: "sample" | "none";
}

export type Task =
  | WritingTask
  /**
   * Opens what a writing task wrote anew, authenticates it to its last tag, and holds it against what it was made from.
   * Fails where it is not, byte for byte, what it should be.
   */
  | {
      readonly kind: "read-back";
      readonly written: WritingTask["kind"];
      readonly items: readonly WrittenItem[];
    }
  /** Items that name an original are held against it. */
  | {
      readonly kind: "check";
      readonly depth: CheckDepth;
      readonly readBefore?: ReadBefore | undefined;
      readonly items: readonly Item[];
    }
  /**
   * Whether plain relation files (`files.plain`) and WAL segments (`files.segment`) are what their sidecars were made
   * for; no other items.
   */
  | { readonly kind: "check-plain"; readonly items: readonly Item[] }
  /** What has to be written for some pages to be sealed anew; nothing is written. */
  | { readonly kind: "patch"; readonly items: readonly PatchItem[] }
  /**
   * sealed -> plain, of damaged files: new files with all that can be opened, read back. No readable files, and no WAL.
   */
  | { readonly kind: "salvage"; readonly access: PlainAccess; readonly items: readonly Item[] }
  /** As read-back, for pages that were written in place. */
  | { readonly kind: "read-back-patches"; readonly items: readonly PatchItem[] }
  /** What the manifest keeps of each file, without reading its pages. */
  | { readonly kind: "digest"; readonly items: readonly Item[] }
  /** What backup_manifest keeps of each file: a checksum over its stored bytes. */
  | { readonly kind: "checksum"; readonly items: readonly Item[] };

/** A task that looks at files, and tells what it found of each. */
export type CheckTask = Extract<Task, { kind: "check" | "check-plain" | "digest" | "checksum" }>;

export function isWritingTask(task: Task): task is WritingTask {
  return task.kind === "seal" || task.kind === "open" || task.kind === "reseal";
}

/** What a new file does not have of the one that it replaces. */
export interface NotKept {
  /** Of the new file. */
  readonly path: BytePath;
  /** Names of extended attributes, or words. */
  readonly what: readonly string[];
}

/** What came of one item. Fields that its task does not find are absent. */
export interface ItemResult {
  readonly path: BytePath;
  /** Pages (slots) under each key, 0 for a key that only MACs sidecar pages; a container counts 1. */
  readonly keys?: ReadonlyMap<number, number> | undefined;
  /** The manifest's digest, 64 hex digits; undefined for an empty relation file. */
  readonly digest?: string | undefined;
  /** Of a checked file that is sealed, 32 hex digits: which run made it. */
  readonly fileSalt?: string | undefined;
  /** As backup_manifest writes it. */
  readonly backupChecksum?: string | undefined;
  /** Of a range: SHA-256 of those sidecar pages of it that were checked. */
  readonly rangeDigests?: readonly string[] | undefined;
  /** What `digest` was made of: SHA-256 of the sidecar pages of each range. */
  readonly digestedRanges?: readonly string[] | undefined;
  /** Size of the stored file. */
  readonly sizeBytes?: number | undefined;
  readonly pages?: number | undefined;
  readonly zeroPages?: number | undefined;
  /** Those of the run's own epoch. */
  readonly newestPages?: number | undefined;
  /** Pages whose original checksum was wrong. */
  readonly wrongChecksums?: number | undefined;
  /** Of a relation file that was held against an original: by rising ranges. */
  readonly changed?: readonly ChangedSlots[] | undefined;
  /** Whether any other file differs from its original. */
  readonly differs?: boolean | undefined;
  /** In this order: a sidecar before its file. */
  readonly patches?: readonly FilePatch[] | undefined;
  /** Of a patch: SHA-256 of the sidecar pages of each chunk afterwards; undefined for one that stays as it is. */
  readonly patchedDigests?: readonly (string | undefined)[] | undefined;
  /** Of what was sealed anew, but for containers: a digest of its plaintext, to hold what was written against. */
  readonly plainDigest?: string | undefined;
  /**
   * Of a damaged file: the blocks of a relation, or the bytes of another file, that are zeros now. Undefined where nothing of
   * it can be opened: there is no new file then.
   */
  readonly lost?: readonly LostPart[] | undefined;
  /** Of a sealed WAL segment: the CRC that lacks what the next segment has. */
  readonly openCrc?: OpenCrc | undefined;
  /** Of the new files of the whole task; with its last item. */
  readonly notKept?: readonly NotKept[] | undefined;
  /** The first of them; `problemCount` has them all. */
  readonly problems?: readonly Problem[] | undefined;
  readonly problemCount?: number | undefined;
}

/** How many problems of one file cross to the engine; more would fill the memory when a whole file is bad. */
export const MAX_PROBLEMS_PER_FILE = 200;
