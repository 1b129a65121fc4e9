/**
 * The small interface through which tde reads and writes files. Everything that changes a disk goes through it,
 * in worker threads too, so that a test can stop, fail or cut short any single operation.
 *
 * Calls are synchronous: page work runs in worker threads, where a blocking call is the fastest kind, and the
 * order of operations is the order of the source. `syncFiles` alone may overlap, because waiting for many small
 * syncs one after the other is what makes a cluster of many relations slow.
 *
 * Paths are BytePath. Every method throws a StorageError that names the operation and the path, unless it says
 * otherwise.
 */
import type { BytePath } from "../bytes/byte-path.ts";

export type FileKind = "file" | "directory" | "link" | "other";

export interface FileStat {
  readonly kind: FileKind;
  readonly sizeBytes: number;
  /** What it takes on the disk, as far as the file system tells. */
  readonly allocatedBytes: number;
  /** Permission bits only (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970. */
  readonly accessTimeNs: bigint;
  readonly modifyTimeNs: bigint;
  readonly device: number;
  readonly inode: number;
  readonly linkCount: number;
}

export interface DirectoryEntry {
  readonly name: BytePath;
  readonly kind: FileKind;
}

/** A POSIX ACL, a label of SELinux, or what a user has noted. */
export interface ExtendedAttribute {
  readonly name: string;
  readonly value: Buffer;
}

/** The ACL of a file. Where it has one, the group's bits of the mode are not the group's rights, but the most that an entry can give. */
export const ACCESS_ACL = "system.posix_acl_access";
/** Of a mode. */
export const GROUP_BITS = 0o070;

/** What a new file takes over from the one that it replaces. */
export interface FileAttributes extends Pick<
  FileStat,
  "mode" | "uid" | "gid" | "accessTimeNs" | "modifyTimeNs"
> {
  /** Left out: nobody asked, and what the new file has stays. unknown: the system has them, but they cannot be read. */
  readonly extended?: readonly ExtendedAttribute[] | "unknown" | undefined;
}

/** Whether parts of a file take no space: a file that replaces it may leave out its zeros. */
export function hasHoles({ allocatedBytes, sizeBytes }: FileStat): boolean {
  return allocatedBytes < sizeBytes;
}

const NS_PER_SECOND = 1e9;

/** Seconds since 1970, with fraction. */
export function secondsOf(timeNs: bigint): number {
  return Number(timeNs) / NS_PER_SECOND;
}

export interface OpenFile {
  readonly path: BytePath;
  /** As pread: returns how many bytes it read; fewer than asked is no error, 0 is the end of the file. */
  read(buffer: Uint8Array, offset: number, length: number, position: number): number;
  /** As pwrite: returns how many bytes it wrote, which may be fewer than asked. */
  write(buffer: Uint8Array, offset: number, length: number, position: number): number;
  truncate(sizeBytes: number): void;
  stat(): FileStat;
  /** All that a file which takes its place should have; nothing for the group where its bits may be those of an ACL that cannot be read. */
  attributes(): FileAttributes;
  /**
   * Never gives the group what an ACL kept from it.
   * @returns names of extended attributes that could not be set.
   */
  setAttributes(attributes: FileAttributes): readonly string[];
  /** Returns when content and metadata are on stable storage. */
  sync(): void;
  close(): void;
}

export interface FileSystem {
  /** As lstat; undefined where nothing has that name. */
  stat(path: BytePath): FileStat | undefined;
  /** As stat: follows links; undefined where nothing is at their end. */
  statFollowing(path: BytePath): FileStat | undefined;
  /** Entries in no particular order. */
  readDirectory(path: BytePath): DirectoryEntry[];
  readLink(path: BytePath): BytePath;
  /** The absolute path without any link in it. */
  realPath(path: BytePath): BytePath;
  /**
   * Opens for reading; does not follow a link at the end of the path: in a data directory or archive none is expected, and
   * whoever can put one there must not lead tde to another file. What may be a link is resolved by realPath first.
   */
  open(path: BytePath): OpenFile;
  /** Opens an existing file for reading and writing; does not follow a link at the end of the path. */
  openForWriting(path: BytePath): OpenFile;
  /** Creates a file for reading and writing; fails where the name exists. */
  create(path: BytePath, mode: number): OpenFile;
  makeDirectory(path: BytePath, mode: number): void;
  makeLink(target: BytePath, path: BytePath): void;
  /** Gives a file a second name, atomically; fails with EEXIST where that is taken. Not every file system can. */
  makeHardLink(file: BytePath, path: BytePath): void;
  /** Replaces what is at `to`, atomically. */
  rename(from: BytePath, to: BytePath): void;
  /** Removes a file or link. A name that does not exist is no error. */
  remove(path: BytePath): void;
  removeDirectory(path: BytePath): void;
  /** Of a directory, which must not be a link; files have theirs set while open. */
  setAttributes(path: BytePath, attributes: FileAttributes): void;
  /** Owner of a link itself. */
  setLinkOwner(path: BytePath, uid: number, gid: number): void;
  /** Makes the names in a directory durable. */
  syncDirectory(path: BytePath): void;
  /** Syncs all of them, overlapping where the system can. */
  syncFiles(files: readonly OpenFile[]): Promise<void>;
  /** What is left for this user on the file system of `path`. */
  freeBytes(path: BytePath): number;
}

/** The part of it that reads files by name, for code that does no more. */
export type FileReader = Pick<FileSystem, "stat" | "statFollowing" | "readDirectory" | "open">;
