/**
 * Compressed WAL: gzip by Node's zlib, LZ4 frames by tde, zstd by zlib or a package. Nothing is held but what a
 * decoder needs, so memory does not grow with what comes out.
 */
import { pipeline, Readable } from "node:stream";
import zlib from "node:zlib";
import { ByteStream } from "../../bytes/byte-stream.ts";
import { decodeLz4Frames } from "../../compression/lz4-frame.ts";
import { decodeZstdStream } from "./zstd.ts";

export const suffixes = [".gz", ".zst", ".lz4"] as const;
export type Suffix = (typeof suffixes)[number];

/** A compressed segment's name. */
export const compressedNames: RegExp = /^[0-9A-F]{24}(?:\.partial)?\.(?:gz|zst|lz4)$/;

type Parts = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** @throws an error of the decoder, whose message says what is wrong with the data. */
export async function* decompressed(parts: Parts, suffix: Suffix): AsyncGenerator<Uint8Array> {
  switch (suffix) {
    case ".gz":
      yield* pipeline(Readable.from(parts), zlib.createGunzip(), () => undefined);
      return;
    case ".zst":
      yield* decodeZstdStream(parts);
      return;
    case ".lz4":
      yield* decodeLz4Frames(new ByteStream(parts));
  }
}

/** How bytes are compressed, by the marks at their beginning; undefined for anything else. */
export function suffixOfContent(start: Uint8Array): Suffix | undefined {
  if (start[0] === 0x1f && start[1] === 0x8b) return ".gz";
  const magic = Buffer.from(start.subarray(0, 4)).toString("hex");
  if (magic === "28b52ffd") return ".zst";
  return magic === "04224d18" ? ".lz4" : undefined;
}
