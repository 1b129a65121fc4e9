/**
 * The files that one task makes: each takes owner, mode and times of another, and is synced before it is closed. Plain ones
 * take of these only what the directory lets be.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { type PlainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { closeAll } from "../storage/file-io.ts";
import type { FileAttributes, FileSystem, OpenFile } from "../storage/file-system.ts";

export class NewFiles {
  private readonly fs: FileSystem;
  private readonly access: PlainAccess | undefined;
  /** Each with its attributes. */
  private files: Map<OpenFile, FileAttributes> = new Map();

  /** @param access - where the new files are plain. */
  constructor(fs: FileSystem, access?: PlainAccess) {
    this.fs = fs;
    this.access = access;
  }

  get count(): number {
    return this.files.size;
  }

  /**
   * A file to write: created, or of a range opened.
   * @param sizeBytes - set at once where known, so that what is never written stays a hole.
   */
  open(path: BytePath, create: boolean, like: OpenFile, sizeBytes?: number): OpenFile {
    const { access } = this;
    const attributes = access === undefined ? like.stat() : plainAttributes(like.stat(), access);
    const file = create ? this.fs.create(path, 0o600) : this.fs.openForWriting(path);
    this.files.set(file, attributes);
    if (create && sizeBytes !== undefined) file.truncate(sizeBytes);
    return file;
  }

  /** Makes them durable, and closes them. Other work may go on meanwhile. */
  async sync(): Promise<void> {
    const { files } = this;
    this.files = new Map();
    try {
      for (const [file, attributes] of files) file.setAttributes(attributes);
      await this.fs.syncFiles([...files.keys()]);
    } finally {
      closeAll(files.keys());
    }
  }

  /** After an error: what was made is not worth a sync. */
  close(): void {
    const { files } = this;
    this.files = new Map();
    closeAll(files.keys());
  }
}
