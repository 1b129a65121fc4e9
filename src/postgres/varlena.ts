/**
 * Values of variable length: a header that tells size and form, then the content, compressed or not, or a pointer to
 * chunks in the TOAST table. Source: varatt.h (postgres.h before 16), access/toast_internals.h, on little-endian
 * machines: the low bits of the first byte tell the form.
 */
import { decodeLz4Block } from "../compression/lz4-block.ts";
import { FormatError } from "../errors.ts";
import { decodePglz } from "./pglz.ts";

/** The first byte of a pointer (VARATT_IS_1B_E). */
const EXTERNAL = 0x01;
/** VARTAG_ONDISK: the only kind of pointer that reaches a disk. */
const ON_DISK = 18;
/** A tag byte follows the first byte, then varatt_external. */
const POINTER_BYTES = 2 + 16;
const LONG_HEADER_BYTES = 4;
/** va_tcinfo: size of the content in 30 bits, method in two. */
const COMPRESSION_HEADER_BYTES = 4;
const SIZE_MASK = 0x3fffffff;
const METHOD_SHIFT = 30;

export type CompressionMethod = "pglz" | "lz4";

/** varatt_external: where the TOAST table keeps a value. */
export interface ToastPointer {
  readonly form: "external";
  /** Of the plain content. */
  readonly rawSizeBytes: number;
  /** Of what the chunks hold together. */
  readonly storedSizeBytes: number;
  /** Undefined where the chunks hold the plain content; else their first four bytes are a compression header. */
  readonly method: CompressionMethod | undefined;
  /** chunk_id. */
  readonly valueId: number;
  readonly toastOid: number;
}

export type Varlena =
  | { readonly form: "plain"; readonly content: Buffer }
  | {
      readonly form: "compressed";
      readonly method: CompressionMethod;
      readonly rawSizeBytes: number;
      readonly compressed: Buffer;
    }
  | ToastPointer;

/**
 * How many bytes the value at `start` takes, header included.
 * @throws {FormatError} when it begins with no header. Whether that many bytes are there is for the caller to see.
 */
export function varlenaSizeBytes(bytes: Buffer, start: number, where: string): number {
  const first = bytes[start];
  if (first === EXTERNAL) {
    if (bytes[start + 1] !== ON_DISK) throw damaged(where, "points to no TOAST table");
    return POINTER_BYTES;
  }
  if (first !== undefined && (first & 1) === 1) return first >> 1;
  if (first === undefined || start + LONG_HEADER_BYTES > bytes.length) {
    throw damaged(where, "ends within a value's header");
  }
  const size = bytes.readUInt32LE(start) >>> 2;
  if (size < LONG_HEADER_BYTES) throw damaged(where, "has a value shorter than its header");
  return size;
}

/**
 * @param value - one whole value, header included; the result's bytes are views of it.
 * @throws {FormatError} when it is damaged.
 */
export function parseVarlena(value: Buffer, where: string): Varlena {
  if (varlenaSizeBytes(value, 0, where) !== value.length) {
    throw damaged(where, "has a value of another size than its header says");
  }
  const first = value[0] ?? 0;
  if (first === EXTERNAL) return parsePointer(value, where);
  if ((first & 1) === 1) return { form: "plain", content: value.subarray(1) };
  const body = value.subarray(LONG_HEADER_BYTES);
  if ((first & 2) === 0) return { form: "plain", content: body };
  return { form: "compressed", ...parseCompressed(body, where) };
}

/**
 * The plain content of a value that stands in the row itself.
 * @throws {FormatError} when it is damaged, or kept in the TOAST table.
 */
export function varlenaContent(value: Buffer, where: string): Buffer {
  const varlena = parseVarlena(value, where);
  switch (varlena.form) {
    case "plain":
      return varlena.content;
    case "compressed":
      return decompress(varlena, where);
    case "external":
      throw damaged(where, "keeps a value in the TOAST table that belongs into the row");
  }
}

/**
 * The plain content of a value that the TOAST table keeps.
 * @param chunks - chunk_data of its rows, by chunk_seq.
 * @throws {FormatError} when they are not what the pointer says.
 */
export function toastContent(
  pointer: ToastPointer,
  chunks: readonly Buffer[],
  where: string,
): Buffer {
  const stored = Buffer.concat(chunks);
  if (stored.length !== pointer.storedSizeBytes) {
    throw damaged(
      where,
      `has ${stored.length} of ${pointer.storedSizeBytes} bytes of value ${pointer.valueId} in the TOAST table`,
    );
  }
  if (pointer.method === undefined) return stored;
  const compressed = parseCompressed(stored, where);
  if (compressed.method !== pointer.method || compressed.rawSizeBytes !== pointer.rawSizeBytes) {
    throw damaged(where, `has another value ${pointer.valueId} in the TOAST table than it says`);
  }
  return decompress(compressed, where);
}

function parsePointer(value: Buffer, where: string): ToastPointer {
  // va_rawsize counts the header that the value had; va_extinfo is size and, from 14 on, method.
  const rawSizeBytes = value.readInt32LE(2) - LONG_HEADER_BYTES;
  const info = value.readUInt32LE(6);
  const storedSizeBytes = info & SIZE_MASK;
  if (rawSizeBytes < 0 || storedSizeBytes > rawSizeBytes) {
    throw damaged(where, "has an impossible pointer to the TOAST table");
  }
  return {
    form: "external",
    rawSizeBytes,
    storedSizeBytes,
    method: storedSizeBytes < rawSizeBytes ? methodOf(info >>> METHOD_SHIFT, where) : undefined,
    valueId: value.readUInt32LE(10),
    toastOid: value.readUInt32LE(14),
  };
}

type Compressed = Omit<Extract<Varlena, { readonly form: "compressed" }>, "form">;

function parseCompressed(body: Buffer, where: string): Compressed {
  if (body.length < COMPRESSION_HEADER_BYTES) {
    throw damaged(where, "ends within a compression header");
  }
  const info = body.readUInt32LE(0);
  return {
    method: methodOf(info >>> METHOD_SHIFT, where),
    rawSizeBytes: info & SIZE_MASK,
    compressed: body.subarray(COMPRESSION_HEADER_BYTES),
  };
}

/** ToastCompressionId. */
function methodOf(id: number, where: string): CompressionMethod {
  if (id === 0) return "pglz";
  if (id === 1) return "lz4";
  throw damaged(where, `is compressed by the unknown method ${id}`);
}

/** Nothing compresses better: a match of pglz makes 273 bytes of 3, a byte of a long LZ4 match 255. */
const MOST_EXPANSION = 300;

function decompress({ method, rawSizeBytes, compressed }: Compressed, where: string): Buffer {
  if (rawSizeBytes > (compressed.length + 1) * MOST_EXPANSION) {
    throw damaged(where, "has a compressed value with an impossible size");
  }
  try {
    return method === "pglz"
      ? decodePglz(compressed, rawSizeBytes)
      : decodeLz4Block(compressed, rawSizeBytes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw damaged(where, `has a compressed value that cannot be read (${error.message})`);
  }
}

function damaged(where: string, why: string): FormatError {
  return new FormatError(`damaged row: ${where} ${why}`);
}
