/**
 * AES-256-GCM for one message after another: what each implementation does, and the lengths that hold before any of them
 * sees a buffer. There are two: node:crypto, which is always there and is the reference, and the process's own libcrypto,
 * called with a context that keeps its key and with buffers that stay. Which one a thread has, choose-message-cipher.ts
 * says.
 */
import assert from "node:assert/strict";
import type { KeyObject } from "node:crypto";

export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** Below what an `int` of C holds; no message of tde's comes near. */
const MOST_BYTES = 2 ** 30;

export interface MessageCipher {
  /** With the version of OpenSSL, for people. */
  readonly name: string;

  /**
   * Encrypts one message.
   * @param key - 32 bytes. @param nonce - 12 bytes, never used before under this key.
   * @param tag - 16 bytes, which are written.
   * @param output - as long as the plaintext; it may be the plaintext's own memory, but not overlap it otherwise.
   * @returns the ciphertext: `output`, or a buffer of its own where there is none.
   */
  encrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    plaintext: Uint8Array,
    tag: Uint8Array,
    output?: Buffer,
  ): Buffer;

  /**
   * Decrypts one message.
   * @param output - as long as the ciphertext, and apart from it: what a wrong tag leaves there is zeros.
   * @returns the plaintext: `output`, or a buffer of its own where there is none; undefined when the tag does not hold.
   */
  decrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
    tag: Uint8Array,
    output?: Buffer,
  ): Buffer | undefined;
}

/** Whoever counts on a length that is another would read or write beside a buffer. */
export function assertLengths(
  nonce: Uint8Array,
  aad: Uint8Array,
  input: Uint8Array,
  tag: Uint8Array,
  output: Uint8Array | undefined,
): void {
  assert(nonce.byteLength === NONCE_BYTES, "a nonce has 12 bytes");
  assert(tag.byteLength === TAG_BYTES, "a tag has 16 bytes");
  assert(aad.byteLength <= MOST_BYTES && input.byteLength <= MOST_BYTES, "a message too long");
  assert(
    output === undefined || output.byteLength === input.byteLength,
    "the output is as long as the input",
  );
}

/** Plaintext whose tag may be wrong never comes where a caller's own bytes are. */
export function assertApart(ciphertext: Uint8Array, output: Uint8Array): void {
  assert(!overlap(ciphertext, output), "plaintext does not go where its ciphertext is");
}

/** Encrypting goes from the front: where the two overlap they begin at the same byte. */
export function assertApartOrSame(plaintext: Uint8Array, output: Uint8Array): void {
  const isSame = plaintext.buffer === output.buffer && plaintext.byteOffset === output.byteOffset;
  assert(isSame || !overlap(plaintext, output), "the output overlaps the plaintext in part");
}

function overlap(a: Uint8Array, b: Uint8Array): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}
