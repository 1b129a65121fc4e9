/**
 * Writes that do something else than they say. The system reports success, and the sync after it, too: a bit that flips
 * between the process and the disk, a write that never comes there, or one that comes there twice.
 */
import type { FileNode, Random } from "./crash-nodes.ts";

/**
 * flip: one bit of it is another. drop: nothing is written. ahead, behind: it is written once more right behind itself, or
 * right before. later: it is written once more, in its own place, after the next write to the same file.
 */
export type BadWriteKind = "flip" | "drop" | "ahead" | "behind" | "later";

export const BAD_WRITES: Readonly<Record<"write" | "truncate", readonly BadWriteKind[]>> = {
  write: ["flip", "drop", "ahead", "behind", "later"],
  truncate: ["drop"],
};

export interface BadWrite {
  /** Which write, counted from 1; setting a file's size counts as one. */
  readonly at: number;
  readonly how: BadWriteKind;
  readonly random: Random;
}

/** Stands between the calls and the files. */
export class WriteHead {
  /** What each write was, in order. */
  readonly kinds: ("write" | "truncate")[] = [];
  private late: { node: FileNode; bytes: Buffer; position: number } | undefined;

  /** @returns whether this was the bad one. */
  write(node: FileNode, bytes: Uint8Array, position: number, bad: BadWrite | undefined): boolean {
    this.kinds.push("write");
    const isBad = this.kinds.length === bad?.at;
    if (!isBad) {
      node.write(bytes, position);
      this.catchUp(node);
      return false;
    }
    const copy = Buffer.from(bytes);
    switch (bad.how) {
      case "flip": {
        const at = Math.floor(bad.random() * copy.length);
        copy[at] = (copy[at] ?? 0) ^ (1 << Math.floor(bad.random() * 8));
        node.write(copy, position);
        break;
      }
      case "drop":
        break;
      case "ahead":
        node.write(copy, position);
        node.write(copy, position + copy.length);
        break;
      case "behind":
        node.write(copy, position);
        node.write(copy, Math.max(0, position - copy.length));
        break;
      case "later":
        node.write(copy, position);
        this.late = { node, bytes: copy, position };
        break;
    }
    return true;
  }

  /** @returns whether this was the bad one. */
  truncate(node: FileNode, sizeBytes: number, bad: BadWrite | undefined): boolean {
    this.kinds.push("truncate");
    const isBad = this.kinds.length === bad?.at;
    if (!isBad) node.truncate(sizeBytes);
    this.catchUp(node);
    return isBad;
  }

  private catchUp(node: FileNode): void {
    if (this.late?.node !== node) return;
    const { bytes, position } = this.late;
    this.late = undefined;
    node.write(bytes, position);
  }
}
