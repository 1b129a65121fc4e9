/**
 * The salt of a file's keys. It is new whenever a file is written whole, and it names the run that wrote it: half of it is
 * random, the other half a MAC of that and the file's path under the run's key. So a run that goes on after a crash can
 * tell its own files from older ones that somebody put in their place, which authenticate as well.
 * docs/FORMAT.md, "File salt".
 */
import {
  deriveKey,
  equalInConstantTime,
  hmacSha256,
  type KeyObject,
  randomBytes,
} from "../crypto/primitives.ts";

export const FILE_SALT_BYTES = 16;
const RANDOM_BYTES = 8;

/** HKDF(DEK, run id, "tde/v1/run-salt", 32). @param runId - 16 bytes. */
export function deriveSaltKey(dek: KeyObject, runId: Buffer): KeyObject {
  return deriveKey(dek, runId, Buffer.from("tde/v1/run-salt"));
}

/**
 * random(8) || HMAC-SHA-256(salt key, random || path)[0..8); without a key 16 random bytes.
 * @param path - of the file, relative to the data directory, one character a byte.
 */
export function newFileSalt(saltKey: KeyObject | undefined, path: string): Buffer {
  if (saltKey === undefined) return randomBytes(FILE_SALT_BYTES);
  const random = randomBytes(RANDOM_BYTES);
  return Buffer.concat([random, macOf(saltKey, random, path)]);
}

/** Whether a salt is one that a run made for the file at `path`. */
export function isSaltOfRun(saltKey: KeyObject, path: string, salt: Buffer): boolean {
  const random = salt.subarray(0, RANDOM_BYTES);
  return equalInConstantTime(salt.subarray(RANDOM_BYTES), macOf(saltKey, random, path));
}

function macOf(saltKey: KeyObject, random: Buffer, path: string): Buffer {
  const mac = hmacSha256(saltKey, random, Buffer.from(path, "latin1"));
  return mac.subarray(0, FILE_SALT_BYTES - RANDOM_BYTES);
}
