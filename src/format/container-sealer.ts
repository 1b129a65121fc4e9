/**
 * Writes a sealed container as a stream: plaintext in, header and stored chunks out. It opens no file and holds
 * at most one chunk. Which chunk is the last is known only at the end, so a full chunk is held back until more
 * content arrives or `finish` is called. Specified in docs/FORMAT.md, "Sealed container".
 */
import assert from "node:assert/strict";
import {
  gcmEncrypt,
  type KeyObject,
  randomBytes,
  type RunningHash,
  runningSha256,
} from "../crypto/primitives.ts";
import {
  chunkNonce,
  type Compression,
  type ContainerHeader,
  DEFAULT_CHUNK_SIZE_BYTES,
  deriveContainerKey,
  NO_AAD,
  serializeContainerHeader,
} from "./container.ts";

export interface SealingOptions {
  readonly keyId: number;
  /** 16 hex digits. */
  readonly keyringId: string;
  /** 0n where it is not known. */
  readonly systemIdentifier: bigint;
  /** `fileContext` or `linkContext` of the original's path. */
  readonly context: string;
  /** Before compression; undefined where the content comes from a pipe. */
  readonly contentSizeBytes: number | undefined;
  /** What was done to the bytes that `seal` takes: compressing is the caller's work. */
  readonly compression?: Compression | undefined;
  readonly chunkSizeBytes?: number | undefined;
  /** Never one that came before: a salt that comes twice gives two files one key and the same nonces. */
  readonly fileSalt?: Buffer | undefined;
}

export class ContainerSealer {
  /** The first bytes of the container. */
  readonly header: Buffer;
  /** That `seal` has to take; undefined where it is not known. */
  readonly #takenSizeBytes: number | undefined;
  readonly #key: KeyObject;
  readonly #pending: Buffer;
  readonly #hash: RunningHash = runningSha256();
  #pendingBytes = 0;
  #chunkIndex = 0;
  #takenBytes = 0;
  #digest: Buffer | undefined;

  /** @throws {FormatError} when the content or context is larger than a container can hold. */
  constructor(dek: KeyObject, options: SealingOptions) {
    const fields: ContainerHeader = {
      keyId: options.keyId,
      keyringId: options.keyringId,
      systemIdentifier: options.systemIdentifier,
      context: options.context,
      compression: options.compression ?? "none",
      contentSizeBytes: options.contentSizeBytes,
      chunkSizeBytes: options.chunkSizeBytes ?? DEFAULT_CHUNK_SIZE_BYTES,
      fileSalt: options.fileSalt ?? randomBytes(16),
      commitment: Buffer.alloc(32),
    };
    const { key, commitment } = deriveContainerKey(dek, fields);
    this.header = serializeContainerHeader({ ...fields, commitment });
    this.#key = key;
    this.#takenSizeBytes = fields.compression === "none" ? options.contentSizeBytes : undefined;
    // A short file needs no buffer of a whole chunk: a cluster may have a million of them.
    const bufferBytes = Math.min(fields.chunkSizeBytes, this.#takenSizeBytes ?? Infinity);
    this.#pending = Buffer.alloc(bufferBytes);
    this.#hash.update(this.header);
  }

  /**
   * Takes the next content, of any length; returns the chunks that are complete, in order.
   * @throws {FormatError} when there is more than a container can hold.
   */
  seal(content: Uint8Array): Buffer[] {
    assert(this.#digest === undefined, "content after finish");
    this.#takenBytes += content.length;
    assert(this.#takenBytes <= (this.#takenSizeBytes ?? Infinity), "more content than announced");
    const stored: Buffer[] = [];
    let offset = 0;
    while (offset < content.length) {
      if (this.#pendingBytes === this.#pending.length) {
        this.#encrypt(this.#pending, false, stored);
        this.#pendingBytes = 0;
      }
      if (this.#pendingBytes === 0 && content.length - offset > this.#pending.length) {
        const end = offset + this.#pending.length;
        this.#encrypt(content.subarray(offset, end), false, stored);
        offset = end;
        continue;
      }
      const part = content.subarray(offset, offset + this.#pending.length - this.#pendingBytes);
      this.#pending.set(part, this.#pendingBytes);
      this.#pendingBytes += part.length;
      offset += part.length;
    }
    return stored;
  }

  /** The last chunk; nothing follows it. */
  finish(): Buffer[] {
    assert(this.#digest === undefined, "finish called twice");
    assert(this.#takenBytes === (this.#takenSizeBytes ?? this.#takenBytes), "content is missing");
    const stored: Buffer[] = [];
    this.#encrypt(this.#pending.subarray(0, this.#pendingBytes), true, stored);
    this.#pending.fill(0);
    this.#digest = this.#hash.digest();
    return stored;
  }

  /** SHA-256(header through CRC || tags in order), 32 bytes; after `finish`. */
  get digest(): Buffer {
    assert(this.#digest !== undefined, "the digest is known after finish");
    return this.#digest;
  }

  #encrypt(content: Uint8Array, last: boolean, stored: Buffer[]): void {
    const nonce = chunkNonce(this.#chunkIndex++, last);
    const { ciphertext, tag } = gcmEncrypt(this.#key, nonce, NO_AAD, content);
    this.#hash.update(tag);
    stored.push(ciphertext, tag);
  }
}
