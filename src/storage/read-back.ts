/**
 * Reading back what was just written: opened anew by its name, after it was synced and closed, and held against what it
 * was to be. Nothing that a new file replaces goes before that. docs/RELIABILITY.md says what a read-back cannot see.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { StorageError } from "../errors.ts";
import { readUpTo, withFile } from "./file-io.ts";
import type { FileReader } from "./file-system.ts";

/**
 * That what was written does not read as it was written.
 * @param path - of the file as the user knows it, not under a working name.
 */
export function notAsWritten(path: BytePath, why?: string, cause?: unknown): StorageError {
  const file = displayPath(path);
  const details = why === undefined ? "" : `: ${why}`;
  return new StorageError(
    `what was written of "${file}" does not read as it was written${details}`,
    {
      cause,
      file,
      hint: "What it was to replace is as it was. Check memory and disk, and that nothing else writes there. Then run the same command again.",
    },
  );
}

/**
 * Whether a file holds these bytes and no others. The copy of them that is made is wiped: it may be a key.
 * @throws {StorageError} when it cannot be read.
 */
export function holds(fs: FileReader, path: BytePath, content: Uint8Array): boolean {
  const read = Buffer.alloc(content.length + 1);
  const count = withFile(fs, path, (file) => readUpTo(file, read, 0, read.length, 0));
  const same = read.subarray(0, count).equals(content);
  read.fill(0);
  return same;
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
