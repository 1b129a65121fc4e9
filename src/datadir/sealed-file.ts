/**
 * Seals whole files into containers and opens them again, over the FileSystem interface: 1 MiB of input at a
 * time, whatever the size of the file. Plaintext reaches the target only after its chunk's tag holds; the
 * caller gives the target its final name only after the call returned, syncs it and sets its attributes.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { equalInConstantTime } from "../crypto/primitives.ts";
import { FormatError, IntegrityError, StorageError } from "../errors.ts";
import {
  containerDigest,
  ContainerOpener,
  type OpeningOptions,
} from "../format/container-opener.ts";
import {
  type Compression,
  CONTAINER_HEADER_LIMIT_BYTES,
  type ContainerHeader,
  deriveContainerKey,
  parseContainerHeader,
} from "../format/container.ts";
import { ContainerSealer } from "../format/container-sealer.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { readExactly, readUpTo, withFile, writeAll } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";

/** Sixteen chunks of the default size. */
const READ_BYTES = 2 ** 20;

export interface SealFileOptions {
  readonly keys: DataKeys;
  readonly systemIdentifier: bigint;
  /** `fileContext` or `linkContext` of the original's path in the data directory. */
  readonly context: string;
  readonly chunkSizeBytes?: number | undefined;
  /** 16 bytes; a new random one where it is left out. */
  readonly fileSalt?: Buffer | undefined;
}

export interface SealedFile {
  readonly keyId: number;
  /** Bytes of the container. */
  readonly sizeBytes: number;
  /** What the manifest keeps, 32 bytes. */
  readonly digest: Buffer;
}

export interface UnsealedFile {
  readonly header: ContainerHeader;
  /** Bytes of content. */
  readonly sizeBytes: number;
  /** Of the container, 32 bytes. */
  readonly digest: Buffer;
}

export type UnsealFileOptions = Omit<OpeningOptions, "where">;

/**
 * Seals the file `from` under the current key into `to`, from offset 0 on.
 * @param to - empty and open for writing; stays open, not synced.
 * @throws {StorageError} also when the file changes its size meanwhile.
 */
export function sealFile(
  fs: FileSystem,
  from: BytePath,
  to: OpenFile,
  options: SealFileOptions,
): SealedFile {
  const source = fs.open(from);
  try {
    const { sizeBytes } = source.stat();
    const sealed = sealParts(fileParts(source, sizeBytes), sizeBytes, to, options);
    if (readUpTo(source, Buffer.alloc(1), 0, 1, sizeBytes) > 0) {
      throw new StorageError(`file "${displayPath(from)}" grew while it was read`, {
        hint: "Something else is changing the file. Stop it and run the command again.",
      });
    }
    return sealed;
  } finally {
    source.close();
  }
}

/**
 * Seals the content of the container `from` anew, under the current key, into `to`. The content is whole and genuine
 * when this returns; after an error the caller removes the target.
 * @param to - empty and open for writing; stays open, not synced.
 * @throws {FormatError} {KeyError} {IntegrityError} as unsealFile; {StorageError}.
 */
export function resealFile(
  fs: FileSystem,
  from: BytePath,
  to: OpenFile,
  options: SealFileOptions & { readonly decompresses?: boolean | undefined },
): SealedFile {
  const header = containerHeaderOf(fs, from);
  if (header === undefined) throw new FormatError(`"${displayPath(from)}" is no sealed file`);
  const { contentSizeBytes, chunkSizeBytes, compression } = header;
  const parts = unsealedParts(fs, from, options);
  return sealParts(parts, contentSizeBytes, to, { ...options, chunkSizeBytes, compression });
}

/** As sealFile, for content in memory, such as the target of a symbolic link. */
export function sealBytes(content: Uint8Array, to: OpenFile, options: SealFileOptions): SealedFile {
  return sealParts([content], content.length, to, options);
}

/**
 * Opens the container `from` and writes its content to `to`, from offset 0 on. Content is whole and genuine when
 * this returns; after an error the caller removes the target.
 * @param to - empty and open for writing; stays open, not synced.
 * @throws {FormatError} @throws {KeyError} @throws {IntegrityError} as ContainerOpener.
 */
export function unsealFile(
  fs: FileSystem,
  from: BytePath,
  to: OpenFile,
  options: UnsealFileOptions,
): UnsealedFile {
  return unsealParts(fs, from, options, (part, position) =>
    writeAll(to, part, 0, part.length, position),
  );
}

/**
 * The content of a container, in parts, each after its tag held. Only when the last has come is it known to be
 * whole.
 * @throws as unsealFile.
 */
export function* unsealedParts(
  fs: FileSystem,
  from: BytePath,
  options: UnsealFileOptions,
): Generator<Buffer, UnsealedFile> {
  const source = fs.open(from);
  try {
    const opener = new ContainerOpener({ ...options, where: `"${displayPath(from)}"` });
    let sizeBytes = 0;
    const buffer = Buffer.alloc(Math.min(READ_BYTES, source.stat().sizeBytes + 1));
    for (let offset = 0; ;) {
      const count = source.read(buffer, 0, buffer.length, offset);
      if (count === 0) break;
      // No yield*: an array's iterator would not let the user of the parts throw into here.
      for (const part of opener.open(buffer.subarray(0, count))) {
        sizeBytes += part.length;
        yield part;
      }
      offset += count;
    }
    for (const part of opener.finish()) {
      sizeBytes += part.length;
      yield part;
    }
    const { header, digest } = opener;
    assert(header !== undefined, "a finished container has a header");
    return { header, sizeBytes, digest };
  } finally {
    source.close();
  }
}

/** Checks every tag and writes nothing. */
export function verifySealedFile(
  fs: FileSystem,
  from: BytePath,
  options: UnsealFileOptions,
): UnsealedFile {
  return unsealParts(fs, from, options, () => {});
}

/**
 * Checks every tag, and holds the content against a plain file.
 * @throws as unsealFile; {StorageError} when the plain file cannot be read.
 */
export function compareSealedFile(
  fs: FileSystem,
  from: BytePath,
  plain: BytePath,
  options: UnsealFileOptions,
): UnsealedFile & { readonly same: boolean } {
  return withFile(fs, plain, (other) => {
    let same = true;
    let buffer = Buffer.alloc(0);
    const unsealed = unsealParts(fs, from, options, (part, position) => {
      if (buffer.length < part.length) buffer = Buffer.alloc(part.length);
      const count = readUpTo(other, buffer, 0, part.length, position);
      same &&= count === part.length && part.equals(buffer.subarray(0, count));
    });
    return { ...unsealed, same: same && other.stat().sizeBytes === unsealed.sizeBytes };
  });
}

/**
 * Checks every tag of a container, and holds its content against that of another one, which is opened with the same keys.
 * @returns whether both hold the same.
 * @throws as unsealFile, for either.
 */
export function compareSealedFiles(
  fs: FileSystem,
  path: BytePath,
  other: BytePath,
  options: UnsealFileOptions,
): boolean {
  const others = partsAlone(fs, other, options);
  let left: Buffer = Buffer.alloc(0);
  let same = true;
  const take = (part: Buffer): void => {
    for (let at = 0; same && at < part.length;) {
      if (left.length === 0) {
        const next = others.next();
        if (next.done === true) same = false;
        else left = next.value;
        continue;
      }
      const length = Math.min(left.length, part.length - at);
      same = part.compare(left, 0, length, at, at + length) === 0;
      left = left.subarray(length);
      at += length;
    }
  };
  try {
    unsealParts(fs, path, options, take);
    if (!same) return false;
    while (left.length === 0) {
      const next = others.next();
      if (next.done === true) return true;
      left = next.value;
    }
    return false;
  } finally {
    // Lets the generator close its file.
    others.return();
  }
}

function* partsAlone(
  fs: FileSystem,
  path: BytePath,
  options: UnsealFileOptions,
): Generator<Buffer, void> {
  yield* unsealedParts(fs, path, options);
}

/**
 * The content of a small container.
 * @throws {FormatError} when it has more than `limitBytes`.
 */
export function readSealedFile(
  fs: FileSystem,
  from: BytePath,
  limitBytes: number,
  options: UnsealFileOptions,
): Buffer {
  return readSealedFileWithHeader(fs, from, limitBytes, options).content;
}

/** As readSealedFile, for a container whose header says something, too. */
export function readSealedFileWithHeader(
  fs: FileSystem,
  from: BytePath,
  limitBytes: number,
  options: UnsealFileOptions,
): { readonly content: Buffer; readonly header: ContainerHeader } {
  const parts: Buffer[] = [];
  const { header } = unsealParts(fs, from, options, (part, position) => {
    if (position + part.length > limitBytes) {
      throw new FormatError(
        `sealed file "${displayPath(from)}" has more content than the ${limitBytes} bytes that such a file can have`,
      );
    }
    parts.push(part);
  });
  return { content: Buffer.concat(parts), header };
}

/**
 * What a container says of itself, and the digest that the manifest keeps of it, without a key: reads its header
 * and tags only.
 * @param context - what the content must be.
 * @throws {FormatError} when it is no whole container. @throws {IntegrityError} when it is another file's.
 */
export function inspectSealedFile(
  fs: FileSystem,
  path: BytePath,
  context: string,
): { header: ContainerHeader; digest: Buffer } {
  return withFile(fs, path, (file) => {
    const where = `"${displayPath(path)}"`;
    const readAt = (offset: number, length: number): Buffer => {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readUpTo(file, buffer, 0, length, offset));
    };
    const header = parseContainerHeader(readAt(0, CONTAINER_HEADER_LIMIT_BYTES), where);
    if (header.context !== context) {
      throw new IntegrityError(
        `${where} is ${displayPath(header.context)}, not ${displayPath(context)}`,
      );
    }
    return { header, digest: containerDigest(readAt, file.stat().sizeBytes, where) };
  });
}

/** The header of a container, or undefined where the file is something else. */
export function containerHeaderOf(fs: FileSystem, path: BytePath): ContainerHeader | undefined {
  return withFile(fs, path, (file) => {
    const bytes = Buffer.alloc(CONTAINER_HEADER_LIMIT_BYTES);
    const count = readUpTo(file, bytes, 0, bytes.length, 0);
    try {
      return parseContainerHeader(bytes.subarray(0, count), displayPath(path));
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  });
}

/**
 * Whether a container is sealed under another key than the keyring's of the same id: the commitment in its header
 * tells, whatever else was altered around it. False also where it cannot be told.
 */
export function isUnderOtherKey(fs: FileSystem, path: BytePath, keys: DataKeys): boolean {
  if (fs.stat(path)?.kind !== "file") return false;
  const header = containerHeaderOf(fs, path);
  const dek = header === undefined ? undefined : keys.keys.get(header.keyId)?.dek;
  if (header?.keyringId !== keys.keyringId || dek === undefined) return false;
  return !equalInConstantTime(deriveContainerKey(dek, header).commitment, header.commitment);
}

export interface SealedFileWriterOptions extends SealFileOptions {
  /** Before compression; undefined where it is not known. */
  readonly contentSizeBytes: number | undefined;
  /** What was done to the parts that the writer takes. */
  readonly compression?: Compression | undefined;
}

/** Writes content that comes in parts as a container under the current key, from offset 0 on. */
export class SealedFileWriter {
  readonly #to: OpenFile;
  readonly #sealer: ContainerSealer;
  readonly #keyId: number;
  /** What is written at once; the next time, too. */
  #joined: Buffer = Buffer.alloc(0);
  #position = 0;

  /** @param to - empty and open for writing; stays open, not synced. */
  constructor(to: OpenFile, options: SealedFileWriterOptions) {
    const { keys, ...about } = options;
    const { currentKeyId: keyId, keyringId } = keys;
    const dek = dekFor(keys, keyringId, keyId, displayPath(to.path));
    this.#to = to;
    this.#keyId = keyId;
    this.#sealer = new ContainerSealer(dek, { keyId, keyringId, ...about });
    this.#write([this.#sealer.header]);
  }

  take(part: Uint8Array): void {
    this.#write(this.#sealer.seal(part));
  }

  finish(): SealedFile {
    this.#write(this.#sealer.finish());
    return { keyId: this.#keyId, sizeBytes: this.#position, digest: this.#sealer.digest };
  }

  #write(chunks: Buffer[]): void {
    let length = 0;
    for (const chunk of chunks) length += chunk.length;
    if (length === 0) return;
    if (this.#joined.length < length) this.#joined = Buffer.allocUnsafe(length);
    let at = 0;
    for (const chunk of chunks) at += chunk.copy(this.#joined, at);
    writeAll(this.#to, this.#joined, 0, length, this.#position);
    this.#position += length;
  }
}

function sealParts(
  parts: Iterable<Uint8Array>,
  contentSizeBytes: number | undefined,
  to: OpenFile,
  options: SealFileOptions & { readonly compression?: Compression | undefined },
): SealedFile {
  const writer = new SealedFileWriter(to, { ...options, contentSizeBytes });
  for (const part of parts) writer.take(part);
  return writer.finish();
}

function unsealParts(
  fs: FileSystem,
  from: BytePath,
  options: UnsealFileOptions,
  take: (part: Buffer, position: number) => void,
): UnsealedFile {
  const parts = unsealedParts(fs, from, options);
  let position = 0;
  for (;;) {
    const next = parts.next();
    if (next.done === true) return next.value;
    try {
      take(next.value, position);
    } catch (error) {
      // Lets the generator close its file; it throws the error on.
      parts.throw(error);
    }
    position += next.value.length;
  }
}

function* fileParts(source: OpenFile, sizeBytes: number): Generator<Uint8Array> {
  const buffer = Buffer.alloc(Math.min(READ_BYTES, sizeBytes));
  for (let offset = 0; offset < sizeBytes; offset += buffer.length) {
    const length = Math.min(buffer.length, sizeBytes - offset);
    readExactly(source, buffer, 0, length, offset);
    yield buffer.subarray(0, length);
  }
}
