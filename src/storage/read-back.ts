/**
 * Reading back what was just written: opened anew by its name, after it was synced and closed, and held against what it
 * was to be. Nothing that a new file replaces goes before that. docs/RELIABILITY.md says what a read-back cannot see.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { StorageError, TdeError } from "../errors.ts";
import { readUpTo, withFile } from "./file-io.ts";
import type { FileReader } from "./file-system.ts";

const CHECK_DISK =
  "Check memory and disk, and that nothing else writes there. Then run the same command again.";

/**
 * That what was written does not read as it was written.
 * @param path - of the file as the user knows it, not under a working name.
 */
export function notAsWritten(path: BytePath, why?: string, cause?: unknown): StorageError {
  const file = displayPath(path);
  const details = why === undefined ? "" : `: ${why}`;
  const message = `what was written of "${file}" does not read as it was written${details}`;
  return new StorageError(message, {
    cause,
    file,
    hint: `What it was to replace is as it was. ${CHECK_DISK}`,
  });
}

/** As notAsWritten, of a file that was written in place: the journal keeps what is to be in it. */
export function notAsPatched(path: BytePath): StorageError {
  const file = displayPath(path);
  const message = `what was written into "${file}" does not read as it was written`;
  return new StorageError(message, {
    file,
    hint: `The journal keeps what belongs there. ${CHECK_DISK}`,
  });
}

/**
 * Looks at a new file. What is wrong with it is nobody's damage: it was not written as it should have been.
 * @throws {StorageError} for whatever TdeError `look` throws.
 */
export function readingBack<T>(path: BytePath, look: () => T): T {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof TdeError) || error instanceof StorageError) throw error;
    throw notAsWritten(path, error.message, error);
  }
}

/**
 * Whether a file holds these bytes, one part behind the other, and no others. The copies of them that are made are wiped:
 * they may be a key.
 * @throws {StorageError} when it cannot be read.
 */
export function holds(fs: FileReader, path: BytePath, ...parts: readonly Uint8Array[]): boolean {
  return withFile(fs, path, (file) => {
    let position = 0;
    for (const part of parts) {
      const read = Buffer.alloc(part.length);
      const count = readUpTo(file, read, 0, read.length, position);
      const same = read.subarray(0, count).equals(part);
      read.fill(0);
      if (!same) return false;
      position += count;
    }
    return file.stat().sizeBytes === position;
  });
}

/**
 * Whether two files hold the same bytes.
 * @param buffers - what to read into; both are of one size.
 */
export function haveSameContent(
  fs: FileReader,
  a: BytePath,
  b: BytePath,
  [one, other]: readonly [Buffer, Buffer],
): boolean {
  return withFile(fs, a, (fileA) =>
    withFile(fs, b, (fileB) => {
      for (let position = 0; ; position += one.length) {
        const count = readUpTo(fileA, one, 0, one.length, position);
        if (readUpTo(fileB, other, 0, one.length, position) !== count) return false;
        if (one.compare(other, 0, count, 0, count) !== 0) return false;
        if (count < one.length) return true;
      }
    }),
  );
}
