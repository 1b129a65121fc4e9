/**
 * The cryptography of the keyring file: every derivation and every AAD, as docs/FORMAT.md has them, in one
 * place. A wrapped key is 60 bytes: nonce (12, random), ciphertext (32), tag (16) of AES-256-GCM.
 */
import {
  deriveKey,
  exportKey,
  gcmDecrypt,
  gcmEncrypt,
  hkdf,
  hmacSha256,
  KEY_BYTES,
  type KeyObject,
  NONCE_BYTES,
  randomBytes,
  scryptKey,
  secretKey,
  TAG_BYTES,
} from "../crypto/primitives.ts";

export const WRAPPED_KEY_BYTES: number = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
export const KEY_CHECK_BYTES = 8;
export const SALT_BYTES = 16;

const NO_SALT = Buffer.alloc(0);

/** Wraps 32 bytes. @param nonce - only for test vectors; otherwise drawn here. */
export function wrapKey(
  kek: KeyObject,
  aad: Uint8Array,
  key: Uint8Array,
  nonce: Uint8Array = randomBytes(NONCE_BYTES),
): Buffer {
  const { ciphertext, tag } = gcmEncrypt(kek, nonce, aad, key);
  return Buffer.concat([nonce, ciphertext, tag]);
}

/** The 32 bytes, which the caller wipes; undefined when the KEK or the AAD is another one. */
export function unwrapKey(
  kek: KeyObject,
  aad: Uint8Array,
  wrapped: Uint8Array,
): Buffer | undefined {
  if (wrapped.length !== WRAPPED_KEY_BYTES) return undefined;
  const tagOffset = NONCE_BYTES + KEY_BYTES;
  return gcmDecrypt(
    kek,
    wrapped.subarray(0, NONCE_BYTES),
    aad,
    wrapped.subarray(NONCE_BYTES, tagOffset),
    wrapped.subarray(tagOffset),
  );
}

/** @param keyringId - 16 hex digits; in every derivation its 8 bytes stand. */
export function recipientAad(keyringId: string, typeName: string): Buffer {
  return Buffer.concat([
    Buffer.from("tde/v1/recipient"),
    Buffer.from(keyringId, "hex"),
    Buffer.from(typeName),
  ]);
}

/** Makes a DEK's wrapped form under the keyring key. */
export function wrapDek(
  keyringKey: KeyObject,
  keyringId: string,
  keyId: number,
  dek: KeyObject,
  nonce?: Uint8Array,
): Buffer {
  const bytes = exportKey(dek);
  try {
    return wrapKey(dekWrappingKey(keyringKey), dekAad(keyringId, keyId), bytes, nonce);
  } finally {
    bytes.fill(0);
  }
}

/** The DEK, or undefined when it was not wrapped for this id under this keyring key. */
export function unwrapDek(
  keyringKey: KeyObject,
  keyringId: string,
  keyId: number,
  wrapped: Uint8Array,
): KeyObject | undefined {
  const bytes = unwrapKey(dekWrappingKey(keyringKey), dekAad(keyringId, keyId), wrapped);
  if (bytes === undefined) return undefined;
  const dek = secretKey(bytes);
  bytes.fill(0);
  return dek;
}

/** Tells keys apart without revealing them: 8 bytes, printed as 16 hex digits. */
export function keyCheckValue(dek: KeyObject): Buffer {
  return hkdf(dek, NO_SALT, Buffer.from("tde/v1/key-check"), KEY_CHECK_BYTES);
}

/** The MAC over the keyring's text before its mac line. Commits to the keyring key. */
export function keyringMac(keyringKey: KeyObject, text: Uint8Array): Buffer {
  return hmacSha256(deriveKey(keyringKey, NO_SALT, Buffer.from("tde/v1/keyring-mac")), text);
}

/** The MAC over the state file's text before its mac line, under the DEK that its second line names. */
export function stateMac(dek: KeyObject, keyringId: string, text: Uint8Array): Buffer {
  const key = deriveKey(dek, Buffer.from(keyringId, "hex"), Buffer.from("tde/v1/state"));
  return hmacSha256(key, text);
}

/** The KEK of a passphrase: its bytes as they are, not normalised. Takes 2^logN kB of memory. */
export function passphraseKek(
  passphrase: Uint8Array,
  salt: Uint8Array,
  logN: number,
): Promise<KeyObject> {
  return scryptKey(passphrase, Buffer.concat([Buffer.from("tde/v1/scrypt"), salt]), logN);
}

/** The KEK of a key file. @param key - the 32 bytes of the file. */
export function keyFileKek(key: KeyObject, salt: Uint8Array, keyringId: string): KeyObject {
  const info = Buffer.concat([Buffer.from("tde/v1/key-file"), Buffer.from(keyringId, "hex")]);
  return deriveKey(key, salt, info);
}

function dekWrappingKey(keyringKey: KeyObject): KeyObject {
  return deriveKey(keyringKey, NO_SALT, Buffer.from("tde/v1/dek-wrap"));
}

function dekAad(keyringId: string, keyId: number): Buffer {
  const id = Buffer.alloc(4);
  id.writeUInt32LE(keyId);
  return Buffer.concat([Buffer.from("tde/v1/dek"), Buffer.from(keyringId, "hex"), id]);
}
