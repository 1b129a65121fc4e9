/**
 * What has to be done to bring an encrypted copy up to date, as the comparison found it. It holds the paths of what
 * changed, and of patched files a bit for each page: some 16 kB for each gigabyte, up to a limit. Beyond it the pages
 * are found out once more when they are written.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { ChangedSlots } from "../datadir/compare-relation.ts";

/** How a file of the source gets into the copy. */
export type WholeFile =
  | "relation"
  /** A relation file without pages, which has no sidecar. */
  | "empty-relation"
  /** A segment in readable mode. */
  | "wal"
  | "content"
  | "readable";

export interface PatchedFile {
  readonly path: BytePath;
  readonly sourceBytes: number;
  /** Of the sealed file. */
  readonly sealedBytes: number;
  /** SHA-256 in hex of the sidecar that was compared. */
  readonly sidecarDigest: string;
  /** By rising ranges; undefined: to be found out. */
  readonly changed: readonly ChangedSlots[] | undefined;
}

const MAX_BITMAP_BYTES = 2 ** 25;

export class SyncChanges {
  /** Files and links of the copy that the source has no more, or as something else. */
  readonly removed: BytePath[] = [];
  /** By rising path, as the next two. */
  readonly removedFolders: BytePath[] = [];
  readonly newFolders: BytePath[] = [];
  readonly newLinks: BytePath[] = [];
  readonly whole: { readonly path: BytePath; readonly how: WholeFile }[] = [];
  readonly patched: PatchedFile[] = [];
  /** Segments of the source that are, or are to be, in readable mode, by rising path. */
  readonly segments: BytePath[] = [];
  /** Those of them that are to be sealed. */
  readonly changedSegments: Set<BytePath> = new Set();
  /** Those that stay, but for the CRC of the record that goes on in the next one, which does not. */
  readonly crossingSegments: Set<BytePath> = new Set();
  autoConf: boolean = false;
  /** Replaced last, when all else is as the source has it. */
  control: boolean = false;
  backupManifest: "same" | "changed" | "gone" = "same";
  private bitmapBytes = 0;

  readonly figures: SyncFigures = {
    comparedFiles: 0,
    comparedPages: 0,
    copyBytes: 0,
    changedPages: 0,
    newFiles: 0,
    wholeFiles: 0,
    patchedFiles: 0,
    removedFiles: 0,
    bytesToWrite: 0,
    growthBytes: 0,
    largestFileBytes: 0,
  };

  get isEmpty(): boolean {
    return (
      !this.autoConf &&
      !this.control &&
      this.changedSegments.size + this.crossingSegments.size === 0 &&
      this.backupManifest === "same" &&
      [
        this.removed,
        this.removedFolders,
        this.newFolders,
        this.newLinks,
        this.whole,
        this.patched,
      ].every((list) => list.length === 0)
    );
  }

  addPatched(file: PatchedFile): void {
    for (const { bits } of file.changed ?? []) this.bitmapBytes += bits.length;
    this.patched.push(this.bitmapBytes > MAX_BITMAP_BYTES ? { ...file, changed: undefined } : file);
  }
}

export interface SyncFigures {
  comparedFiles: number;
  comparedPages: number;
  /** Of the files that were compared, as they were. */
  copyBytes: number;
  /** Pages that differ or are new, in files that are patched or replaced. */
  changedPages: number;
  /** Among the whole ones. */
  newFiles: number;
  /** Written whole: new, small, or mostly changed. */
  wholeFiles: number;
  patchedFiles: number;
  removedFiles: number;
  /** About: what is patched counts twice, in the journal and in place. */
  bytesToWrite: number;
  /** By how much the copy grows. */
  growthBytes: number;
  /** Of those that are written whole. */
  largestFileBytes: number;
}
