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
  readonly log: string[] = [];

  constructor(stopAt: number = Number.POSITIVE_INFINITY) {
    this.#stopAt = stopAt;
  }

  #step(what: string): void {
    this.operations++;
    this.log.push(what);
    if (this.operations >= this.#stopAt) throw new Stopped(what);
  }

  #file(file: OpenFile): OpenFile {
    const step = (what: string): void => this.#step(what);
    return {
      path: file.path,
      read: (...a) => file.read(...a),
      write(...a): number {
        step("write");
        return file.write(...a);
      },
      truncate(size): void {
        step("truncate");
        file.truncate(size);
      },
      stat: () => file.stat(),
      setAttributes(attributes): void {
        step("setAttributes");
        file.setAttributes(attributes);
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
    this.#step("create");
    return this.#file(this.#fs.create(path, mode));
  }
  makeDirectory(path: BytePath, mode: number): void {
    this.#step("makeDirectory");
    this.#fs.makeDirectory(path, mode);
  }
  makeLink(target: BytePath, path: BytePath): void {
    this.#step("makeLink");
    this.#fs.makeLink(target, path);
  }
  rename(from: BytePath, to: BytePath): void {
    this.#step("rename");
    this.#fs.rename(from, to);
  }
  remove(path: BytePath): void {
    this.#step("remove");
    this.#fs.remove(path);
  }
  removeDirectory(path: BytePath): void {
    this.#step("removeDirectory");
    this.#fs.removeDirectory(path);
  }
  setAttributes(path: BytePath, attributes: FileAttributes): void {
    this.#step("setAttributes");
    this.#fs.setAttributes(path, attributes);
  }
  setLinkOwner(path: BytePath, uid: number, gid: number): void {
    this.#step("setLinkOwner");
    this.#fs.setLinkOwner(path, uid, gid);
  }
  syncDirectory(path: BytePath): void {
    this.#step("syncDirectory");
    this.#fs.syncDirectory(path);
  }
  async syncFiles(files: readonly OpenFile[]): Promise<void> {
    for (const file of files) file.sync();
  }
  freeBytes(path: BytePath): number {
    return this.#fs.freeBytes(path);
  }
}
