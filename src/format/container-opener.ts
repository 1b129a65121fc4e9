/**
 * Reads a sealed container as a stream: stored bytes in, plaintext out, and not one byte of plaintext before its
 * chunk's tag holds. It opens no file and holds at most one chunk. The order of checks tells a damaged header
 * (FormatError) from a wrong key (KeyError) from altered content (IntegrityError).
 * Specified in docs/FORMAT.md, "Sealed container".
 */
import assert from "node:assert/strict";
import {
  equalInConstantTime,
  gcmDecrypt,
  type KeyObject,
  type RunningHash,
  runningSha256,
  TAG_BYTES,
} from "../crypto/primitives.ts";
import { displayPath } from "../bytes/byte-path.ts";
import { FormatError, IntegrityError, KeyError } from "../errors.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import {
  chunkNonce,
  CONTAINER_HEADER_LIMIT_BYTES,
  type ContainerHeader,
  chunkCount,
  containerHeaderLength,
  containerHeaderSizeBytes,
  containerSizeBytes,
  deriveContainerKey,
  NO_AAD,
  parseContainerHeader,
} from "./container.ts";

export interface OpeningOptions {
  readonly keys: DataKeys;
  /** The file, for messages. */
  readonly where: string;
  /** What the content must be; undefined to take any, where one file is read by request. */
  readonly context?: string | undefined;
  /** Of the cluster that the file must be from; a container that names none (0) fits every cluster. */
  readonly systemIdentifier?: bigint | undefined;
  /** The caller decompresses what comes out; else only content that is not compressed is opened. */
  readonly decompresses?: boolean | undefined;
}

export class ContainerOpener {
  readonly #options: OpeningOptions;
  readonly #hash: RunningHash = runningSha256();
  /** Header bytes first, then the chunk in hand with its tag. */
  #pending: Buffer = Buffer.alloc(0);
  #pendingBytes = 0;
  #headerBytes: Buffer = Buffer.alloc(0);
  #header: ContainerHeader | undefined;
  #key: KeyObject | undefined;
  #chunkIndex = 0;
  #contentBytes = 0;
  #storedBytes = 0;
  #digest: Buffer | undefined;

  constructor(options: OpeningOptions) {
    this.#options = options;
  }

  /** Once enough bytes have come; its commitment has been checked by then. */
  get header(): ContainerHeader | undefined {
    return this.#header;
  }

  /**
   * Takes the next stored bytes, any number; returns plaintext of the chunks that are complete and followed by
   * another.
   * @throws {FormatError} for the header. @throws {KeyError} for the key. @throws {IntegrityError} for a chunk.
   */
  open(stored: Uint8Array): Buffer[] {
    assert(this.#digest === undefined, "bytes after finish");
    const content: Buffer[] = [];
    const rest = this.#header === undefined ? this.#takeHeader(stored) : stored;
    if (rest === undefined) return content;
    this.#checkNotExtended(rest.length);
    for (let offset = 0; offset < rest.length;) {
      if (this.#pendingBytes === this.#pending.length) {
        this.#decrypt(this.#pending, false, content);
        this.#pendingBytes = 0;
      }
      if (this.#pendingBytes === 0 && rest.length - offset > this.#pending.length) {
        const end = offset + this.#pending.length;
        this.#decrypt(rest.subarray(offset, end), false, content);
        offset = end;
        continue;
      }
      const part = rest.subarray(offset, offset + this.#pending.length - this.#pendingBytes);
      this.#pending.set(part, this.#pendingBytes);
      this.#pendingBytes += part.length;
      offset += part.length;
    }
    return content;
  }

  /**
   * Says that no more bytes follow; returns the plaintext of the last chunk.
   * Only after this returned is the content known to be whole.
   */
  finish(): Buffer[] {
    assert(this.#digest === undefined, "finish called twice");
    const header = this.#header;
    // Throws: the header is not whole.
    if (header === undefined) {
      parseContainerHeader(this.#headerBytes, this.#options.where);
      assert.fail("a whole header was not taken");
    }
    this.#checkNotCut(header);
    const content: Buffer[] = [];
    this.#decrypt(this.#pending.subarray(0, this.#pendingBytes), true, content);
    this.#digest = this.#hash.digest();
    return content;
  }

  /** Whether `finish` returned: all that was opened is whole and genuine. */
  get isFinished(): boolean {
    return this.#digest !== undefined;
  }

  /** SHA-256(header through CRC || tags in order), 32 bytes; after `finish`. */
  get digest(): Buffer {
    assert(this.#digest !== undefined, "the digest is known after finish");
    return this.#digest;
  }

  /** Collects and checks the header; returns what follows it, undefined while it is not whole. */
  #takeHeader(stored: Uint8Array): Uint8Array | undefined {
    const known = this.#headerBytes.length;
    const bytes = Buffer.concat([
      this.#headerBytes,
      stored.subarray(0, CONTAINER_HEADER_LIMIT_BYTES - known),
    ]);
    const { where } = this.#options;
    const length = containerHeaderLength(bytes, where);
    if (length === undefined || bytes.length < length) {
      this.#headerBytes = bytes;
      return undefined;
    }
    const header = parseContainerHeader(bytes, where);
    this.#key = openContainerHeader(header, this.#options);
    this.#hash.update(bytes.subarray(0, length));
    this.#storedBytes = length;
    this.#header = header;
    const bufferBytes = Math.min(header.chunkSizeBytes, storedContentBytes(header) ?? Infinity);
    this.#pending = Buffer.alloc(bufferBytes + TAG_BYTES);
    return stored.subarray(length - known);
  }

  #checkNotExtended(moreBytes: number): void {
    this.#storedBytes += moreBytes;
    const wanted = wholeSizeBytes(this.#header);
    if (wanted !== undefined && this.#storedBytes > wanted) throw extended(this.#options.where);
  }

  #checkNotCut(header: ContainerHeader): void {
    const wanted = wholeSizeBytes(header);
    if (wanted === undefined || this.#storedBytes === wanted) return;
    throw new IntegrityError(
      `sealed file ${this.#options.where} is cut short: it has ${this.#storedBytes} of ${wanted} bytes`,
      { hint: "Restore the file from a backup." },
    );
  }

  #decrypt(stored: Uint8Array, last: boolean, content: Buffer[]): void {
    const { where } = this.#options;
    const index = this.#chunkIndex++;
    const key = this.#key;
    const header = this.#header;
    assert(key !== undefined && header !== undefined);
    const offset =
      containerHeaderSizeBytes(header.context.length) + index * (header.chunkSizeBytes + TAG_BYTES);
    const length = stored.length - TAG_BYTES;
    // Of an empty chunk only the first may be the last.
    if (length < 0 || (length === 0 && index > 0)) {
      throw new IntegrityError(
        `sealed file ${where} is cut short: chunk ${index} at offset ${offset} has ${stored.length} bytes`,
        { hint: "Restore the file from a backup." },
      );
    }
    const tag = stored.subarray(length);
    const plaintext = openContainerChunk(key, index, last, stored);
    if (plaintext === undefined) {
      // The same chunk with the other flag is genuine, but out of its place.
      const other = openContainerChunk(key, index, !last, stored);
      other?.fill(0);
      if (other !== undefined && !last) throw extended(where);
      const what =
        other === undefined
          ? `authentication of ${where} failed`
          : `sealed file ${where} is cut short`;
      throw new IntegrityError(`${what}: chunk ${index} at offset ${offset}, key ${header.keyId}`, {
        hint: "The file is damaged or was altered. Restore it from a backup.",
      });
    }
    this.#contentBytes += length;
    if (this.#contentBytes > (storedContentBytes(header) ?? Infinity)) {
      throw new IntegrityError(
        `sealed file ${where} has more content than the ${header.contentSizeBytes} bytes it names`,
      );
    }
    this.#hash.update(tag);
    content.push(plaintext);
  }
}

/**
 * The key of a container, once its header has been found to be committed to it, and to be of the file that is wanted.
 * @throws {FormatError} when it is compressed and the caller does not decompress; {KeyError} for another key;
 *   {IntegrityError} when it is another file's.
 */
export function openContainerHeader(header: ContainerHeader, options: OpeningOptions): KeyObject {
  const { where, keys, context: wanted, systemIdentifier: cluster } = options;
  if (header.compression !== "none" && options.decompresses !== true) {
    throw new FormatError(
      `${where} is compressed with ${header.compression}, which no file at this place is`,
    );
  }
  const derived = deriveContainerKey(dekFor(keys, header.keyringId, header.keyId, where), header);
  if (!equalInConstantTime(derived.commitment, header.commitment)) {
    throw new KeyError(
      `key ${header.keyId} of keyring ${header.keyringId} is not the key that ${where} was sealed with`,
      { hint: "Another keyring with the same id made it, or someone altered the file's header." },
    );
  }
  const { context, systemIdentifier } = header;
  if (wanted !== undefined && wanted !== context) {
    throw new IntegrityError(
      `${where} holds another file: it is "${displayPath(context)}", not "${displayPath(wanted)}"`,
      { hint: "The file was moved or swapped. Put back the right one." },
    );
  }
  if (cluster !== undefined && systemIdentifier !== 0n && systemIdentifier !== cluster) {
    throw new IntegrityError(
      `${where} is from another cluster: its system identifier is ${systemIdentifier}, not ${cluster}`,
      { hint: "Put back the file of this cluster." },
    );
  }
  return derived.key;
}

/**
 * One chunk of a container by itself.
 * @param stored - its bytes with the tag behind them.
 * @param last - whether it is the container's last.
 * @returns undefined when it does not authenticate at that place.
 */
export function openContainerChunk(
  key: KeyObject,
  index: number,
  last: boolean,
  stored: Uint8Array,
): Buffer | undefined {
  const length = stored.length - TAG_BYTES;
  if (length < 0) return undefined;
  const [body, tag] = [stored.subarray(0, length), stored.subarray(length)];
  return gcmDecrypt(key, chunkNonce(index, last), NO_AAD, body, tag);
}

/**
 * The digest that the manifest keeps, from a finished file: SHA-256(header through CRC || tags in order). Reads
 * header and tags only and needs no key, so it says nothing about the chunks themselves.
 * @param readAt - returns exactly `length` bytes from `offset`, or fewer where the file ends.
 * @param sizeBytes - of the whole file.
 * @returns 32 bytes.
 * @throws {FormatError} for the header. @throws {IntegrityError} when the size cannot be a container's.
 */
export function containerDigest(
  readAt: (offset: number, length: number) => Buffer,
  sizeBytes: number,
  where: string,
): Buffer {
  const hash = runningSha256();
  for (const part of containerTags(readAt, sizeBytes, where)) hash.update(part);
  return hash.digest();
}

/**
 * What a container's digest is made of, in parts: its header through the CRC, then each tag. With it and the content, a
 * key tells whether the content is what was sealed.
 * @throws as containerDigest.
 */
export function* containerTags(
  readAt: (offset: number, length: number) => Buffer,
  sizeBytes: number,
  where: string,
): Generator<Buffer> {
  const start = readAt(0, Math.min(sizeBytes, CONTAINER_HEADER_LIMIT_BYTES));
  const header = parseContainerHeader(start, where);
  const headerBytes = containerHeaderSizeBytes(header.context.length);
  const wanted = wholeSizeBytes(header);
  if (wanted !== undefined && sizeBytes > wanted) throw extended(where);
  const bodyBytes = sizeBytes - headerBytes;
  const storedChunk = header.chunkSizeBytes + TAG_BYTES;
  const chunks = chunkCount(bodyBytes, storedChunk);
  const lastBytes = bodyBytes - (chunks - 1) * storedChunk;
  const shortest = chunks === 1 ? TAG_BYTES : TAG_BYTES + 1;
  if ((wanted !== undefined && sizeBytes < wanted) || lastBytes < shortest) {
    throw new IntegrityError(
      `sealed file ${where} is cut short: it has ${sizeBytes} bytes${wanted === undefined ? "" : ` of ${wanted}`}`,
      { hint: "Restore the file from a backup." },
    );
  }
  yield start.subarray(0, headerBytes);
  for (let end = headerBytes + storedChunk; ; end += storedChunk) {
    const tag = readAt(Math.min(end, sizeBytes) - TAG_BYTES, TAG_BYTES);
    if (tag.length !== TAG_BYTES) throw new FormatError(`${where} changed while it was read`);
    yield tag;
    if (end >= sizeBytes) return;
  }
}

/** Bytes of all chunks without their tags; undefined where the header does not tell. */
function storedContentBytes({
  compression,
  contentSizeBytes,
}: ContainerHeader): number | undefined {
  return compression === "none" ? contentSizeBytes : undefined;
}

/** Undefined where the header does not tell. */
function wholeSizeBytes(header: ContainerHeader | undefined): number | undefined {
  const stored = header === undefined ? undefined : storedContentBytes(header);
  return header === undefined || stored === undefined
    ? undefined
    : containerSizeBytes(stored, header.context.length, header.chunkSizeBytes);
}

function extended(where: string): IntegrityError {
  return new IntegrityError(`sealed file ${where} has bytes after its end`, {
    hint: "The file was altered. Restore it from a backup.",
  });
}
