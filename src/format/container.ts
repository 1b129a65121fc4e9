/**
 * The header of a sealed container: one whole file (server log, WAL segment, configuration) as a header and a
 * run of authenticated chunks. Parser and writer of the header stand here, with the key derivation that binds
 * every byte of it; the chunks are in container-sealer.ts and container-opener.ts.
 * Specified in docs/FORMAT.md, "Sealed container".
 */
import { type KeyObject, hkdf, secretKey, TAG_BYTES } from "../crypto/primitives.ts";
import { FormatError } from "../errors.ts";
import { crc32c } from "../postgres/crc32c.ts";

/** Sealed container header, little-endian. */
export const CONTAINER_HEADER = {
  magic: 0, //           4 bytes  "TDEC"
  version: 4, //         u16  1
  suite: 6, //           u8   1 = AES-256-GCM
  compression: 7, //     u8   0 none, 1 gzip, 2 zstd, 3 lz4
  keyId: 8, //           u32
  chunkSize: 12, //      u32  a power of two, 4 kB to 1 MB
  keyringId: 16, //      8 bytes
  systemIdentifier: 24, // u64  0: unknown
  contentSize: 32, //    u64  before compression; all ones: not known when writing began
  contextLength: 40, //  u16  n
  reserved: 42, //       22 bytes, zero
  fileSalt: 64, //       16 bytes
  commitment: 80, //     32 bytes
  context: 112, //       n bytes, then u32 CRC-32C of all bytes before
} as const;

export const CONTAINER_MAGIC: Buffer = Buffer.from("TDEC", "latin1");
export const CONTAINER_VERSION = 1;
export const CONTAINER_SUITE_AES_256_GCM = 1;
/** A path of 4095 bytes with its prefix, and some room. */
export const CONTEXT_LIMIT_BYTES = 4160;
export const DEFAULT_CHUNK_SIZE_BYTES = 65536;
export const MIN_CHUNK_SIZE_BYTES = 4096;
export const MAX_CHUNK_SIZE_BYTES: number = 2 ** 20;
/** A file key takes at most this many messages. */
const CHUNK_LIMIT: number = 2 ** 31;

const FIXED_BYTES: number = CONTAINER_HEADER.context;
const CRC_BYTES = 4;
const SALT_BYTES = 16;
const COMMITMENT_BYTES = 32;
const UNKNOWN_SIZE = 0xffffffffffffffffn;
/** By their ids. */
const COMPRESSIONS = ["none", "gzip", "zstd", "lz4"] as const;

/** What was done to the content before it was encrypted. */
export type Compression = (typeof COMPRESSIONS)[number];

/** The longest header: what a reader has to hold before it has checked anything. */
export const CONTAINER_HEADER_LIMIT_BYTES: number = FIXED_BYTES + CONTEXT_LIMIT_BYTES + CRC_BYTES;

export interface ContainerHeader {
  readonly keyId: number;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly chunkSizeBytes: number;
  /** 0n: unknown. */
  readonly systemIdentifier: bigint;
  readonly compression: Compression;
  /** Before compression; undefined where it was not known when writing began. */
  readonly contentSizeBytes: number | undefined;
  /** What the content is: `datadir:` and a path, as bytes (one in each character). */
  readonly context: string;
  readonly fileSalt: Buffer;
  readonly commitment: Buffer;
}

/** Context of a file that stood at `path` in the data directory. */
export function fileContext(path: string): string {
  return `datadir:${path}`;
}

/** Context of the target of a symbolic link that stood at `path` in the data directory. */
export function linkContext(path: string): string {
  return `datadir-link:${path}`;
}

/** Context of a file of an archive of WAL: a segment, a timeline history, a backup's history. */
export function walContext(fileName: string): string {
  return `wal:${fileName}`;
}

/** Bytes of the whole header, CRC included, for a context of that many bytes. */
export function containerHeaderSizeBytes(contextLengthBytes: number): number {
  return FIXED_BYTES + contextLengthBytes + CRC_BYTES;
}

/** Bytes of a whole container of `contentSizeBytes` stored bytes of content. */
export function containerSizeBytes(
  contentSizeBytes: number,
  contextLengthBytes: number,
  chunkSizeBytes: number = DEFAULT_CHUNK_SIZE_BYTES,
): number {
  const chunks = chunkCount(contentSizeBytes, chunkSizeBytes);
  return containerHeaderSizeBytes(contextLengthBytes) + contentSizeBytes + chunks * TAG_BYTES;
}

/** Empty content is one empty chunk. */
export function chunkCount(contentSizeBytes: number, chunkSizeBytes: number): number {
  return Math.max(1, Math.ceil(contentSizeBytes / chunkSizeBytes));
}

/**
 * The header through its CRC.
 * @throws {FormatError} when a field cannot hold its value.
 */
export function serializeContainerHeader(header: ContainerHeader): Buffer {
  const context = Buffer.from(header.context, "latin1");
  checkWritable(header, context.length);
  const bytes = Buffer.alloc(containerHeaderSizeBytes(context.length));
  CONTAINER_MAGIC.copy(bytes, CONTAINER_HEADER.magic);
  bytes.writeUInt16LE(CONTAINER_VERSION, CONTAINER_HEADER.version);
  bytes.writeUInt8(CONTAINER_SUITE_AES_256_GCM, CONTAINER_HEADER.suite);
  bytes.writeUInt8(COMPRESSIONS.indexOf(header.compression), CONTAINER_HEADER.compression);
  bytes.writeUInt32LE(header.keyId, CONTAINER_HEADER.keyId);
  bytes.writeUInt32LE(header.chunkSizeBytes, CONTAINER_HEADER.chunkSize);
  bytes.write(header.keyringId, CONTAINER_HEADER.keyringId, "hex");
  bytes.writeBigUInt64LE(header.systemIdentifier, CONTAINER_HEADER.systemIdentifier);
  const size = header.contentSizeBytes;
  bytes.writeBigUInt64LE(
    size === undefined ? UNKNOWN_SIZE : BigInt(size),
    CONTAINER_HEADER.contentSize,
  );
  bytes.writeUInt16LE(context.length, CONTAINER_HEADER.contextLength);
  header.fileSalt.copy(bytes, CONTAINER_HEADER.fileSalt);
  header.commitment.copy(bytes, CONTAINER_HEADER.commitment);
  context.copy(bytes, CONTAINER_HEADER.context);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, -CRC_BYTES)), bytes.length - CRC_BYTES);
  return bytes;
}

/**
 * How many bytes the header at the start of `bytes` has; undefined when more bytes are needed to tell.
 * Magic, version and context length are checked as soon as they are there, so that a stream of something else
 * is refused at once.
 * @param where - the file, for messages.
 * @throws {FormatError} when this is no container of a known version.
 */
export function containerHeaderLength(bytes: Buffer, where: string): number | undefined {
  const start = bytes.subarray(0, CONTAINER_MAGIC.length);
  if (!start.equals(CONTAINER_MAGIC.subarray(0, start.length))) {
    throw new FormatError(`${where} is not a sealed file: it does not begin with "TDEC"`);
  }
  if (bytes.length < CONTAINER_HEADER.version + 2) return undefined;
  const version = bytes.readUInt16LE(CONTAINER_HEADER.version);
  if (version !== CONTAINER_VERSION) {
    throw new FormatError(`${where} is a sealed file of version ${version}, not 1`, {
      hint: "A newer tde wrote it, or the file is damaged. Use the newest tde.",
    });
  }
  if (bytes.length < FIXED_BYTES) return undefined;
  const contextLength = bytes.readUInt16LE(CONTAINER_HEADER.contextLength);
  if (contextLength > CONTEXT_LIMIT_BYTES) {
    throw damaged(where, `a context of ${contextLength} bytes, more than ${CONTEXT_LIMIT_BYTES}`);
  }
  return containerHeaderSizeBytes(contextLength);
}

/**
 * Reads and checks the header at the start of `bytes`; needs no key, and proves nothing about who wrote it.
 * @param bytes - at least the whole header; what follows it is not looked at.
 * @param where - the file, for messages.
 * @throws {FormatError} when the header is cut, damaged or of a kind that is not supported.
 */
export function parseContainerHeader(bytes: Buffer, where: string): ContainerHeader {
  const length = containerHeaderLength(bytes, where);
  if (length === undefined || bytes.length < length) {
    throw new FormatError(`${where} ends inside the header of a sealed file`, {
      hint: "The file is cut short. Restore it from a backup.",
    });
  }
  // Before the fields: damage is called damage, not an unknown suite or compression.
  const crcOffset = length - CRC_BYTES;
  if (crc32c(bytes.subarray(0, crcOffset)) !== bytes.readUInt32LE(crcOffset)) {
    throw damaged(where, "a checksum that does not hold");
  }
  const suite = bytes.readUInt8(CONTAINER_HEADER.suite);
  if (suite !== CONTAINER_SUITE_AES_256_GCM) {
    throw new FormatError(`${where} is sealed with cipher suite ${suite}, which is not supported`);
  }
  const compression = compressionOf(bytes.readUInt8(CONTAINER_HEADER.compression), where);
  const chunkSizeBytes = bytes.readUInt32LE(CONTAINER_HEADER.chunkSize);
  if (!isChunkSize(chunkSizeBytes)) throw damaged(where, `chunks of ${chunkSizeBytes} bytes`);
  const keyId = bytes.readUInt32LE(CONTAINER_HEADER.keyId);
  if (keyId === 0) throw damaged(where, "key id 0");
  const reserved = bytes.subarray(CONTAINER_HEADER.reserved, CONTAINER_HEADER.fileSalt);
  if (reserved.some((byte) => byte !== 0)) {
    throw damaged(where, "reserved bytes that are not zero");
  }
  const contentSize = bytes.readBigUInt64LE(CONTAINER_HEADER.contentSize);
  const contentSizeBytes = contentSize === UNKNOWN_SIZE ? undefined : Number(contentSize);
  if (contentSizeBytes !== undefined && !isContentSize(contentSizeBytes, chunkSizeBytes)) {
    throw damaged(where, `a content of ${contentSize} bytes, more than a sealed file can have`);
  }
  return {
    keyId,
    keyringId: bytes.toString("hex", CONTAINER_HEADER.keyringId, CONTAINER_HEADER.systemIdentifier),
    chunkSizeBytes,
    systemIdentifier: bytes.readBigUInt64LE(CONTAINER_HEADER.systemIdentifier),
    compression,
    contentSizeBytes,
    context: bytes.toString("latin1", CONTAINER_HEADER.context, crcOffset),
    fileSalt: copyOf(bytes, CONTAINER_HEADER.fileSalt, SALT_BYTES),
    commitment: copyOf(bytes, CONTAINER_HEADER.commitment, COMMITMENT_BYTES),
  };
}

export interface ContainerKey {
  readonly key: KeyObject;
  /** 32 bytes. */
  readonly commitment: Buffer;
}

/** sealed key || commitment = HKDF(DEK, file salt, "tde/v1/sealed" || header[0..64) || context, 64) */
export function deriveContainerKey(dek: KeyObject, header: ContainerHeader): ContainerKey {
  const serialized = serializeContainerHeader(header);
  const info = Buffer.concat([
    Buffer.from("tde/v1/sealed", "latin1"),
    serialized.subarray(0, CONTAINER_HEADER.fileSalt),
    Buffer.from(header.context, "latin1"),
  ]);
  const output = hkdf(dek, header.fileSalt, info, 64);
  const key = secretKey(output.subarray(0, 32));
  const commitment = Buffer.from(output.subarray(32));
  output.fill(0);
  return { key, commitment };
}

/**
 * Nonce of chunk i: i as 11 bytes, high byte first, then 1 for the last chunk, else 0.
 * @throws {FormatError} for a chunk that no container has: there is no nonce for it.
 */
export function chunkNonce(index: number, last: boolean): Buffer {
  if (index >= CHUNK_LIMIT) {
    throw new FormatError("content is too large for a sealed file: more than 2^31 chunks", {
      hint: "Split it into smaller parts.",
    });
  }
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(index, 5, 6);
  nonce.writeUInt8(last ? 1 : 0, 11);
  return nonce;
}

export const NO_AAD: Buffer = Buffer.alloc(0);

function compressionOf(id: number, where: string): Compression {
  const compression = COMPRESSIONS[id];
  if (compression !== undefined) return compression;
  throw new FormatError(`${where} is compressed in an unknown way (${id})`, {
    hint: "Use the newest tde.",
  });
}

function checkWritable(header: ContainerHeader, contextLength: number): void {
  const { contentSizeBytes, chunkSizeBytes } = header;
  if (!isChunkSize(chunkSizeBytes)) throw new FormatError(`no chunk size: ${chunkSizeBytes}`);
  if (contextLength > CONTEXT_LIMIT_BYTES) {
    throw new FormatError(
      `a sealed file's context of ${contextLength} bytes is longer than ${CONTEXT_LIMIT_BYTES}`,
    );
  }
  if (contentSizeBytes !== undefined && !isContentSize(contentSizeBytes, chunkSizeBytes)) {
    throw new FormatError(`a file of ${contentSizeBytes} bytes is too large for a sealed file`);
  }
}

function isChunkSize(size: number): boolean {
  return (
    size >= MIN_CHUNK_SIZE_BYTES &&
    size <= MAX_CHUNK_SIZE_BYTES &&
    Number.isInteger(Math.log2(size))
  );
}

function isContentSize(size: number, chunkSizeBytes: number): boolean {
  return Number.isSafeInteger(size) && size >= 0 && size / chunkSizeBytes <= CHUNK_LIMIT;
}

function copyOf(bytes: Buffer, offset: number, length: number): Buffer {
  return Buffer.from(bytes.subarray(offset, offset + length));
}

function damaged(where: string, what: string): FormatError {
  return new FormatError(`the header of sealed file ${where} is damaged: ${what}`, {
    hint: "Restore the file from a backup.",
  });
}
