/**
 * The real file system: node:fs, with errors that say what was being done to which file.
 */
import fs from "node:fs";
import { promisify } from "node:util";
import { type BytePath, bytePathFromBytes, displayPath, toNativePath } from "../bytes/byte-path.ts";
import { StorageError } from "../errors.ts";
import {
  ACCESS_ACL,
  type DirectoryEntry,
  type FileAttributes,
  type FileKind,
  type FileStat,
  type FileSystem,
  GROUP_BITS,
  type OpenFile,
} from "./file-system.ts";

import { extendedAttributesOf, setExtendedAttributes } from "./extended-attributes.ts";
import { uninterrupted, wasInterrupted } from "./interrupted.ts";
import { findLibc, type Libc } from "./libc.ts";

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
const fsync = promisify(fs.fsync);
/** What stat counts in, whatever the file system does. */
const BLOCK_BYTES = 512;

export class NodeFileSystem implements FileSystem {
  readonly #libc: () => Libc | undefined;

  /** @param libc - what there is of the C library. */
  constructor(libc: () => Libc | undefined = findLibc) {
    this.#libc = libc;
  }

  stat(path: BytePath): FileStat | undefined {
    return statOrNothing("could not stat", path, () =>
      fs.lstatSync(toNativePath(path), { throwIfNoEntry: false, bigint: true }),
    );
  }

  statFollowing(path: BytePath): FileStat | undefined {
    return statOrNothing("could not stat", path, () =>
      fs.statSync(toNativePath(path), { throwIfNoEntry: false, bigint: true }),
    );
  }

  readDirectory(path: BytePath): DirectoryEntry[] {
    return attemptUninterrupted("could not read directory", path, () =>
      fs
        // One character a byte, which is what a BytePath is.
        .readdirSync(toNativePath(path), { withFileTypes: true, encoding: "latin1" })
        .map((entry) => ({ name: entry.name as BytePath, kind: kindOf(entry) })),
    );
  }

  readLink(path: BytePath): BytePath {
    return attempt("could not read link", path, () =>
      bytePathFromBytes(fs.readlinkSync(toNativePath(path), { encoding: "buffer" })),
    );
  }

  realPath(path: BytePath): BytePath {
    return attempt("could not resolve", path, () =>
      bytePathFromBytes(fs.realpathSync.native(toNativePath(path), { encoding: "buffer" })),
    );
  }

  open(path: BytePath): OpenFile {
    // To open a pipe waits for its other end, for ever in a directory that nobody writes to; without blocking it is
    // only refused.
    const file = openNode(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, this.#libc);
    const refused = attemptOrClose(file, () => file.stat().kind === "other");
    if (!refused) return file;
    file.close();
    throw new StorageError(
      `could not open "${displayPath(path)}": it is a socket, pipe or device where a file should be`,
      { hint: "Nothing of PostgreSQL's makes such a file here. Restore the file, or remove it." },
    );
  }

  openForWriting(path: BytePath): OpenFile {
    return openNode(path, O_RDWR | O_NOFOLLOW, 0, this.#libc);
  }

  create(path: BytePath, mode: number): OpenFile {
    return openNode(path, O_RDWR | O_CREAT | O_EXCL, mode, this.#libc);
  }

  makeDirectory(path: BytePath, mode: number): void {
    attempt("could not create directory", path, () => fs.mkdirSync(toNativePath(path), mode));
  }

  makeLink(target: BytePath, path: BytePath): void {
    attempt("could not create link", path, () =>
      fs.symlinkSync(toNativePath(target), toNativePath(path)),
    );
  }

  makeHardLink(file: BytePath, path: BytePath): void {
    attempt(`could not link "${displayPath(file)}" to`, path, () =>
      fs.linkSync(toNativePath(file), toNativePath(path)),
    );
  }

  rename(from: BytePath, to: BytePath): void {
    attempt(`could not rename "${displayPath(from)}" to`, to, () =>
      fs.renameSync(toNativePath(from), toNativePath(to)),
    );
  }

  remove(path: BytePath): void {
    attempt("could not remove", path, () => {
      try {
        fs.unlinkSync(toNativePath(path));
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") throw error;
      }
    });
  }

  removeDirectory(path: BytePath): void {
    attempt("could not remove directory", path, () => fs.rmdirSync(toNativePath(path)));
  }

  setAttributes(path: BytePath, attributes: FileAttributes): void {
    attempt("could not set owner, mode and times of", path, () => {
      // By its handle: what stands under the name may be another directory, or a link, the next time that it is used.
      const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
      const descriptor = uninterrupted(() => fs.openSync(toNativePath(path), flags));
      try {
        uninterrupted(() => setAttributesOf(descriptor, attributes, this.#libc));
      } finally {
        fs.closeSync(descriptor);
      }
    });
  }

  setLinkOwner(path: BytePath, uid: number, gid: number): void {
    attemptUninterrupted("could not set the owner of link", path, () =>
      fs.lchownSync(toNativePath(path), uid, gid),
    );
  }

  syncDirectory(path: BytePath): void {
    attempt("could not sync directory", path, () => {
      const descriptor = uninterrupted(() => fs.openSync(toNativePath(path), O_RDONLY));
      try {
        uninterrupted(() => fs.fsyncSync(descriptor));
      } finally {
        fs.closeSync(descriptor);
      }
    });
  }

  async syncFiles(files: readonly OpenFile[]): Promise<void> {
    // Settled, not all: a descriptor must not be closed while another sync of it is still under way.
    const results = await Promise.allSettled(
      files.map(async (file) => {
        if (!(file instanceof NodeFile)) return file.sync();
        await syncUninterrupted(file);
      }),
    );
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  freeBytes(path: BytePath): number {
    return attemptUninterrupted("could not read the free space of", path, () => {
      const { bavail, bsize } = fs.statfsSync(toNativePath(path));
      return bavail * bsize;
    });
  }
}

class NodeFile implements OpenFile {
  readonly path: BytePath;
  readonly descriptor: number;
  readonly #libc: () => Libc | undefined;

  constructor(path: BytePath, descriptor: number, libc: () => Libc | undefined) {
    this.path = path;
    this.descriptor = descriptor;
    this.#libc = libc;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return attemptUninterrupted("could not read", this.path, () =>
      fs.readSync(this.descriptor, buffer, offset, length, position),
    );
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return attemptUninterrupted("could not write", this.path, () =>
      fs.writeSync(this.descriptor, buffer, offset, length, position),
    );
  }

  truncate(sizeBytes: number): void {
    attemptUninterrupted("could not set the size of", this.path, () =>
      fs.ftruncateSync(this.descriptor, sizeBytes),
    );
  }

  stat(): FileStat {
    return attempt("could not stat", this.path, () =>
      fromNodeStat(fs.fstatSync(this.descriptor, { bigint: true })),
    );
  }

  attributes(): FileAttributes {
    const stat = this.stat();
    const extended = extendedAttributesOf(this.descriptor, this.#libc());
    // Without the ACL, which may be there, nobody knows what these bits are.
    const mode = extended === "unknown" ? stat.mode & ~GROUP_BITS : stat.mode;
    return { ...stat, mode, extended };
  }

  setAttributes(attributes: FileAttributes): readonly string[] {
    return attemptUninterrupted("could not set owner, mode and times of", this.path, () =>
      setAttributesOf(this.descriptor, attributes, this.#libc),
    );
  }

  sync(): void {
    attemptUninterrupted("could not sync", this.path, () => fs.fsyncSync(this.descriptor));
  }

  close(): void {
    attempt("could not close", this.path, () => fs.closeSync(this.descriptor));
  }
}

/** The owner first: to change it takes bits of the mode away. The times last: to change anything else changes them. */
function setAttributesOf(
  descriptor: number,
  attributes: FileAttributes,
  libc: () => Libc | undefined,
): readonly string[] {
  const { uid, gid, atimeNs, mtimeNs } = fs.fstatSync(descriptor, { bigint: true });
  if (Number(uid) !== attributes.uid || Number(gid) !== attributes.gid) {
    fs.fchownSync(descriptor, attributes.uid, attributes.gid);
  }
  const { extended, accessTimeNs, modifyTimeNs } = attributes;
  const isKnown = extended !== undefined && extended !== "unknown";
  const failed = isKnown ? setExtendedAttributes(descriptor, extended, libc()) : [];
  // After the ACL: these bits are its mask then, and without it the group's rights.
  const kept = failed.includes(ACCESS_ACL) ? ~GROUP_BITS : ~0;
  fs.fchmodSync(descriptor, attributes.mode & kept);
  const isOther = atimeNs !== accessTimeNs || mtimeNs !== modifyTimeNs;
  if (isOther && libc()?.setTimes(descriptor, accessTimeNs, modifyTimeNs) !== true)
    fs.futimesSync(descriptor, wholeMicroseconds(accessTimeNs), wholeMicroseconds(modifyTimeNs));
  return failed;
}

/**
 * A time as node:fs takes it: seconds, of which a number holds no more than a quarter of a microsecond, and libuv rounds down
 * what it gets. In the middle of its microsecond it is not rounded into the one before; so what is set once, and read, and set again,
 * stays what it is.
 */
function wholeMicroseconds(timeNs: bigint): number {
  const remainder = ((timeNs % 1000n) + 1000n) % 1000n;
  return (Number((timeNs - remainder) / 1000n) + 0.5) / 1e6;
}

function openNode(
  path: BytePath,
  flags: number,
  mode: number,
  libc: () => Libc | undefined,
): OpenFile {
  const verb = (flags & O_CREAT) === 0 ? "could not open" : "could not create";
  return attemptUninterrupted(
    verb,
    path,
    () => new NodeFile(path, fs.openSync(toNativePath(path), flags, mode), libc),
  );
}

/** As `uninterrupted`, for a sync that is waited for. */
async function syncUninterrupted(file: NodeFile): Promise<void> {
  for (;;) {
    try {
      return await fsync(file.descriptor);
    } catch (error) {
      if (!wasInterrupted(error)) throw storageError("could not sync", file.path, error);
    }
  }
}

function attemptOrClose<T>(file: OpenFile, action: () => T): T {
  try {
    return action();
  } catch (error) {
    file.close();
    throw error;
  }
}

/** For the calls that POSIX lets a signal interrupt, and that can be made again. */
function attemptUninterrupted<T>(what: string, path: BytePath, action: () => T): T {
  return attempt(what, path, () => uninterrupted(action));
}

function attempt<T>(what: string, path: BytePath, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw storageError(what, path, error);
  }
}

/** Most names that are asked for and missing are so for a reason: no exception for those. */
function statOrNothing(
  what: string,
  path: BytePath,
  action: () => fs.BigIntStats | undefined,
): FileStat | undefined {
  try {
    const stats = action();
    return stats === undefined ? undefined : fromNodeStat(stats);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return undefined;
    throw storageError(what, path, error);
  }
}

/** What each refusal of the system means for the person who has to mend it. */
const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: "Free some space and run the same command again: it goes on where it stopped.",
  EDQUOT: "Raise the disk quota and run the same command again: it goes on where it stopped.",
  EACCES: "Run tde as the user who owns the file (usually postgres).",
  EPERM: "Run tde as the user who owns the file (usually postgres), or as root.",
  EROFS: 'The file system is read-only. Use "--output" to write to another place.',
  EMFILE: "Too many files are open. Raise the limit (ulimit -n) or lower --jobs.",
  EIO: "The disk reports an error. Check it before anything else, then run the command again.",
  ELOOP: "A symbolic link stands in the path where none is expected, or links form a loop.",
};

function storageError(what: string, path: BytePath, error: unknown): StorageError {
  const errno = errnoOf(error);
  const reason =
    error instanceof Error
      ? error.message.replace(/^[A-Z0-9]+: /, "").replace(/, \w+( '.*)?$/s, "")
      : String(error);
  return new StorageError(`${what} "${displayPath(path)}": ${reason}`, {
    cause: error,
    errno,
    file: displayPath(path),
    hint: errno === undefined ? undefined : HINTS[errno],
  });
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined;
}

function kindOf(entry: {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}): FileKind {
  if (entry.isFile()) return "file";
  if (entry.isDirectory()) return "directory";
  return entry.isSymbolicLink() ? "link" : "other";
}

function fromNodeStat(stats: fs.BigIntStats): FileStat {
  return {
    kind: kindOf(stats),
    sizeBytes: Number(stats.size),
    allocatedBytes: Number(stats.blocks) * BLOCK_BYTES,
    mode: Number(stats.mode) & 0o7777,
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    accessTimeNs: stats.atimeNs,
    modifyTimeNs: stats.mtimeNs,
    device: Number(stats.dev),
    inode: Number(stats.ino),
    linkCount: Number(stats.nlink),
  };
}
