/** Reads a file from its beginning to its end, through the chunk's buffer. */
import type { BytePath } from "../bytes/byte-path.ts";
import { readExactly, withFile } from "../storage/file-io.ts";
import type { Tools } from "./tools.ts";

/**
 * @param take - gets one part after the other, each valid until the next.
 * @returns the size of the file.
 */
export function readThrough(
  { fs, chunk, onBytes }: Tools,
  path: BytePath,
  take: (bytes: Buffer, position: number) => void,
): number {
  return withFile(fs, path, (file) => {
    const buffer = chunk.data;
    const { sizeBytes } = file.stat();
    for (let position = 0; position < sizeBytes; position += buffer.length) {
      const length = Math.min(buffer.length, sizeBytes - position);
      readExactly(file, buffer, 0, length, position);
      take(buffer.subarray(0, length), position);
      onBytes(length);
    }
    return sizeBytes;
  });
}
