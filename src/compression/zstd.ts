/**
 * zstd: by Node's zlib where it can (from 22.15 on), else decoded by fzstd, which is loaded only then.
 */
import { pipeline, Readable, type Transform } from "node:stream";
import zlib from "node:zlib";
import { FormatError, TdeError, UsageError } from "../errors.ts";

/** Decodes zstd frames; gives exactly what they hold. @throws {FormatError} when they are damaged or hold more than the limit. */
export type DecodeZstd = (packed: Buffer, limitBytes: number) => Buffer;

/** What zlib has on newer Nodes than the one whose types are compiled against. */
interface ZlibWithZstd {
  readonly zstdDecompressSync: (bytes: Uint8Array, options: { maxOutputLength: number }) => Buffer;
  createZstdDecompress(): Transform;
  createZstdCompress(options: { chunkSize: number }): Transform;
}

/** A decoder of whole frames. @throws {FormatError} when they are damaged or hold more than the limit. */
export async function loadZstd(): Promise<DecodeZstd> {
  const native = nativeZstd();
  if (native !== undefined) {
    return (packed, limitBytes) => {
      try {
        return native.zstdDecompressSync(packed, { maxOutputLength: limitBytes });
      } catch (error) {
        throw damaged(error);
      }
    };
  }
  const { Decompress } = await import("fzstd");
  return (packed, limitBytes) => {
    const parts: Uint8Array[] = [];
    let length = 0;
    const stream = new Decompress((part) => {
      length += part.length;
      if (length > limitBytes) throw new Error("it holds more than it may");
      parts.push(part.slice());
    });
    try {
      stream.push(packed, true);
    } catch (error) {
      throw damaged(error);
    }
    return Buffer.concat(parts);
  };
}

/** A stream's content, part by part. @throws {FormatError} when it is damaged. */
export async function* decodeZstdStream(
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const native = nativeZstd();
  if (native !== undefined) {
    try {
      yield* pipeline(Readable.from(parts), native.createZstdDecompress(), () => undefined);
    } catch (error) {
      throw damaged(error);
    }
    return;
  }
  const { Decompress } = await import("fzstd");
  let ready: Uint8Array[] = [];
  const stream = new Decompress((part) => ready.push(part.slice()));
  try {
    for await (const part of parts) {
      stream.push(part);
      yield* ready;
      ready = [];
    }
    stream.push(new Uint8Array(0), true);
  } catch (error) {
    throw damaged(error);
  }
  yield* ready;
}

/** Whether this Node compresses with zstd; every one decodes it. */
export function compressesZstd(): boolean {
  return nativeZstd() !== undefined;
}

/** @param chunkSizeBytes - what comes out at once. @throws {UsageError} where this Node cannot. */
export function zstdCompressor(chunkSizeBytes: number): Transform {
  const native = nativeZstd();
  if (native !== undefined) return native.createZstdCompress({ chunkSize: chunkSizeBytes });
  throw new UsageError(`Node.js ${process.version} does not compress with zstd`, {
    hint: "Use Node.js 22.15 or newer, or --compress gzip.",
  });
}

function nativeZstd(): ZlibWithZstd | undefined {
  return "createZstdDecompress" in zlib ? (zlib as unknown as ZlibWithZstd) : undefined;
}

/** What went wrong where the data comes from is not the decoder's to name. */
function damaged(error: unknown): TdeError {
  if (error instanceof TdeError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new FormatError(`damaged zstd data: ${why}`, { cause: error });
}
