/**
 * A file system that hands every call on to another one. Tests override what they want to watch, refuse or change.
 */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import type {
  DirectoryEntry,
  FileAttributes,
  FileStat,
  FileSystem,
  OpenFile,
} from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";

export class DelegatingFileSystem implements FileSystem {
  protected readonly inner: FileSystem;

  constructor(inner: FileSystem = new NodeFileSystem()) {
    this.inner = inner;
  }

  /** Every file that is opened or created passes through here. */
  protected opened(file: OpenFile): OpenFile {
    return file;
  }

  stat(path: BytePath): FileStat | undefined {
    return this.inner.stat(path);
  }
  statFollowing(path: BytePath): FileStat | undefined {
    return this.inner.statFollowing(path);
  }
  readDirectory(path: BytePath): DirectoryEntry[] {
    return this.inner.readDirectory(path);
  }
  readLink(path: BytePath): BytePath {
    return this.inner.readLink(path);
  }
  realPath(path: BytePath): BytePath {
    return this.inner.realPath(path);
  }
  open(path: BytePath): OpenFile {
    return this.opened(this.inner.open(path));
  }
  openForWriting(path: BytePath): OpenFile {
    return this.opened(this.inner.openForWriting(path));
  }
  create(path: BytePath, mode: number): OpenFile {
    return this.opened(this.inner.create(path, mode));
  }
  makeDirectory(path: BytePath, mode: number): void {
    this.inner.makeDirectory(path, mode);
  }
  makeLink(target: BytePath, path: BytePath): void {
    this.inner.makeLink(target, path);
  }
  makeHardLink(file: BytePath, path: BytePath): void {
    this.inner.makeHardLink(file, path);
  }
  rename(from: BytePath, to: BytePath): void {
    this.inner.rename(from, to);
  }
  remove(path: BytePath): void {
    this.inner.remove(path);
  }
  removeDirectory(path: BytePath): void {
    this.inner.removeDirectory(path);
  }
  setAttributes(path: BytePath, attributes: FileAttributes): void {
    this.inner.setAttributes(path, attributes);
  }
  setLinkOwner(path: BytePath, uid: number, gid: number): void {
    this.inner.setLinkOwner(path, uid, gid);
  }
  syncDirectory(path: BytePath): void {
    this.inner.syncDirectory(path);
  }
  async syncFiles(files: readonly OpenFile[]): Promise<void> {
    for (const file of files) file.sync();
  }
  freeBytes(path: BytePath): number {
    return this.inner.freeBytes(path);
  }
}

/** An open file that hands every call on, but for those that are given. */
export function changedFile(file: OpenFile, changes: Partial<OpenFile>): OpenFile {
  return {
    path: file.path,
    read: (...a) => file.read(...a),
    write: (...a) => file.write(...a),
    truncate: (size) => file.truncate(size),
    stat: () => file.stat(),
    attributes: () => file.attributes(),
    setAttributes: (attributes) => file.setAttributes(attributes),
    sync: () => file.sync(),
    close: () => file.close(),
    ...changes,
  };
}

/** Counts what is read. */
export class CountingFileSystem extends DelegatingFileSystem {
  bytesRead = 0;

  protected override opened(file: OpenFile): OpenFile {
    return changedFile(file, {
      read: (...a) => {
        const count = file.read(...a);
        this.bytesRead += count;
        return count;
      },
    });
  }
}
