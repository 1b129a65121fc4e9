/**
 * One file in PostgreSQL's backup_manifest: its checksum under the algorithms that PostgreSQL has, and its line.
 * PostgreSQL: src/common/checksum_helper.c, src/backend/backup/backup_manifest.c (AddFileToBackupManifest).
 */
import assert from "node:assert/strict";
import type { BytePath } from "../bytes/byte-path.ts";
import { type RunningHash, runningSha2 } from "../crypto/primitives.ts";
import { crc32c } from "../postgres/crc32c.ts";

export type ChecksumAlgorithm = "NONE" | "CRC32C" | "SHA224" | "SHA256" | "SHA384" | "SHA512";

export interface BackupFileFacts {
  readonly sizeBytes: number;
  /** Seconds since 1970. */
  readonly modifyTime: number;
  readonly algorithm: ChecksumAlgorithm;
  /** Hex, as BackupChecksum gives it; undefined under NONE. */
  readonly checksum: string | undefined;
}

/** The checksum of a file's bytes as they come. */
export class BackupChecksum {
  readonly #algorithm: ChecksumAlgorithm;
  readonly #hash: RunningHash | undefined;
  #crc = 0;

  constructor(algorithm: ChecksumAlgorithm) {
    this.#algorithm = algorithm;
    const bits = SHA2_BITS[algorithm];
    this.#hash = bits === undefined ? undefined : runningSha2(bits);
  }

  update(bytes: Uint8Array): void {
    if (this.#algorithm === "CRC32C") this.#crc = crc32c(bytes, 0, bytes.length, this.#crc);
    else this.#hash?.update(bytes);
  }

  /** Hex; undefined under NONE. */
  finish(): string | undefined {
    if (this.#hash !== undefined) return this.#hash.digest().toString("hex");
    if (this.#algorithm === "NONE") return undefined;
    // PostgreSQL prints the CRC's bytes as they lie in memory: little-endian.
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(this.#crc);
    return bytes.toString("hex");
  }
}

export function checksumHexLength(algorithm: ChecksumAlgorithm): number {
  return algorithm === "CRC32C" ? 8 : (SHA2_BITS[algorithm] ?? 0) / 4;
}

/**
 * A file's entry, without comma and LF, one byte in each character.
 * @param at - the path; or the beginning of the line in the original manifest, up to and with its path.
 */
export function serializeBackupFile(
  facts: BackupFileFacts,
  at: { readonly path: BytePath } | { readonly prefix: string },
): string {
  const { sizeBytes, modifyTime, algorithm, checksum } = facts;
  assert(
    (checksum ?? "").length === checksumHexLength(algorithm),
    `not a checksum of ${algorithm}`,
  );
  const prefix = "prefix" in at ? at.prefix : `{ ${pathField(at.path)}, `;
  const sum =
    checksum === undefined
      ? ""
      : `, "Checksum-Algorithm": "${algorithm}", "Checksum": "${checksum}"`;
  const time = formatTime(modifyTime);
  return `${prefix}"Size": ${sizeBytes}, "Last-Modified": "${time}"${sum} }`;
}

const SHA2_BITS: Partial<Record<ChecksumAlgorithm, 224 | 256 | 384 | 512>> = {
  SHA224: 224,
  SHA256: 256,
  SHA384: 384,
  SHA512: 512,
};

/** A path that is not UTF-8 is written in hex. */
function pathField(path: BytePath): string {
  const bytes = Buffer.from(path, "latin1");
  const text = bytes.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(bytes)) return `"Encoded-Path": "${bytes.toString("hex")}"`;
  return `"Path": ${Buffer.from(JSON.stringify(text), "utf8").toString("latin1")}`;
}

/** `2026-11-20 11:25:03 GMT`; a time outside the years 1 to 9999, which a broken clock may give, is moved in. */
function formatTime(seconds: number): string {
  const inRange = Math.min(Math.max(Math.floor(seconds), -62135596800), 253402300799);
  const iso = new Date(inRange * 1000).toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} GMT`;
}
