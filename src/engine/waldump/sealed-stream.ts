/**
 * Sealed segments that come one behind the other through a pipe, as `cat` joins them. A container does not say where it
 * ends when it is compressed: it ends where the header of the next one begins, whose checksum tells it from ciphertext.
 */
import type { ByteStream } from "../../bytes/byte-stream.ts";
import type { BytePath } from "../../bytes/byte-path.ts";
import { FormatError } from "../../errors.ts";
import {
  CONTAINER_HEADER_LIMIT_BYTES,
  CONTAINER_MAGIC,
  parseContainerHeader,
} from "../../format/container.ts";
import { readUnnamedSealedWal } from "../wal-archive/sealed-wal.ts";
import { asFile, requireKeys } from "./segment-bytes.ts";
import type { WalKeys } from "./wal-files.ts";

/** How messages call it. */
const NAME = "standard input" as BytePath;
const FIRST_BYTES = 2 ** 20;
/** As the largest segment sealed: one container at a time is in memory. */
const LARGEST_BYTES = 2 ** 30 + 2 ** 25;

/** @throws {KeyError} {IntegrityError} {FormatError} for the first one that does not open. */
export async function* unsealedSegments(
  stream: ByteStream,
  keys: WalKeys,
): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const length = await nextLength(stream);
      if (length === 0) return;
      const opened = requireKeys(await keys(), NAME);
      const container = Buffer.from(await stream.take(length));
      yield (await readUnnamedSealedWal(asFile(NAME, container), opened)).content;
    }
  } finally {
    await stream.close();
  }
}

/** Bytes up to the next container's header, or to the end; 0 at the end. */
async function nextLength(stream: ByteStream): Promise<number> {
  let from = 1;
  for (let wanted = FIRST_BYTES; ; wanted *= 2) {
    const bytes = await stream.peek(wanted);
    const isAll = bytes.length < wanted;
    // A header that is not wholly there yet is looked at again.
    const last = isAll ? bytes.length : bytes.length - CONTAINER_HEADER_LIMIT_BYTES;
    for (
      let at = bytes.indexOf(CONTAINER_MAGIC, from);
      at >= 0 && at < last;
      at = bytes.indexOf(CONTAINER_MAGIC, at + 1)
    ) {
      if (isHeader(bytes.subarray(at, at + CONTAINER_HEADER_LIMIT_BYTES))) return at;
    }
    if (isAll) return bytes.length;
    from = last;
    if (bytes.length > LARGEST_BYTES) {
      throw new FormatError(`${NAME} holds more than a sealed segment can have`);
    }
  }
}

function isHeader(bytes: Buffer): boolean {
  try {
    parseContainerHeader(bytes, NAME);
    return true;
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}
