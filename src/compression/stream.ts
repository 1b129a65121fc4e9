/**
 * Compressing and decompressing as a stream: gzip and zstd by Node's zlib (zstd decoded by a package where that is too
 * old), LZ4 frames by tde. Nothing is held but what a coder needs, so memory does not grow with what comes out.
 */
import { pipeline, Readable, type Transform } from "node:stream";
import zlib from "node:zlib";
import { ByteStream } from "../bytes/byte-stream.ts";
import { decodeLz4Frames } from "./lz4-frame.ts";
import { encodeLz4Frame } from "./lz4-encode.ts";
import { compressesZstd, decodeZstdStream, zstdCompressor } from "./zstd.ts";

export const COMPRESSION_METHODS = ["gzip", "zstd", "lz4"] as const;
export type CompressionMethod = (typeof COMPRESSION_METHODS)[number];

export type Parts = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** What comes out of a coder of zlib at once: its own 16 kB would be a thousand steps for a WAL segment. */
const CHUNK_BYTES = 2 ** 18;
/** As `gzip -1`: WAL shrinks nearly as much as with more, in a third of the time. */
const GZIP_LEVEL = 1;

/** zstd where this Node has it: smaller than gzip, in half of its time. */
export function bestMethod(): CompressionMethod {
  return compressesZstd() ? "zstd" : "gzip";
}

/** One gzip member or one frame that holds all of the parts. @throws {UsageError} where this Node cannot. */
export async function* compressed(
  method: CompressionMethod,
  parts: Parts,
): AsyncGenerator<Uint8Array> {
  if (method === "lz4") yield* encodeLz4Frame(parts);
  else {
    const coder =
      method === "zstd"
        ? zstdCompressor(CHUNK_BYTES)
        : zlib.createGzip({ level: GZIP_LEVEL, chunkSize: CHUNK_BYTES });
    yield* through(parts, coder);
  }
}

/** @throws an error of the decoder, whose message says what is wrong with the data. */
export async function* decompressed(
  method: CompressionMethod,
  parts: Parts,
): AsyncGenerator<Uint8Array> {
  if (method === "gzip") yield* through(parts, zlib.createGunzip({ chunkSize: CHUNK_BYTES }));
  else if (method === "zstd") yield* decodeZstdStream(parts);
  else yield* decodeLz4Frames(new ByteStream(parts));
}

function through(parts: Parts, coder: Transform): AsyncIterable<Uint8Array> {
  return pipeline(Readable.from(parts), coder, () => undefined);
}
