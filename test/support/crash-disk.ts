/**
 * A disk in memory that behaves as the worst one that POSIX allows: the power goes before a given operation and takes
 * along what was not synced, calls fail, reads and writes are cut short, reads return changed bytes. Engines run on it
 * as on the real file system, because both are a FileSystem. Writes can do something else than they say.
 *
 * Operations are counted twice. A *step* changes something, or makes it durable: a power cut between two steps is the
 * same as one just before the second. A *call* is any call at all: each of them can fail.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath, joinPath } from "../../src/bytes/byte-path.ts";
import { StorageError } from "../../src/errors.ts";
import type {
  DirectoryEntry,
  FileAttributes,
  FileStat,
  FileSystem,
  OpenFile,
} from "../../src/storage/file-system.ts";
import { uninterrupted } from "../../src/storage/interrupted.ts";
import { type BadWrite, WriteHead } from "./bad-writes.ts";
import { type CallKind, type Errno, ERRNOS_OF } from "./crash-errnos.ts";
import {
  DirectoryNode,
  FileNode,
  LinkNode,
  type Node,
  type Random,
  randomFrom,
  type Survivors,
} from "./crash-nodes.ts";

/** The machine is off. No TdeError, and nothing that any code may handle. */
export class PowerCut extends Error {}

/** A signal came during a call, which did nothing. */
class Interrupted extends Error {
  readonly code = "EINTR";
}

export interface Faults {
  /** The power goes before this step, counted from 1. */
  readonly crashAt?: number;
  /** This call fails, counted from 1. */
  readonly failAt?: number;
  readonly errno?: Errno;
  /** From `failAt` on every call fails that can fail in this way; with EINTR a number of attempts in a row. */
  readonly failForEver?: boolean;
  /** Every call that a signal can interrupt is interrupted at its first attempt. */
  readonly interruptEach?: boolean;
  /** Reads and writes do as much as they like, at least one byte. */
  readonly shortTransfers?: Random;
  /** This read, counted from 1, returns one flipped bit. */
  readonly flipRead?: number;
  readonly badWrite?: BadWrite;
}

/** What needs room that a full disk has not. Elsewhere ENOSPC comes once: of a network file system, or to keep a log. */
const GROWING: ReadonlySet<CallKind> = new Set([
  "create",
  "makeDirectory",
  "makeLink",
  "makeHardLink",
  "write",
]);
const INTERRUPTS_IN_A_ROW = 20;
const FREE_BYTES = 2 ** 40;
const MAX_LINKS = 40;

export class CrashDisk implements FileSystem {
  steps = 0;
  calls = 0;
  reads = 0;
  /** What each call was, in order. */
  readonly callKinds: CallKind[] = [];
  readonly head: WriteHead = new WriteHead();
  /** Files that were opened and not closed. */
  readonly openFiles: Set<OpenFile> = new Set();
  /** The step or call at which the fault came, for messages: `rename /data/a`. */
  struck: string | undefined;
  /** Called before each step that is done. */
  watcher: ((what: CallKind) => void) | undefined;
  private faults: Faults;
  private off = false;
  private readonly root: DirectoryNode;
  private clock = 1_700_000_000;

  constructor(faults: Faults = {}, root?: DirectoryNode) {
    this.faults = faults;
    this.root = root ?? new DirectoryNode(this.newAttributes(0o755));
  }

  /** The disk of the same machine, started again: what a power cut now could leave. The old one stays as it is. */
  reboot(
    { survivors, seed = 0 }: { survivors: Survivors; seed?: number },
    faults: Faults = {},
  ): CrashDisk {
    return new CrashDisk(faults, this.root.afterReboot(survivors, randomFrom(seed)));
  }

  /** A copy with everything on it, which can be used on its own. */
  copy(faults: Faults = {}): CrashDisk {
    return this.reboot({ survivors: "everything" }, faults);
  }

  /** From here on the disk works. */
  heal(): void {
    this.faults = {};
  }

  stat(path: BytePath): FileStat | undefined {
    this.call("stat", path);
    const node = this.find(path, false);
    return node === undefined ? undefined : this.statOf(node);
  }

  statFollowing(path: BytePath): FileStat | undefined {
    this.call("stat", path);
    const node = this.find(path, true);
    return node === undefined ? undefined : this.statOf(node);
  }

  readDirectory(path: BytePath): DirectoryEntry[] {
    this.call("readDirectory", path);
    return [...this.directory(path).entries].map(([name, { kind }]) => ({
      name: name as BytePath,
      kind,
    }));
  }

  readLink(path: BytePath): BytePath {
    this.call("readLink", path);
    const node = this.find(path, false);
    if (node?.kind !== "link") throw failure("readLink", path, "EINVAL");
    return node.target as BytePath;
  }

  realPath(path: BytePath): BytePath {
    this.call("realPath", path);
    const found = this.resolve(path, true);
    if (found?.node === undefined) throw failure("realPath", path, "ENOENT");
    return found.real;
  }

  open(path: BytePath): OpenFile {
    this.call("open", path);
    return this.openNode(path, this.find(path, false));
  }

  openForWriting(path: BytePath): OpenFile {
    this.call("open", path);
    return this.openNode(path, this.find(path, false));
  }

  create(path: BytePath, mode: number): OpenFile {
    this.step("create", path);
    const node = new FileNode(this.newAttributes(mode));
    this.add("create", path, node);
    return this.openNode(path, node);
  }

  makeDirectory(path: BytePath, mode: number): void {
    this.step("makeDirectory", path);
    this.add("makeDirectory", path, new DirectoryNode(this.newAttributes(mode)));
  }

  makeLink(target: BytePath, path: BytePath): void {
    this.step("makeLink", path);
    this.add("makeLink", path, new LinkNode({ target, attributes: this.newAttributes(0o777) }));
  }

  /** After a reboot the names are of files of their own: none is written to any more. */
  makeHardLink(file: BytePath, path: BytePath): void {
    this.step("makeHardLink", path);
    const node = this.find(file, false);
    if (node?.kind !== "file") throw failure("makeHardLink", file, "ENOENT");
    this.add("makeHardLink", path, node);
  }

  rename(from: BytePath, to: BytePath): void {
    this.step("rename", from);
    const source = this.place("rename", from);
    const target = this.place("rename", to);
    if (source.node === undefined) throw failure("rename", from, "ENOENT");
    if (target.node?.kind === "directory") throw failure("rename", to, "EISDIR");
    if (source.parent === target.parent) {
      source.parent.change([
        [source.name, undefined],
        [target.name, source.node],
      ]);
    } else {
      // Each directory is synced by itself: what is gone from one need not be in the other.
      source.parent.change([[source.name, undefined]]);
      target.parent.change([[target.name, source.node]]);
    }
  }

  remove(path: BytePath): void {
    this.step("remove", path);
    const found = this.resolve(path, false);
    if (found?.node === undefined) return;
    if (found.node.kind === "directory") throw failure("remove", path, "EISDIR");
    found.parent.change([[found.name, undefined]]);
  }

  removeDirectory(path: BytePath): void {
    this.step("removeDirectory", path);
    const { parent, name, node } = this.place("removeDirectory", path);
    if (node?.kind !== "directory") throw failure("removeDirectory", path, "ENOTDIR");
    if (node.entries.size > 0) throw failure("removeDirectory", path, "ENOTEMPTY");
    parent.change([[name, undefined]]);
  }

  setAttributes(path: BytePath, attributes: FileAttributes): void {
    this.step("setAttributes", path);
    const node = this.find(path, false);
    if (node?.kind !== "directory") throw failure("setAttributes", path, "ENOTDIR");
    node.attributes = pick(attributes);
  }

  setLinkOwner(path: BytePath, uid: number, gid: number): void {
    this.step("setLinkOwner", path);
    const node = this.find(path, false);
    if (node === undefined) throw failure("setLinkOwner", path, "ENOENT");
    node.attributes = { ...node.attributes, uid, gid };
  }

  syncDirectory(path: BytePath): void {
    this.step("syncDirectory", path);
    this.directory(path).sync();
  }

  async syncFiles(files: readonly OpenFile[]): Promise<void> {
    let first: unknown;
    for (const file of files) {
      try {
        file.sync();
      } catch (error) {
        first ??= error;
      }
    }
    if (first !== undefined) throw first;
  }

  freeBytes(path: BytePath): number {
    this.call("freeBytes", path);
    return FREE_BYTES;
  }

  /** A call as tde's file systems make it: an interrupted one is made again. */
  call(what: CallKind, path: BytePath, failing?: () => void): void {
    if (this.faults.interruptEach !== true)
      return uninterrupted(() => this.attempt(what, path, failing));
    let attempts = 0;
    uninterrupted(() => {
      this.attempt(what, path, failing);
      if (ERRNOS_OF[what].includes("EINTR") && ++attempts === 1) throw new Interrupted();
    });
  }

  /** What is at a path, without a call: to look at a disk, or to change it, behind tde's back. */
  nodeAt(path: BytePath): Node | undefined {
    return this.find(path, true);
  }

  /** Counts an attempt to make a call, and fails it where that is its fate. */
  private attempt(what: CallKind, path: BytePath, failing?: () => void): void {
    if (this.off) throw new PowerCut();
    this.calls++;
    this.callKinds.push(what);
    const { failAt, errno = "EIO", failForEver = false } = this.faults;
    if (failAt === undefined || this.calls < failAt) return;
    if (!ERRNOS_OF[what].includes(errno)) {
      assert.ok(failForEver || this.calls > failAt, `no ${what} fails with ${errno}`);
      return;
    }
    const last = !failForEver
      ? failAt
      : errno === "EINTR"
        ? failAt + INTERRUPTS_IN_A_ROW
        : Infinity;
    const isAfter = this.calls > failAt;
    if (this.calls > last || (isAfter && errno === "ENOSPC" && !GROWING.has(what))) return;
    this.struck ??= `${errno} at ${what} ${displayPath(path)}`;
    if (errno === "EINTR") throw new Interrupted();
    failing?.();
    throw failure(what, path, errno);
  }

  /** Counts a step, and cuts the power where that is its fate. */
  step(what: CallKind, path: BytePath, failing?: () => void): void {
    if (!this.off && ++this.steps === this.faults.crashAt) {
      this.struck = `power cut before ${what} ${displayPath(path)}`;
      this.off = true;
    }
    if (!this.off) this.watcher?.(what);
    this.call(what, path, failing);
  }

  /** How much of `length` bytes a read or write does. */
  transfer(length: number): number {
    const { shortTransfers } = this.faults;
    if (shortTransfers === undefined || length <= 1) return length;
    return 1 + Math.floor(shortTransfers() * length);
  }

  /** Flips a bit of what was read, if it is this read's turn. */
  spoil(bytes: Uint8Array): void {
    if (++this.reads !== this.faults.flipRead || bytes.length === 0) return;
    const at = this.reads % bytes.length;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (this.reads % 8));
    this.struck ??= "a flipped bit";
  }

  write(node: FileNode, bytes: Uint8Array, position: number): void {
    const isBad = this.head.write(node, bytes, position, this.faults.badWrite);
    if (isBad) this.struck ??= `a bad write (${this.faults.badWrite?.how})`;
  }

  truncate(node: FileNode, sizeBytes: number): void {
    if (this.head.truncate(node, sizeBytes, this.faults.badWrite))
      this.struck ??= "a lost truncate";
  }

  statOf(node: Node): FileStat {
    return {
      kind: node.kind,
      sizeBytes: node.kind === "file" ? node.content.length : 0,
      allocatedBytes: node.kind === "file" ? node.content.length : 0,
      ...node.attributes,
      device: 1,
      inode: inodeOf(node),
      linkCount: 1,
    };
  }

  tick(): bigint {
    return BigInt(this.clock++) * 1_000_000_000n;
  }

  private newAttributes(mode: number): FileAttributes {
    const time = this.tick();
    return { mode, uid: 26, gid: 26, accessTimeNs: time, modifyTimeNs: time };
  }

  private openNode(path: BytePath, node: Node | undefined): OpenFile {
    if (node === undefined) throw failure("open", path, "ENOENT");
    if (node.kind !== "file")
      throw failure("open", path, node.kind === "link" ? "ELOOP" : "EISDIR");
    const file = new CrashFile(this, path, node);
    this.openFiles.add(file);
    return file;
  }

  private add(what: string, path: BytePath, added: Node): void {
    const { parent, name, node } = this.place(what, path);
    if (node !== undefined) throw failure(what, path, "EEXIST");
    parent.change([[name, added]]);
  }

  private directory(path: BytePath): DirectoryNode {
    const node = this.find(path, true);
    if (node?.kind === "directory") return node;
    throw failure("open directory", path, node === undefined ? "ENOENT" : "ENOTDIR");
  }

  private find(path: BytePath, follow: boolean): Node | undefined {
    return this.resolve(path, follow)?.node;
  }

  private place(what: string, path: BytePath): Place {
    const found = this.resolve(path, false);
    if (found === undefined) throw failure(what, path, "ENOENT");
    return found;
  }

  /** Undefined where the directory does not exist; without a node where only the name does not. */
  private resolve(path: BytePath, follow: boolean, links = 0): Place | undefined {
    if (links > MAX_LINKS) throw failure("resolve", path, "ELOOP");
    assert.ok(
      path.startsWith("/"),
      `"${path}" is relative, and this disk has no working directory`,
    );
    let place: Place = { parent: this.root, name: ".", node: this.root, real: "/" as BytePath };
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    for (const [i, name] of parts.entries()) {
      if (place.node?.kind !== "directory") return undefined;
      const parent: DirectoryNode = place.node;
      const node = name === ".." ? undefined : parent.entries.get(name);
      const next: Place = { parent, name, node, real: joinPath(place.real, name) };
      if (name === "..") {
        const above = place.real.slice(0, place.real.lastIndexOf("/"));
        return this.resolve(joinPath("/", above, ...parts.slice(i + 1)), follow, links + 1);
      }
      if (node?.kind === "link" && (follow || i < parts.length - 1)) {
        const base = node.target.startsWith("/") ? node.target : joinPath(place.real, node.target);
        return this.resolve(joinPath("/", base, ...parts.slice(i + 1)), follow, links + 1);
      }
      place = next;
    }
    return place;
  }
}

const inodes = new WeakMap<Node, number>();
let lastInode = 0;

function inodeOf(node: Node): number {
  const inode = inodes.get(node) ?? ++lastInode;
  inodes.set(node, inode);
  return inode;
}

interface Place {
  readonly parent: DirectoryNode;
  readonly name: string;
  readonly node: Node | undefined;
  /** The path without links. */
  readonly real: BytePath;
}

class CrashFile implements OpenFile {
  readonly path: BytePath;
  private readonly disk: CrashDisk;
  private readonly node: FileNode;

  constructor(disk: CrashDisk, path: BytePath, node: FileNode) {
    this.disk = disk;
    this.path = path;
    this.node = node;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    this.assertOpen();
    this.disk.call("read", this.path);
    const available = Math.max(0, Math.min(length, this.node.content.length - position));
    const count = available === 0 ? 0 : this.disk.transfer(available);
    buffer.set(this.node.content.subarray(position, position + count), offset);
    this.disk.spoil(buffer.subarray(offset, offset + count));
    return count;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    this.assertOpen();
    this.disk.step("write", this.path);
    const count = this.disk.transfer(length);
    this.disk.write(this.node, buffer.subarray(offset, offset + count), position);
    this.touch();
    return count;
  }

  truncate(sizeBytes: number): void {
    this.assertOpen();
    this.disk.step("truncate", this.path);
    this.disk.truncate(this.node, sizeBytes);
    this.touch();
  }

  stat(): FileStat {
    this.assertOpen();
    this.disk.call("stat", this.path);
    return this.disk.statOf(this.node);
  }

  attributes(): FileAttributes {
    return { ...this.stat(), extended: [] };
  }

  setAttributes(attributes: FileAttributes): readonly string[] {
    this.assertOpen();
    this.disk.step("setAttributes", this.path);
    this.node.attributes = pick(attributes);
    return [];
  }

  sync(): void {
    this.assertOpen();
    this.disk.step("sync", this.path, () => this.node.failSync());
    this.node.sync();
  }

  /** A descriptor is gone after close, whatever close says. */
  close(): void {
    this.assertOpen();
    this.disk.openFiles.delete(this);
    this.disk.call("close", this.path);
  }

  private touch(): void {
    const { attributes } = this.node;
    this.node.attributes = { ...attributes, modifyTimeNs: this.disk.tick() };
  }

  private assertOpen(): void {
    if (!this.disk.openFiles.has(this)) throw new Error(`"${displayPath(this.path)}" is closed`);
  }
}

function pick({ mode, uid, gid, accessTimeNs, modifyTimeNs }: FileAttributes): FileAttributes {
  return { mode, uid, gid, accessTimeNs, modifyTimeNs };
}

function failure(what: string, path: BytePath, errno: string): StorageError {
  return new StorageError(`could not ${what} "${displayPath(path)}": simulated ${errno}`, {
    errno,
  });
}
