/**
 * The content of a container that may be compressed, as a stream of parts. A part is what a chunk whose tag held
 * decompresses to; whole and genuine is the content only when the stream has ended without an error. Nothing beyond
 * the size that the header names is ever given out, whatever the compressed bytes say.
 */
import assert from "node:assert/strict";
import { displayPath } from "../bytes/byte-path.ts";
import { decompressed } from "../compression/stream.ts";
import { IntegrityError, TdeError } from "../errors.ts";
import { ContainerOpener } from "../format/container-opener.ts";
import type { ContainerHeader } from "../format/container.ts";
import type { FileStat, OpenFile } from "../storage/file-system.ts";
import type { UnsealedFile, UnsealFileOptions } from "./sealed-file.ts";

/** What is in the processor's cache when it is decrypted. */
const READ_BYTES = 2 ** 18;

/** What a container is read from: a file, or bytes that are in memory. */
export type SealedBytes = Pick<OpenFile, "path" | "read"> & {
  stat(): Pick<FileStat, "sizeBytes">;
};

export interface SealedContent {
  /** Its commitment has held. */
  readonly header: ContainerHeader;
  /** Ends by returning what is known of a whole container. */
  readonly parts: AsyncGenerator<Uint8Array, UnsealedFile>;
}

/**
 * @param file - stays open.
 * @param limitBytes - the most that such a content can have; more is refused before it is decompressed.
 * @throws {FormatError} {KeyError} {IntegrityError} as ContainerOpener; the parts, too, and for content that does not
 * decompress to exactly the size that the header names.
 */
export function openSealedContent(
  file: SealedBytes,
  limitBytes: number,
  options: UnsealFileOptions,
): SealedContent {
  const where = `"${displayPath(file.path)}"`;
  const opener = new ContainerOpener({ ...options, where, decompresses: true });
  const opened = openedParts(file, opener);
  // The header is known, and its commitment has held, once the first part or the end is there.
  const first = opened.next();
  const { header } = opener;
  assert(header !== undefined, "a part comes after the header");
  const bound = boundOf(header, limitBytes, where);
  function* stored(): Generator<Uint8Array> {
    if (first.done !== true) yield first.value;
    yield* opened;
  }
  async function* parts(known: ContainerHeader): AsyncGenerator<Uint8Array, UnsealedFile> {
    let sizeBytes = 0;
    for await (const part of contentOf(known, stored(), where)) {
      sizeBytes += part.length;
      if (sizeBytes > bound) throw wrongSize(where, "more", bound);
      yield part;
    }
    if (!opener.isFinished) {
      throw new IntegrityError(`sealed file ${where} goes on after the end of its content`);
    }
    if (sizeBytes < (known.contentSizeBytes ?? 0)) throw wrongSize(where, "less", bound);
    return { header: known, sizeBytes, digest: opener.digest };
  }
  return { header, parts: parts(header) };
}

/** Runs through the content to its end. @param take - is called with each part and its offset. */
export async function readSealedContent(
  file: SealedBytes,
  limitBytes: number,
  options: UnsealFileOptions,
  take: (part: Uint8Array, offset: number) => void,
): Promise<UnsealedFile> {
  const { parts } = openSealedContent(file, limitBytes, options);
  let offset = 0;
  for (;;) {
    const next = await parts.next();
    if (next.done === true) return next.value;
    take(next.value, offset);
    offset += next.value.length;
  }
}

function* openedParts(file: SealedBytes, opener: ContainerOpener): Generator<Uint8Array> {
  const buffer = Buffer.alloc(Math.min(READ_BYTES, file.stat().sizeBytes + 1));
  for (let offset = 0; ;) {
    const count = file.read(buffer, 0, buffer.length, offset);
    if (count === 0) break;
    yield* opener.open(buffer.subarray(0, count));
    offset += count;
  }
  yield* opener.finish();
}

async function* contentOf(
  { compression }: ContainerHeader,
  parts: Iterable<Uint8Array>,
  where: string,
): AsyncGenerator<Uint8Array> {
  if (compression === "none") {
    yield* parts;
    return;
  }
  try {
    yield* decompressed(compression, parts);
  } catch (error) {
    // A FormatError that is a decoder's, too: what holds the data is a container whose tags hold.
    if (error instanceof TdeError && error.code !== "format") throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new IntegrityError(`the content of sealed file ${where} does not decompress: ${why}`, {
      cause: error,
      hint: "Whoever wrote it wrote it wrong. Restore the file from a backup.",
    });
  }
}

function boundOf({ contentSizeBytes }: ContainerHeader, limitBytes: number, where: string): number {
  if (contentSizeBytes === undefined) return limitBytes;
  if (contentSizeBytes <= limitBytes) return contentSizeBytes;
  throw new IntegrityError(
    `sealed file ${where} names a content of ${contentSizeBytes} bytes, more than the ${limitBytes} that it can have`,
  );
}

function wrongSize(where: string, which: "more" | "less", bound: number): IntegrityError {
  return new IntegrityError(
    `sealed file ${where} has ${which} content than the ${bound} bytes it names`,
  );
}
