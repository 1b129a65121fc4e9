/**
 * Holds a plain file against header and tags of the container that it was opened from: whether it is, bit for bit, what
 * was sealed. Each chunk is encrypted once more in memory and must give its tag; what is encrypted so is thrown away.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { equalInConstantTime, gcmTag, runningSha256, TAG_BYTES } from "../crypto/primitives.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import { containerTags } from "../format/container-opener.ts";
import {
  chunkCount,
  chunkNonce,
  CONTAINER_HEADER_LIMIT_BYTES,
  containerHeaderSizeBytes,
  deriveContainerKey,
  NO_AAD,
  parseContainerHeader,
} from "../format/container.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";

export interface HeldFile {
  readonly isOriginal: boolean;
  /** Of the container, as the manifest keeps it; where the file is its original. */
  readonly digest: Buffer | undefined;
}

/** Header and tags of the container at `path`, in parts. @throws as containerDigest. */
export function* tagsOf(fs: FileSystem, path: BytePath): Generator<Buffer> {
  const file = fs.open(path);
  try {
    yield* containerTags(readerOf(file), file.stat().sizeBytes, `"${displayPath(path)}"`);
  } finally {
    file.close();
  }
}

/**
 * @param tags - where `tagsOf` the container was kept.
 * @throws {FormatError} {KeyError} {IntegrityError} when that cannot be used.
 */
export function holdAgainstTags(
  fs: FileSystem,
  plain: BytePath,
  tags: { readonly path: BytePath; readonly position: number; readonly length: number },
  { keys, context }: { readonly keys: DataKeys; readonly context: string },
): HeldFile {
  return withFile(fs, tags.path, (kept) =>
    withFile(fs, plain, (file) => {
      const where = `the container of "${displayPath(plain)}"`;
      const readTags = (offset: number, length: number): Buffer =>
        readerOf(kept)(tags.position + offset, Math.max(0, Math.min(length, tags.length - offset)));
      const start = readTags(0, CONTAINER_HEADER_LIMIT_BYTES);
      const header = parseContainerHeader(start, where);
      if (header.context !== context)
        throw new IntegrityError(`${where} is ${displayPath(header.context)}`);
      const dek = dekFor(keys, header.keyringId, header.keyId, displayPath(plain));
      const { key, commitment } = deriveContainerKey(dek, header);
      if (!equalInConstantTime(commitment, header.commitment))
        throw new KeyError(`${where} is committed to another key ${header.keyId}`);

      const headerBytes = containerHeaderSizeBytes(header.context.length);
      const hash = runningSha256();
      hash.update(start.subarray(0, headerBytes));
      const { sizeBytes } = file.stat();
      const chunks = chunkCount(sizeBytes, header.chunkSizeBytes);
      const isOfSize =
        header.compression === "none" &&
        header.contentSizeBytes === sizeBytes &&
        tags.length === headerBytes + chunks * TAG_BYTES;
      // Nothing is read of what can be as large as somebody likes.
      if (!isOfSize) return { isOriginal: false, digest: undefined };
      const buffer = Buffer.alloc(Math.min(header.chunkSizeBytes, sizeBytes));
      const scratch = Buffer.alloc(buffer.length);
      for (let at = headerBytes, i = 0; at < tags.length; at += TAG_BYTES, i++) {
        const tag = readTags(at, TAG_BYTES);
        hash.update(tag);
        const count = readUpTo(file, buffer, 0, buffer.length, i * header.chunkSizeBytes);
        const nonce = chunkNonce(i, i === chunks - 1);
        const part = buffer.subarray(0, count);
        const made = gcmTag(key, nonce, NO_AAD, part, scratch.subarray(0, count));
        if (!equalInConstantTime(made, tag)) return { isOriginal: false, digest: undefined };
      }
      return { isOriginal: true, digest: hash.digest() };
    }),
  );
}

function readerOf(file: OpenFile): (offset: number, length: number) => Buffer {
  return (offset, length) => {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, readUpTo(file, buffer, 0, length, offset));
  };
}
