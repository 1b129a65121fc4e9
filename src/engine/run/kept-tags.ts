/**
 * What a decryption in place keeps of the files that were sealed whole, until it ends: header and tags of each container,
 * in one file beside the journal. A relation's sidecar stays beside it for the same purpose. So a run that goes on can
 * tell the plain files that it made from others that somebody put in their place.
 *
 * A record is u16(length of the path) || path || u32(length) || header and tags, and is durable before the plain file takes
 * the container's place. Nothing authenticates it but the manifest, which has the digest of those bytes.
 * docs/FORMAT.md, "Kept tags".
 */
import { type BytePath, joinPath } from "../../bytes/byte-path.ts";
import { OWN_FILES } from "../../datadir/classify.ts";
import { tagsOf } from "../../datadir/container-tags.ts";
import { FormatError } from "../../errors.ts";
import { readUpTo, withFile, writeAll } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import type { FilePart } from "../../workers/tasks.ts";

const MAX_RECORD_BYTES = 2 ** 32 - 1;

export class KeptTags {
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly path: BytePath;
  private readonly records: Map<BytePath, FilePart> = new Map();
  private end = 0;

  constructor(fs: FileSystem, root: BytePath) {
    this.fs = fs;
    this.root = root;
    this.path = joinPath(root, OWN_FILES["kept-tags"]);
    if (fs.stat(this.path) !== undefined) withFile(fs, this.path, (file) => this.readAll(file));
  }

  /** What was kept of the file at `path`; the newest where it was opened twice. */
  of(path: BytePath): FilePart | undefined {
    return this.records.get(path);
  }

  /** Keeps header and tags of these containers, durably. */
  keep(paths: readonly BytePath[]): void {
    if (paths.length === 0) return;
    const isNew = this.fs.stat(this.path) === undefined;
    const file = isNew ? this.fs.create(this.path, 0o600) : this.fs.openForWriting(this.path);
    try {
      // What a crash left behind the last whole record is none.
      if (!isNew) file.truncate(this.end);
      for (const path of paths) this.append(file, path);
      file.sync();
    } finally {
      file.close();
    }
    if (isNew) this.fs.syncDirectory(this.root);
  }

  remove(): void {
    this.fs.remove(this.path);
  }

  private append(file: OpenFile, path: BytePath): void {
    const head = Buffer.alloc(2 + path.length + 4);
    const position = this.end + head.length;
    let length = 0;
    for (const part of tagsOf(this.fs, joinPath(this.root, path))) {
      writeAll(file, part, 0, part.length, position + length);
      length += part.length;
    }
    if (length > MAX_RECORD_BYTES) throw new FormatError(`"${path}" has too many chunks`);
    head.writeUInt16LE(path.length, 0);
    head.write(path, 2, "latin1");
    head.writeUInt32LE(length, 2 + path.length);
    writeAll(file, head, 0, head.length, this.end);
    this.records.set(path, { path: this.path, position, length });
    this.end = position + length;
  }

  private readAll(file: OpenFile): void {
    const { sizeBytes } = file.stat();
    const readAt = (position: number, length: number): Buffer => {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readUpTo(file, buffer, 0, length, position));
    };
    while (this.end + 6 <= sizeBytes) {
      const pathLength = readAt(this.end, 2).readUInt16LE(0);
      // A hole, as long as somebody likes.
      if (pathLength === 0) return;
      const head = readAt(this.end + 2, pathLength + 4);
      if (head.length < pathLength + 4) return;
      const length = head.readUInt32LE(pathLength);
      const position = this.end + 2 + head.length;
      if (position + length > sizeBytes) return;
      const path = head.toString("latin1", 0, pathLength) as BytePath;
      this.records.set(path, { path: this.path, position, length });
      this.end = position + length;
    }
  }
}
