/**
 * Compressed WAL as archives keep it: what a name, or the bytes at its beginning, say of how it is compressed. An
 * archive_command gives a segment the suffix of its compressor, or none; pg_receivewal puts `.partial` behind that suffix
 * (bin/pg_basebackup/receivelog.c, get_file_name of walmethods.c).
 */
import {
  type CompressionMethod,
  decompressed as decompressedBy,
  type Parts,
} from "../compression/stream.ts";

export const suffixes = [".gz", ".zst", ".lz4"] as const;
export type Suffix = (typeof suffixes)[number];

const COMPRESSED_NAME = /^([0-9A-F]{24})(\.partial)?(\.gz|\.zst|\.lz4)(\.partial)?$/;

const METHODS: Readonly<Record<Suffix, CompressionMethod>> = {
  ".gz": "gzip",
  ".zst": "zstd",
  ".lz4": "lz4",
};

export interface CompressedName {
  /** Of the segment, with `.partial` if it is one. */
  readonly name: string;
  readonly suffix: Suffix;
}

/** What the name of a compressed segment says; undefined for other names. */
export function parseCompressedName(fileName: string): CompressedName | undefined {
  const [, segment, before, suffix, behind] = COMPRESSED_NAME.exec(fileName) ?? [];
  if (segment === undefined || (before !== undefined && behind !== undefined)) return undefined;
  return { name: `${segment}${before ?? behind ?? ""}`, suffix: suffix as Suffix };
}

/** The names under which a file may lie compressed. */
export function compressedNamesOf(name: string): string[] {
  const whole = name.replace(/\.partial$/, "");
  return suffixes.flatMap((suffix) =>
    whole === name ? [`${name}${suffix}`] : [`${name}${suffix}`, `${whole}${suffix}.partial`],
  );
}

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
