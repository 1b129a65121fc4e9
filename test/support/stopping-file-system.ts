/**
 * The real file system, until operation number `stopAt`: that one and all later ones fail, as if the process had
 * been killed there. Counts every call that changes something.
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

export class Stopped extends Error {}

export class StoppingFileSystem implements FileSystem {
  readonly #fs = new NodeFileSystem();
  readonly #stopAt: number;
  operations = 0;
  bytesWritten = 0;
  readonly log: string[] = [];
  /** What each operation of the log was on. */
  readonly paths: BytePath[] = [];

  constructor(stopAt: number = Number.POSITIVE_INFINITY) {
    this.#stopAt = stopAt;
  }

  #step(what: string, path: BytePath): void {
    this.operations++;
    this.log.push(what);
    this.paths.push(path);
    if (this.operations >= this.#stopAt) throw new Stopped(what);
  }

  #file(file: OpenFile): OpenFile {
    const step = (what: string): void => this.#step(what, file.path);
    const count = (bytes: number): number => {
      this.bytesWritten += bytes;
      return bytes;
    };
    return {
      path: file.path,
      read: (...a) => file.read(...a),
      write(...a): number {
        step("write");
        return count(file.write(...a));
      },
      truncate(size): void {
        step("truncate");
        file.truncate(size);
      },
      stat: () => file.stat(),
      attributes: () => file.attributes(),
      setAttributes(attributes): readonly string[] {
        step("setAttributes");
        return file.setAttributes(attributes);
      },
      sync(): void {
        step("sync");
        file.sync();
      },
      close: () => file.close(),
    };
  }

  stat(path: BytePath): FileStat | undefined {
    return this.#fs.stat(path);
  }
  statFollowing(path: BytePath): FileStat | undefined {
    return this.#fs.statFollowing(path);
  }
  readDirectory(path: BytePath): DirectoryEntry[] {
    return this.#fs.readDirectory(path);
  }
  readLink(path: BytePath): BytePath {
    return this.#fs.readLink(path);
  }
  realPath(path: BytePath): BytePath {
    return this.#fs.realPath(path);
  }
  open(path: BytePath): OpenFile {
    return this.#file(this.#fs.open(path));
  }
  openForWriting(path: BytePath): OpenFile {
    return this.#file(this.#fs.openForWriting(path));
  }
  create(path: BytePath, mode: number): OpenFile {
    this.#step("create", path);
    return this.#file(this.#fs.create(path, mode));
  }
  makeDirectory(path: BytePath, mode: number): void {
    this.#step("makeDirectory", path);
    this.#fs.makeDirectory(path, mode);
  }
  makeLink(target: BytePath, path: BytePath): void {
    this.#step("makeLink", path);
    this.#fs.makeLink(target, path);
  }
  makeHardLink(file: BytePath, path: BytePath): void {
    this.#step("makeHardLink", path);
    this.#fs.makeHardLink(file, path);
  }
  rename(from: BytePath, to: BytePath): void {
    this.#step("rename", to);
    this.#fs.rename(from, to);
  }
  remove(path: BytePath): void {
    this.#step("remove", path);
    this.#fs.remove(path);
  }
  removeDirectory(path: BytePath): void {
    this.#step("removeDirectory", path);
    this.#fs.removeDirectory(path);
  }
  setAttributes(path: BytePath, attributes: FileAttributes): void {
    this.#step("setAttributes", path);
    this.#fs.setAttributes(path, attributes);
  }
  setLinkOwner(path: BytePath, uid: number, gid: number): void {
    this.#step("setLinkOwner", path);
    this.#fs.setLinkOwner(path, uid, gid);
  }
  syncDirectory(path: BytePath): void {
    this.#step("syncDirectory", path);
    this.#fs.syncDirectory(path);
  }
  async syncFiles(files: readonly OpenFile[]): Promise<void> {
    for (const file of files) file.sync();
  }
  freeBytes(path: BytePath): number {
    return this.#fs.freeBytes(path);
  }
}
