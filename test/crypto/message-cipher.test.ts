/**
 * Both implementations of AES-256-GCM: that they agree on every message, right or wrong, that a wrong tag leaves no
 * plaintext anywhere, and that no length other than the right one reaches libcrypto.
 */
import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { LibcryptoMessageCipher } from "../../src/crypto/libcrypto-message-cipher.ts";
import type { MessageCipher } from "../../src/crypto/message-cipher.ts";
import { nodeMessageCipher } from "../../src/crypto/node-message-cipher.ts";
import { secretKey } from "../../src/crypto/primitives.ts";
import { Chunk } from "../../src/format/chunk.ts";
import { koffi, koffiWith } from "../support/koffi.ts";
import { assertProperty } from "../support/property.ts";

const MOST_TEXT_BYTES = 2 ** 20;
const MOST_AAD_BYTES = 2 ** 12;
const PAGE_TEXT_BYTES = 8170;

/** Bytes that look random, the same in each run. */
const POOL = createCipheriv("aes-256-ctr", Buffer.alloc(32), Buffer.alloc(16)).update(
  Buffer.alloc(2 * MOST_TEXT_BYTES),
);
const KEYS = Array.from({ length: 7 }, (_, i) => secretKey(POOL.subarray(i * 32, i * 32 + 32)));

const libcrypto = new LibcryptoMessageCipher(koffi);
const CIPHERS: readonly MessageCipher[] = [nodeMessageCipher, libcrypto];

/** Mostly short, for the sake of time; also the lengths around blocks of the cipher. */
const length = (most: number): fc.Arbitrary<number> =>
  fc
    .oneof(
      { weight: 30, arbitrary: fc.integer({ min: 0, max: 300 }) },
      { weight: 10, arbitrary: fc.integer({ min: 0, max: 10_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: MOST_TEXT_BYTES }) },
      { weight: 1, arbitrary: fc.constant(MOST_TEXT_BYTES) },
    )
    .map((bytes) => Math.min(bytes, most));

type Alteration = "none" | "tag" | "text" | "aad" | "nonce" | "key" | "shorter" | "longer";

interface Case {
  readonly key: number;
  readonly textBytes: number;
  readonly aadBytes: number;
  readonly seed: number;
  readonly output: "new" | "given" | "in place";
  readonly alteration: Alteration;
  readonly at: number;
}

const anyCase: fc.Arbitrary<Case> = fc.record(
  {
    key: fc.nat(KEYS.length - 1),
    textBytes: length(MOST_TEXT_BYTES),
    aadBytes: length(MOST_AAD_BYTES),
    seed: fc.nat(MOST_TEXT_BYTES - MOST_AAD_BYTES - 64),
    output: fc.constantFrom("new" as const, "given" as const, "in place" as const),
    alteration: fc.constantFrom<Alteration>(
      ...(["none", "tag", "text", "aad", "nonce", "key", "shorter", "longer"] as const),
    ),
    at: fc.nat(8 * MOST_TEXT_BYTES),
  },
  { noNullPrototype: true },
);

interface Message {
  readonly key: number;
  readonly nonce: Buffer;
  readonly aad: Buffer;
  readonly text: Buffer;
  readonly tag: Buffer;
}

function encrypt(
  cipher: MessageCipher,
  { key, nonce, aad, text }: Omit<Message, "tag">,
  how: Case["output"],
): Message {
  const tag = Buffer.alloc(16);
  const plaintext = Buffer.from(text);
  const output = { new: undefined, given: Buffer.alloc(text.length, 7), "in place": plaintext }[
    how
  ];
  const ciphertext = cipher.encrypt(keyOf(key), nonce, aad, plaintext, tag, output);
  if (output !== undefined) assert.equal(ciphertext, output);
  if (how !== "in place") assert.ok(plaintext.equals(text));
  return { key, nonce, aad, text: ciphertext, tag };
}

/** The plaintext, or undefined; then the output, if one was given, has nothing but zeros. */
function decrypt(
  cipher: MessageCipher,
  { key, nonce, aad, text, tag }: Message,
  how: Case["output"],
): Buffer | undefined {
  const output = how === "new" ? undefined : Buffer.alloc(text.length, 7);
  const before = Buffer.from(text);
  const plaintext = cipher.decrypt(keyOf(key), nonce, aad, text, tag, output);
  assert.ok(text.equals(before), "the ciphertext is as it was");
  if (plaintext === undefined && output !== undefined)
    assert.ok(output.equals(Buffer.alloc(output.length)), "a wrong tag leaves zeros");
  if (plaintext !== undefined && output !== undefined) assert.equal(plaintext, output);
  return plaintext;
}

function keyOf(index: number): (typeof KEYS)[number] {
  const key = KEYS[index];
  assert.ok(key !== undefined);
  return key;
}

/** The message with one thing other than it was; itself where there is nothing to change. */
function altered(message: Message, { alteration, at }: Case): Message {
  const flipped = (bytes: Buffer): Buffer => {
    const other = Buffer.from(bytes);
    const bit = at % (8 * bytes.length);
    other.writeUInt8(other.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    return other;
  };
  const { text } = message;
  switch (alteration) {
    case "none":
      return message;
    case "tag":
    case "nonce":
      return { ...message, [alteration]: flipped(message[alteration]) };
    case "text":
    case "aad":
      return message[alteration].length === 0
        ? message
        : { ...message, [alteration]: flipped(message[alteration]) };
    case "key":
      return { ...message, key: (message.key + 1) % KEYS.length };
    case "shorter":
      return { ...message, text: text.subarray(0, Math.max(0, text.length - 1 - (at % 40))) };
    case "longer":
      return { ...message, text: Buffer.concat([text, Buffer.alloc(1 + (at % 40))]) };
  }
}

function isSame(a: Message, b: Message): boolean {
  return (
    a.key === b.key &&
    a.nonce.equals(b.nonce) &&
    a.aad.equals(b.aad) &&
    a.text.equals(b.text) &&
    a.tag.equals(b.tag)
  );
}

test("both implementations give one ciphertext and one tag, and open and refuse the same", () => {
  assertProperty(
    fc.property(anyCase, (given) => {
      const { key, textBytes, aadBytes, seed, output } = given;
      const nonce = POOL.subarray(seed, seed + 12);
      const aad = POOL.subarray(seed + 12, seed + 12 + aadBytes);
      const text = POOL.subarray(seed + 40, seed + 40 + textBytes);
      const plain = { key, nonce, aad, text };
      const [one, other] = CIPHERS.map((cipher) => encrypt(cipher, plain, output));
      assert.ok(one !== undefined && other !== undefined && isSame(one, other));
      const found = altered(one, given);
      const right = isSame(found, one);
      for (const cipher of CIPHERS) {
        const opened = decrypt(cipher, found, output);
        if (right) assert.ok(opened?.equals(text));
        else assert.equal(opened, undefined);
      }
    }),
    400,
  );
});

test("buffers in a chunk's memory, which is WebAssembly's, and on the heap do as well", () => {
  const [view] = new Chunk(8192).views;
  assert.ok(view !== undefined);
  const { text, tag } = view;
  const plaintext = POOL.subarray(0, text.length);
  const nonce = POOL.subarray(0, 12);
  const expected = encrypt(
    nodeMessageCipher,
    { key: 0, nonce, aad: nonce, text: plaintext },
    "new",
  );
  const onHeap = Uint8Array.from(nonce);
  for (const cipher of CIPHERS) {
    plaintext.copy(text);
    tag.fill(0);
    cipher.encrypt(keyOf(0), onHeap, onHeap, text, tag, text);
    assert.ok(text.equals(expected.text) && tag.equals(expected.tag));
    const opened = cipher.decrypt(keyOf(0), onHeap, onHeap, text, Uint8Array.from(tag));
    assert.ok(opened?.equals(plaintext));
  }
});

test("a wrong tag leaves no plaintext in any memory that libcrypto wrote to", () => {
  const written: Buffer[] = [];
  const cipher = new LibcryptoMessageCipher(
    koffiWith((name, real) =>
      name !== "EVP_CipherUpdate"
        ? real
        : (...args) => {
            const [, output] = args;
            if (Buffer.isBuffer(output)) written.push(output);
            return real(...args);
          },
    ),
  );
  const nonce = POOL.subarray(0, 12);
  const text = POOL.subarray(0, PAGE_TEXT_BYTES);
  const message = encrypt(nodeMessageCipher, { key: 0, nonce, aad: nonce, text }, "new");
  message.tag.writeUInt8(message.tag.readUInt8(15) ^ 0x80, 15);
  assert.equal(decrypt(cipher, message, "new"), undefined);
  assert.equal(decrypt(cipher, message, "given"), undefined);
  assert.equal(written.length, 2);
  for (const memory of written) assert.ok(memory.equals(Buffer.alloc(PAGE_TEXT_BYTES)));
});

const WRONG: Readonly<Record<string, (cipher: MessageCipher) => unknown>> = {
  "a nonce of 11 bytes": (cipher) => call(cipher, { nonce: Buffer.alloc(11) }),
  "a nonce of 13 bytes": (cipher) => call(cipher, { nonce: Buffer.alloc(13) }),
  "a tag of 4 bytes": (cipher) => call(cipher, { tag: Buffer.alloc(4) }),
  "a tag of 17 bytes": (cipher) => call(cipher, { tag: Buffer.alloc(17) }),
  "an output that is too short": (cipher) => call(cipher, { output: Buffer.alloc(99) }),
  "an output that is too long": (cipher) => call(cipher, { output: Buffer.alloc(101) }),
  "a key of 16 bytes": (cipher) => call(cipher, { key: secretKey(Buffer.alloc(16)) }),
};

function call(
  cipher: MessageCipher,
  parts: { key?: (typeof KEYS)[number]; nonce?: Buffer; tag?: Buffer; output?: Buffer },
): void {
  const { key = keyOf(0), nonce = Buffer.alloc(12), tag = Buffer.alloc(16), output } = parts;
  const aad = Buffer.alloc(3);
  const text = Buffer.alloc(100);
  assert.throws(() => cipher.encrypt(key, nonce, aad, text, tag, output));
  assert.throws(() => cipher.decrypt(key, nonce, aad, text, tag, output));
}

for (const [what, attempt] of Object.entries(WRONG)) {
  test(`${what} is refused by both`, () => {
    for (const cipher of CIPHERS) attempt(cipher);
  });
}

test("no text goes where another one is", () => {
  const memory = Buffer.alloc(200);
  const nonce = Buffer.alloc(12);
  const tag = Buffer.alloc(16);
  const text = memory.subarray(0, 100);
  for (const cipher of CIPHERS) {
    const key = keyOf(0);
    for (const at of [1, 99]) {
      const output = memory.subarray(at, at + 100);
      assert.throws(() => cipher.encrypt(key, nonce, nonce, text, tag, output), /overlaps/);
      assert.throws(() => cipher.decrypt(key, nonce, nonce, text, tag, output), /ciphertext is/);
    }
    assert.throws(() => cipher.decrypt(key, nonce, nonce, text, tag, text), /ciphertext is/);
    cipher.encrypt(key, nonce, nonce, text, tag, memory.subarray(100));
    assert.ok(cipher.decrypt(key, nonce, nonce, memory.subarray(100), tag, text));
  }
});
