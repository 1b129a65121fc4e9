/** The real file system, where one write to a file does something else than it says, and success is reported. */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";

/** flip: the last bit of its first byte; drop: nothing is written; ahead: it is written once more behind itself. */
export type BadWriteOf = "flip" | "drop" | "ahead";
export const BAD_WRITES_OF: readonly BadWriteOf[] = ["flip", "drop", "ahead"];

export class BadWriteFileSystem extends NodeFileSystem {
  /** Writes to files that are meant. */
  writes = 0;
  private readonly isMeant: (path: BytePath) => boolean;
  private readonly how: BadWriteOf;
  private readonly at: number;

  /** @param at - which write to such files, counted from 1. */
  constructor(isMeant: (path: BytePath) => boolean, how: BadWriteOf = "flip", at = 1) {
    super();
    this.isMeant = isMeant;
    this.how = how;
    this.at = at;
  }

  override create(path: BytePath, mode: number): OpenFile {
    return this.watched(super.create(path, mode));
  }

  override openForWriting(path: BytePath): OpenFile {
    return this.watched(super.openForWriting(path));
  }

  private watched(file: OpenFile): OpenFile {
    if (!this.isMeant(file.path)) return file;
    const write = file.write.bind(file);
    file.write = (buffer, offset, length, position): number => {
      if (++this.writes !== this.at) return write(buffer, offset, length, position);
      if (this.how === "drop") return length;
      const bytes = Buffer.from(buffer.subarray(offset, offset + length));
      if (this.how === "flip") bytes[0] = (bytes[0] ?? 0) ^ 1;
      write(bytes, 0, length, position);
      if (this.how === "ahead") write(bytes, 0, length, position + length);
      return length;
    };
    return file;
  }
}
