/**
 * The head of a journal: which run it is of, and which key proves it. The run's id is what the state file knows it by.
 * docs/FORMAT.md, "Journal header".
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { hmacSha256, type KeyObject } from "../crypto/primitives.ts";
import { FormatError } from "../errors.ts";
import { readUpTo, withFile } from "./file-io.ts";
import type { FileSystem } from "./file-system.ts";

export const JOURNAL_NAME = "tde.journal" as BytePath;

export const JOURNAL_OPERATION = {
  encrypt: 1,
  decrypt: 2,
  /** Into a new directory: a crash undoes it. */
  encryptOutput: 3,
  decryptOutput: 4,
  rotate: 5,
  /** Brings an encrypted directory up to date with a plain one. */
  sync: 6,
} as const;
export type JournalOperation = keyof typeof JOURNAL_OPERATION;

const OPERATIONS = Object.keys(JOURNAL_OPERATION) as readonly JournalOperation[];

export function isJournalOperation(name: unknown): name is JournalOperation {
  return OPERATIONS.some((operation) => operation === name);
}

/** Offsets in the header. */
export const JOURNAL_HEADER = {
  magic: 0, //       4 bytes "TDEJ"
  version: 4, //     u16
  reserved: 6, //    u16, zero
  runId: 8, //       16 bytes, random: the salt of the journal key
  directoryId: 24, //16 bytes
  keyringId: 40, //  8 bytes
  keyId: 48, //      u32
  operation: 52, //  u32
  epoch: 56, //      u64
  mac: 64, //        16 bytes
} as const;
export const JOURNAL_HEADER_BYTES = 80;
export const JOURNAL_MAC_BYTES = 16;
const MAGIC = Buffer.from("TDEJ", "ascii");
const VERSION = 2;
/** Its runs are in no state file, and what it had done nothing proves. */
const VERSION_OF_0_1_0 = 1;

export interface JournalHeader {
  /** 16 bytes. */
  readonly runId: Buffer;
  /** 32 hex digits. */
  readonly directoryId: string;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly keyId: number;
  readonly operation: JournalOperation;
  readonly epoch: bigint;
}

/** The header alone, unproved: it says which key proves the journal. Undefined where there is no journal. */
export function readJournalHeader(fs: FileSystem, root: BytePath): JournalHeader | undefined {
  const path = joinPath(root, JOURNAL_NAME);
  if (fs.stat(path) === undefined) return undefined;
  return withFile(fs, path, (file) => {
    const bytes = Buffer.alloc(JOURNAL_HEADER_BYTES);
    const count = readUpTo(file, bytes, 0, bytes.length, 0);
    return parseJournalHeader(bytes.subarray(0, count));
  });
}

export function serializeJournalHeader(header: JournalHeader, key: KeyObject): Buffer {
  const bytes = Buffer.alloc(JOURNAL_HEADER_BYTES);
  MAGIC.copy(bytes, JOURNAL_HEADER.magic);
  bytes.writeUInt16LE(VERSION, JOURNAL_HEADER.version);
  header.runId.copy(bytes, JOURNAL_HEADER.runId);
  bytes.write(header.directoryId, JOURNAL_HEADER.directoryId, "hex");
  bytes.write(header.keyringId, JOURNAL_HEADER.keyringId, "hex");
  bytes.writeUInt32LE(header.keyId, JOURNAL_HEADER.keyId);
  bytes.writeUInt32LE(JOURNAL_OPERATION[header.operation], JOURNAL_HEADER.operation);
  bytes.writeBigUInt64LE(header.epoch, JOURNAL_HEADER.epoch);
  journalHeaderMac(bytes, key).copy(bytes, JOURNAL_HEADER.mac);
  return bytes;
}

/** HMAC-SHA-256 over all that stands before it, 16 bytes. */
export function journalHeaderMac(bytes: Buffer, key: KeyObject): Buffer {
  return hmacSha256(key, bytes.subarray(0, JOURNAL_HEADER.mac)).subarray(0, JOURNAL_MAC_BYTES);
}

/** @throws {FormatError} for what is no journal of this version. Its MAC is not looked at. */
export function parseJournalHeader(bytes: Buffer): JournalHeader {
  if (bytes.length < JOURNAL_HEADER_BYTES || !MAGIC.equals(bytes.subarray(0, 4))) {
    throw new FormatError('"tde.journal" is no journal of tde, or is cut', {
      hint: "Restore the directory from a backup, or from the plain original.",
    });
  }
  const version = bytes.readUInt16LE(JOURNAL_HEADER.version);
  if (version === VERSION_OF_0_1_0) {
    throw new FormatError('"tde.journal" is of a run that tde 0.1.0 began and did not finish', {
      hint: "Finish that run with tde 0.1.0, then use this version.",
    });
  }
  if (version !== VERSION) {
    throw new FormatError(
      `"tde.journal" has format version ${version}, which this tde does not know`,
      { hint: "Finish the run with the tde that began it." },
    );
  }
  const code = bytes.readUInt32LE(JOURNAL_HEADER.operation);
  const operation = OPERATIONS.find((name) => JOURNAL_OPERATION[name] === code);
  if (operation === undefined || bytes.readUInt16LE(JOURNAL_HEADER.reserved) !== 0) {
    throw new FormatError(`"tde.journal" is of an unknown operation (${code})`);
  }
  return {
    runId: Buffer.from(bytes.subarray(JOURNAL_HEADER.runId, JOURNAL_HEADER.directoryId)),
    directoryId: bytes.toString("hex", JOURNAL_HEADER.directoryId, JOURNAL_HEADER.keyringId),
    keyringId: bytes.toString("hex", JOURNAL_HEADER.keyringId, JOURNAL_HEADER.keyId),
    keyId: bytes.readUInt32LE(JOURNAL_HEADER.keyId),
    operation,
    epoch: bytes.readBigUInt64LE(JOURNAL_HEADER.epoch),
  };
}
