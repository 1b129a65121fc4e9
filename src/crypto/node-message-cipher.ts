/**
 * AES-256-GCM through node:crypto: a cipher object for each message, whose output is memory of its own. Tags have
 * 16 bytes on both sides (Node 20 would accept one of 4 otherwise).
 */
import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import {
  assertApart,
  assertApartOrSame,
  assertLengths,
  type MessageCipher,
  TAG_BYTES,
} from "./message-cipher.ts";

const GCM = "aes-256-gcm";
const GCM_OPTIONS = { authTagLength: TAG_BYTES } as const;

export const nodeMessageCipher: MessageCipher = {
  name: `node:crypto, OpenSSL ${process.versions.openssl}`,

  encrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    plaintext: Uint8Array,
    tag: Uint8Array,
    output?: Buffer,
  ): Buffer {
    assertLengths(nonce, aad, plaintext, tag, output);
    if (output !== undefined) assertApartOrSame(plaintext, output);
    const cipher = createCipheriv(GCM, key, nonce, GCM_OPTIONS);
    cipher.setAAD(aad);
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    tag.set(cipher.getAuthTag());
    return output === undefined ? ciphertext : moved(ciphertext, output);
  },

  decrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
    tag: Uint8Array,
    output?: Buffer,
  ): Buffer | undefined {
    assertLengths(nonce, aad, ciphertext, tag, output);
    if (output !== undefined) assertApart(ciphertext, output);
    const decipher = createDecipheriv(GCM, key, nonce, GCM_OPTIONS);
    decipher.setAAD(aad);
    decipher.setAuthTag(tag);
    const plaintext = decipher.update(ciphertext);
    try {
      decipher.final();
    } catch {
      plaintext.fill(0);
      output?.fill(0);
      return undefined;
    }
    return output === undefined ? plaintext : moved(plaintext, output);
  },
};

/** ES2024, which the types of the oldest supported Node do not know. */
const transfer = Reflect.get(ArrayBuffer.prototype, "transfer") as
  ((this: ArrayBufferLike, byteLength: number) => ArrayBuffer) | undefined;

/**
 * Copies a text to where it belongs and gives its memory back at once: the collector would come when megabytes of such
 * texts lie about, and the processor's cache has forgotten all of them.
 */
function moved(text: Buffer, output: Buffer): Buffer {
  text.copy(output);
  const { buffer } = text;
  if (text.length > 0 && text.length === buffer.byteLength) transfer?.call(buffer, 0);
  return output;
}
