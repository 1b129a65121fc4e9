/**
 * Compressed WAL as archives keep it: what a name, or the bytes at its beginning, say of how it is compressed.
 */
import {
  type CompressionMethod,
  decompressed as decompressedBy,
  type Parts,
} from "../../compression/stream.ts";

export const suffixes = [".gz", ".zst", ".lz4"] as const;
export type Suffix = (typeof suffixes)[number];

/** A compressed segment's name. */
export const compressedNames: RegExp = /^[0-9A-F]{24}(?:\.partial)?\.(?:gz|zst|lz4)$/;

const METHODS: Readonly<Record<Suffix, CompressionMethod>> = {
  ".gz": "gzip",
  ".zst": "zstd",
  ".lz4": "lz4",
};

/** @throws an error of the decoder, whose message says what is wrong with the data. */
export function decompressed(parts: Parts, suffix: Suffix): AsyncGenerator<Uint8Array> {
  return decompressedBy(METHODS[suffix], parts);
}

/** How bytes are compressed, by the marks at their beginning; undefined for anything else. */
export function suffixOfContent(start: Uint8Array): Suffix | undefined {
  if (start[0] === 0x1f && start[1] === 0x8b) return ".gz";
  const magic = Buffer.from(start.subarray(0, 4)).toString("hex");
  if (magic === "28b52ffd") return ".zst";
  return magic === "04224d18" ? ".lz4" : undefined;
}
