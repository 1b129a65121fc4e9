/**
 * Everything that the program takes from cryptography. What can be pinned is pinned: AES-256-GCM with 12-byte nonces and
 * 16-byte tags, by the implementation that this thread has (choose-message-cipher.ts), SHA-256 everywhere, and comparison
 * of MACs in constant time in the library.
 */
import {
  createHash,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  randomFillSync,
  scrypt,
  timingSafeEqual,
} from "node:crypto";
import { messageCipher } from "./choose-message-cipher.ts";
import { KEY_BYTES, TAG_BYTES } from "./message-cipher.ts";

export { describeMessageCipher } from "./choose-message-cipher.ts";
export { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "./message-cipher.ts";
export type { KeyObject } from "node:crypto";
export { randomBytes } from "node:crypto";

/** Fills a buffer with random bytes: many nonces in one call. */
export function fillRandom(buffer: Uint8Array): void {
  randomFillSync(buffer);
}

/** Makes a key object of 32 bytes; the caller may wipe its copy afterwards. */
export function secretKey(bytes: Uint8Array): KeyObject {
  return createSecretKey(bytes);
}

/** A fresh random 32-byte key. */
export function newSecretKey(): KeyObject {
  const bytes = randomBytes(KEY_BYTES);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

/** The bytes of a key, for wrapping it. The caller wipes them. */
export function exportKey(key: KeyObject): Buffer {
  return key.export();
}

/**
 * HKDF-SHA256 (RFC 5869).
 * @param salt - the empty buffer where the format says "no salt".
 * @param info - of any length; node:crypto itself stops at 1024 bytes, less than a long path.
 */
export function hkdf(
  key: KeyObject,
  salt: Uint8Array,
  info: Uint8Array,
  lengthBytes: number,
): Buffer {
  if (info.length > 1024) return hkdfOfLongInfo(key, salt, info, lengthBytes);
  return Buffer.from(hkdfSync("sha256", key, salt, info, lengthBytes));
}

/** The two steps of RFC 5869, sections 2.2 and 2.3, from HMAC. */
function hkdfOfLongInfo(
  key: KeyObject,
  salt: Uint8Array,
  info: Uint8Array,
  lengthBytes: number,
): Buffer {
  const inputKey = key.export();
  const pseudorandomKey = createHmac("sha256", salt).update(inputKey).digest();
  inputKey.fill(0);
  const blocks: Buffer[] = [];
  for (let i = 1; blocks.length * 32 < lengthBytes; i++) {
    const previous = blocks.at(-1) ?? Buffer.alloc(0);
    const hmac = createHmac("sha256", pseudorandomKey).update(previous).update(info);
    blocks.push(hmac.update(Buffer.of(i)).digest());
  }
  pseudorandomKey.fill(0);
  const output = Buffer.concat(blocks, lengthBytes);
  for (const block of blocks) block.fill(0);
  return output;
}

/** As hkdf, for a 32-byte key that never leaves the library as bytes. */
export function deriveKey(key: KeyObject, salt: Uint8Array, info: Uint8Array): KeyObject {
  const bytes = hkdf(key, salt, info, KEY_BYTES);
  const derived = createSecretKey(bytes);
  bytes.fill(0);
  return derived;
}

export interface Sealed {
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** One AES-256-GCM message. @param nonce - 12 bytes, never used before under this key. */
export function gcmEncrypt(
  key: KeyObject,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Sealed {
  const tag = Buffer.alloc(TAG_BYTES);
  const ciphertext = messageCipher().encrypt(key, nonce, aad, plaintext, tag);
  return { ciphertext, tag };
}

/** The same where the plaintext is. @param tag - 16 bytes, which are written. */
export function gcmEncryptInPlace(
  key: KeyObject,
  nonce: Uint8Array,
  aad: Uint8Array,
  text: Buffer,
  tag: Uint8Array,
): void {
  messageCipher().encrypt(key, nonce, aad, text, tag, text);
}

/**
 * The tag that a message gives, where nobody needs its ciphertext.
 * @param scratch - as long as the plaintext and apart from it; its content is worth nothing afterwards.
 */
export function gcmTag(
  key: KeyObject,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  scratch: Buffer,
): Buffer {
  const tag = Buffer.alloc(TAG_BYTES);
  messageCipher().encrypt(key, nonce, aad, plaintext, tag, scratch);
  return tag;
}

/**
 * The plaintext of one message, or undefined when its tag does not hold.
 * @param output - where the plaintext is put, as long as the ciphertext and apart from it: zeros when the tag does not
 *   hold. Without it the plaintext has memory of its own.
 */
export function gcmDecrypt(
  key: KeyObject,
  nonce: Uint8Array,
  aad: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
  output?: Buffer,
): Buffer | undefined {
  return messageCipher().decrypt(key, nonce, aad, ciphertext, tag, output);
}

export function hmacSha256(key: KeyObject, ...parts: readonly Uint8Array[]): Buffer {
  const hmac = createHmac("sha256", key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

export function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** SHA-256 of a stream: update it with each part, then take the digest. */
export interface RunningHash {
  update(bytes: Uint8Array): unknown;
  digest(): Buffer;
}

export function runningSha256(): RunningHash {
  return createHash("sha256");
}

/** The other members of SHA-2, which backup_manifest may use; everything of tde's own is SHA-256. */
export function runningSha2(bits: 224 | 256 | 384 | 512): RunningHash {
  return createHash(`sha${bits}`);
}

/** Compares MACs or commitments without telling by its time where they differ. */
export function equalInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** scrypt (RFC 7914) with r = 8 and p = 1; takes 128 × 8 × 2^logN bytes of memory. */
export function scryptKey(
  passphrase: Uint8Array,
  salt: Uint8Array,
  logN: number,
): Promise<KeyObject> {
  const cost = 2 ** logN;
  return new Promise((resolve, reject) => {
    scrypt(
      passphrase,
      salt,
      KEY_BYTES,
      { N: cost, r: 8, p: 1, maxmem: 128 * 8 * cost + 2 ** 20 },
      (error, bytes) => {
        if (error !== null) return reject(error);
        const key = createSecretKey(bytes);
        bytes.fill(0);
        resolve(key);
      },
    );
  });
}
