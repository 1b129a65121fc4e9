/**
 * Whole reads and writes over the file-system interface, whose own calls may be cut short as the kernel's may.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { FormatError, StorageError } from "../errors.ts";
import type { FileAttributes, FileReader, FileSystem, OpenFile } from "./file-system.ts";

/** Reads until `length` bytes are there or the file ends; returns how many were read. */
export function readUpTo(
  file: OpenFile,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): number {
  let done = 0;
  while (done < length) {
    const count = file.read(buffer, offset + done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Reads exactly `length` bytes. @throws {StorageError} when the file ends before. */
export function readExactly(
  file: OpenFile,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): void {
  const count = readUpTo(file, buffer, offset, length, position);
  if (count < length) {
    throw new StorageError(
      `file "${displayPath(file.path)}" ended at ${position + count} while ${length} bytes at offset ${position} were read`,
      { hint: "Something else is changing the file. Stop it and run the command again." },
    );
  }
}

/** Writes all of `length` bytes. */
export function writeAll(
  file: OpenFile,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): void {
  let done = 0;
  while (done < length) {
    const count = file.write(buffer, offset + done, length - done, position + done);
    if (count === 0) {
      throw new StorageError(
        `could not write to file "${displayPath(file.path)}": the system wrote nothing`,
      );
    }
    done += count;
  }
}

/** What most small files fit into. */
const SMALL_FILE_BYTES = 4095;

/**
 * The whole content of a small file.
 * @throws {FormatError} when it is larger than `limitBytes`.
 */
export function readWholeFile(fs: FileReader, path: BytePath, limitBytes: number): Buffer {
  const file = fs.open(path);
  try {
    const { sizeBytes } = file.stat();
    if (sizeBytes > limitBytes) {
      throw new FormatError(
        `file "${displayPath(path)}" has ${sizeBytes} bytes, more than the ${limitBytes} that such a file can have`,
      );
    }
    // One byte more than the size tells a file that grew, or one whose size the system does not know (/proc).
    let buffer = Buffer.alloc(Math.min(limitBytes, Math.max(sizeBytes, SMALL_FILE_BYTES)) + 1);
    let count = readUpTo(file, buffer, 0, buffer.length, 0);
    while (count === buffer.length && count <= limitBytes) {
      buffer = Buffer.concat([buffer], Math.min(limitBytes + 1, 2 * count));
      count += readUpTo(file, buffer, count, buffer.length - count, count);
    }
    if (count > limitBytes) {
      throw new FormatError(`file "${displayPath(path)}" has more than ${limitBytes} bytes`);
    }
    return buffer.subarray(0, count);
  } finally {
    file.close();
  }
}

const PART_BYTES = 2 ** 18;

/** A file's bytes from the beginning, read anew for each pass; a part is valid until the next one is taken. */
export function fileParts(fs: FileReader, path: BytePath): () => Generator<Uint8Array> {
  return function* read(): Generator<Uint8Array> {
    const file = fs.open(path);
    try {
      const buffer = Buffer.alloc(PART_BYTES);
      for (let position = 0; ;) {
        const count = file.read(buffer, 0, buffer.length, position);
        if (count === 0) return;
        yield buffer.subarray(0, count);
        position += count;
      }
    } finally {
      file.close();
    }
  };
}

/** An open file from its beginning; each part is the caller's own. */
export function* ownParts(file: OpenFile): Generator<Uint8Array> {
  for (let position = 0; ;) {
    const part = Buffer.allocUnsafe(PART_BYTES);
    const count = file.read(part, 0, part.length, position);
    if (count === 0) return;
    yield part.subarray(0, count);
    position += count;
  }
}

/** Opens a file for reading, hands it over, and closes it whatever happens. */
export function withFile<T>(fs: FileReader, path: BytePath, use: (file: OpenFile) => T): T {
  const file = fs.open(path);
  try {
    return use(file);
  } finally {
    file.close();
  }
}

/** All that a file which takes the place of this one should have; undefined where there is no file. */
export function attributesAt(fs: FileReader, path: BytePath): FileAttributes | undefined {
  if (fs.stat(path)?.kind !== "file") return undefined;
  return withFile(fs, path, (file) => file.attributes());
}

/** Opens a file that the user names, and that may be a link: a mounted secret, a segment of WAL. */
export function openFollowing(fs: FileSystem, path: BytePath): OpenFile {
  return fs.open(fs.stat(path)?.kind === "link" ? fs.realPath(path) : path);
}

/** Closes each of them, also after one whose close failed. */
export function closeAll(files: Iterable<OpenFile>): void {
  const failures: unknown[] = [];
  for (const file of files) {
    try {
      file.close();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
