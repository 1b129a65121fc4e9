/** Reads a file from its beginning to its end, through the chunk's buffer. */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { IntegrityError } from "../errors.ts";
import { readExactly, withFile } from "../storage/file-io.ts";
import type { Tools } from "./tools.ts";

/**
 * @param limitBytes - what it may have: it can have been made as large as the file system allows.
 * @param take - gets one part after the other, each valid until the next.
 * @returns the size of the file; where that is above the limit, nothing of it was read.
 */
export function readThrough(
  { fs, chunk, onBytes }: Tools,
  path: BytePath,
  limitBytes: number,
  take: (bytes: Buffer, position: number) => void,
): number {
  return withFile(fs, path, (file) => {
    const buffer = chunk.data;
    const { sizeBytes } = file.stat();
    if (sizeBytes > limitBytes) return sizeBytes;
    for (let position = 0; position < sizeBytes; position += buffer.length) {
      const length = Math.min(buffer.length, sizeBytes - position);
      readExactly(file, buffer, 0, length, position);
      take(buffer.subarray(0, length), position);
      onBytes(length);
    }
    return sizeBytes;
  });
}

/** Of a file that is another by now than the one that was looked at. */
export function hasChanged(path: BytePath): IntegrityError {
  return new IntegrityError(`${displayPath(path)} changed while it was read`, {
    file: displayPath(path),
    hint: "Check the disk, and that nothing else uses the directory. Then run the command again.",
  });
}
