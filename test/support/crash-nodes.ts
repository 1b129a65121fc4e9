/**
 * What a simulated disk is made of: files, directories and links that know what of them is on stable storage and what
 * is only in memory. A reboot builds new nodes from what a power cut could have left of the old ones.
 *
 * The rules are POSIX's, at their most unfriendly: contents and attributes of a file are safe after its sync, a name
 * after the sync of its directory, and nothing else is. A sync that failed is not made good by a later one: Linux
 * marks the pages as clean, so only writing them again helps.
 */
import type { FileAttributes } from "../../src/storage/file-system.ts";

export type Survivors = "synced-only" | "everything" | "random";

/** A random number from 0 to below 1. */
export type Random = () => number;

export type Node = FileNode | DirectoryNode | LinkNode;

/** What the system's cache writes as one, and what a disk writes as one. */
const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;

export class FileNode {
  readonly kind = "file";
  content: Buffer = Buffer.alloc(0);
  attributes: FileAttributes;
  private durable: Buffer = this.content;
  private durableAttributes: FileAttributes;
  /** Blocks whose sync failed: a later sync does not write them. */
  private readonly lostBlocks: Set<number> = new Set();

  constructor(attributes: FileAttributes) {
    this.attributes = attributes;
    this.durableAttributes = attributes;
  }

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    const next = Buffer.alloc(Math.max(this.content.length, end));
    this.content.copy(next);
    next.set(bytes, position);
    this.content = next;
    for (let block = Math.floor(position / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
      this.lostBlocks.delete(block);
    }
  }

  truncate(sizeBytes: number): void {
    const next = Buffer.alloc(sizeBytes);
    this.content.copy(next);
    this.content = next;
  }

  sync(): void {
    this.durable =
      this.lostBlocks.size === 0
        ? this.content
        : mixBlocks(this.durable, this.content, this.content.length, (block) =>
            this.lostBlocks.has(block) ? 0 : BLOCK_BYTES,
          );
    this.durableAttributes = this.attributes;
  }

  /** A sync that ended with an error. */
  failSync(): void {
    for (let at = 0; at < this.content.length; at += BLOCK_BYTES) {
      const now = this.content.subarray(at, at + BLOCK_BYTES);
      if (!now.equals(this.durable.subarray(at, at + BLOCK_BYTES))) {
        this.lostBlocks.add(at / BLOCK_BYTES);
      }
    }
  }

  afterReboot(survivors: Survivors, random: Random): FileNode {
    const keepAttributes = survivors === "everything" || (survivors === "random" && random() < 0.5);
    const next = new FileNode(keepAttributes ? this.attributes : this.durableAttributes);
    next.content = this.contentAfterReboot(survivors, random);
    next.durable = next.content;
    return next;
  }

  private contentAfterReboot(survivors: Survivors, random: Random): Buffer {
    const { durable, content, lostBlocks } = this;
    if (survivors === "everything" && lostBlocks.size === 0) return content;
    if (survivors === "synced-only" || content === durable) return durable;
    const kept = (block: number): boolean => !lostBlocks.has(block);
    const whole = (block: number): number => (kept(block) ? BLOCK_BYTES : 0);
    if (survivors === "everything") return mixBlocks(durable, content, content.length, whole);
    const sizeBytes = random() < 0.7 ? content.length : durable.length;
    const kind = random();
    if (kind < 0.2) return mixBlocks(durable, content, sizeBytes, whole);
    // The size alone got to the disk: zeros where the content should be.
    if (kind < 0.4) return mixBlocks(durable, content, sizeBytes, () => 0);
    return mixBlocks(durable, content, sizeBytes, (block) => {
      if (!kept(block) || random() < 0.5) return 0;
      return random() < 0.8 ? BLOCK_BYTES : SECTOR_BYTES * Math.floor(8 * random());
    });
  }
}

/** `sizeBytes` of `old`, where each block begins with as many bytes of `next` as `newBytes` says. */
function mixBlocks(
  old: Buffer,
  next: Buffer,
  sizeBytes: number,
  newBytes: (block: number) => number,
): Buffer {
  const mixed = Buffer.alloc(sizeBytes);
  old.copy(mixed);
  for (let at = 0; at < sizeBytes; at += BLOCK_BYTES) {
    const count = newBytes(at / BLOCK_BYTES);
    // Behind its new end the old blocks of a file that was cut may still be there.
    if (at < next.length) next.copy(mixed, at, at, Math.min(at + count, next.length));
  }
  return mixed;
}

/** One change of a directory, all or nothing: a rename has two names. */
type NameChange = readonly (readonly [name: string, node: Node | undefined])[];

export class DirectoryNode {
  readonly kind = "directory";
  readonly entries: Map<string, Node> = new Map();
  attributes: FileAttributes;
  private durable: Map<string, Node> = new Map();
  private durableAttributes: FileAttributes;
  private pending: NameChange[] = [];

  constructor(attributes: FileAttributes) {
    this.attributes = attributes;
    this.durableAttributes = attributes;
  }

  change(change: NameChange): void {
    apply(this.entries, change);
    this.pending.push(change);
  }

  sync(): void {
    this.durable = new Map(this.entries);
    this.durableAttributes = this.attributes;
    this.pending = [];
  }

  afterReboot(survivors: Survivors, random: Random): DirectoryNode {
    const keepAttributes = survivors === "everything" || (survivors === "random" && random() < 0.5);
    const next = new DirectoryNode(keepAttributes ? this.attributes : this.durableAttributes);
    for (const [name, node] of this.entriesAfterReboot(survivors, random)) {
      next.entries.set(
        name,
        node.kind === "link" ? new LinkNode(node) : node.afterReboot(survivors, random),
      );
    }
    next.durable = new Map(next.entries);
    return next;
  }

  /** Each change may be lost alone; one that builds on a lost one, by a name or a file, is lost with it. */
  private entriesAfterReboot(survivors: Survivors, random: Random): Map<string, Node> {
    if (survivors === "everything") return this.entries;
    const entries = new Map(this.durable);
    if (survivors === "synced-only") return entries;
    const lost = new Set<string | Node>();
    for (const change of this.pending) {
      const touched = change.flatMap(([name, node]) =>
        node === undefined ? [name] : [name, node],
      );
      if (touched.some((one) => lost.has(one)) || random() < 0.5) {
        for (const one of touched) lost.add(one);
      } else {
        apply(entries, change);
      }
    }
    return entries;
  }
}

export class LinkNode {
  readonly kind = "link";
  readonly target: string;
  attributes: FileAttributes;

  constructor({ target, attributes }: { target: string; attributes: FileAttributes }) {
    this.target = target;
    this.attributes = attributes;
  }
}

function apply(entries: Map<string, Node>, change: NameChange): void {
  for (const [name, node] of change) {
    if (node === undefined) entries.delete(name);
    else entries.set(name, node);
  }
}

/** Random numbers that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
