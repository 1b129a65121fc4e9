/**
 * What is special to calling libcrypto: what each function returns is looked at, keys go when they are not needed, and
 * there are few contexts however many keys come.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  LibcryptoMessageCipher,
  MOST_CONTEXTS,
} from "../../src/crypto/libcrypto-message-cipher.ts";
import { nodeMessageCipher } from "../../src/crypto/node-message-cipher.ts";
import { type KeyObject, randomBytes, secretKey } from "../../src/crypto/primitives.ts";
import { koffi, koffiWith } from "../support/koffi.ts";

const NONCE = Buffer.alloc(12, 1);
const AAD = Buffer.alloc(30, 2);

/** A message that node:crypto decrypts. */
function encrypts(cipher: LibcryptoMessageCipher, key: KeyObject): boolean {
  const tag = Buffer.alloc(16);
  const text = randomBytes(100);
  const ciphertext = cipher.encrypt(key, NONCE, AAD, text, tag);
  return nodeMessageCipher.decrypt(key, NONCE, AAD, ciphertext, tag)?.equals(text) === true;
}

/** By function: the calls of one message in each direction, from a key's first on. */
const CALLS: readonly (readonly [string, "encrypt" | "decrypt", number])[] = [
  ["EVP_CIPHER_CTX_new", "encrypt", 1],
  ["EVP_CipherInit_ex", "encrypt", 2],
  ["EVP_CipherUpdate", "encrypt", 2],
  ["EVP_CipherFinal_ex", "encrypt", 1],
  ["EVP_CIPHER_CTX_ctrl", "encrypt", 1],
  ["EVP_CIPHER_CTX_new", "decrypt", 1],
  ["EVP_CipherInit_ex", "decrypt", 2],
  ["EVP_CipherUpdate", "decrypt", 2],
  ["EVP_CIPHER_CTX_ctrl", "decrypt", 1],
];

for (const [failing, direction, calls] of CALLS) {
  test(`when ${failing} fails in ${direction}, no text is given, and the next message is right`, () => {
    for (let failAt = 1; failAt <= calls; failAt++) {
      let count = 0;
      const cipher = new LibcryptoMessageCipher(
        koffiWith((name, real) =>
          name !== failing
            ? real
            : (...args) => {
                const isFailing = ++count === failAt;
                const result = real(...args);
                if (!isFailing) return result;
                return name === "EVP_CIPHER_CTX_new" ? null : 0;
              },
        ),
      );
      const key = secretKey(randomBytes(32));
      const tag = Buffer.alloc(16);
      const text = randomBytes(100);
      const output = Buffer.alloc(100, 7);
      if (direction === "encrypt") {
        const attempt = (): unknown => cipher.encrypt(key, NONCE, AAD, text, tag, output);
        assert.throws(attempt, new RegExp(`${failing} of libcrypto failed`));
      } else {
        const ciphertext = nodeMessageCipher.encrypt(key, NONCE, AAD, text, tag);
        const attempt = (): unknown => cipher.decrypt(key, NONCE, AAD, ciphertext, tag, output);
        assert.throws(attempt, new RegExp(`${failing} of libcrypto failed`));
      }
      assert.ok(output.every((byte) => byte === 0) || output.every((byte) => byte === 7));
      assert.equal(count, failAt);
      assert.ok(encrypts(cipher, key));
    }
  });
}

test("a context that does not let go of its key gets no other one", () => {
  const cipher = new LibcryptoMessageCipher(
    koffiWith((name, real) => (name === "EVP_CIPHER_CTX_reset" ? () => 0 : real)),
  );
  const encryptOnce = (): unknown => encrypts(cipher, secretKey(randomBytes(32)));
  for (let i = 0; i < MOST_CONTEXTS; i++) encryptOnce();
  assert.throws(encryptOnce, /EVP_CIPHER_CTX_reset of libcrypto failed/);
});

test("what was written is held against what was asked for", () => {
  const cipher = new LibcryptoMessageCipher(
    koffiWith((name, real) =>
      name !== "EVP_CipherUpdate"
        ? real
        : (...args) => {
            const result = real(...args);
            const [, , written] = args;
            if (written instanceof Int32Array) written[0] = 99;
            return result;
          },
    ),
  );
  const key = secretKey(randomBytes(32));
  const text = Buffer.alloc(100);
  assert.throws(
    () => cipher.encrypt(key, NONCE, AAD, text, Buffer.alloc(16), text),
    /EVP_CipherUpdate of libcrypto failed/,
  );
});

test("a thousand keys by turns have a few contexts between them, and each its own key", () => {
  let contexts = 0;
  const copies: Buffer[] = [];
  const cipher = new LibcryptoMessageCipher(
    koffiWith((name, real) => (...args) => {
      if (name === "EVP_CIPHER_CTX_new") contexts++;
      const [, , , key] = args;
      if (name === "EVP_CipherInit_ex" && Buffer.isBuffer(key)) copies.push(key);
      return real(...args);
    }),
  );
  const keys = Array.from({ length: 1000 }, () => secretKey(randomBytes(32)));
  for (let i = 0; i < 4 * keys.length; i++) {
    const key = keys[(i * 7) % keys.length];
    const before = keys[(i * 7 + 993) % keys.length];
    assert.ok(key !== undefined && before !== undefined);
    assert.ok(encrypts(cipher, key) && encrypts(cipher, before));
  }
  assert.equal(contexts, MOST_CONTEXTS);
  assert.equal(cipher.keyedContexts, MOST_CONTEXTS);
  // The key that was there a moment ago is still there, and the bytes it was set with are gone.
  assert.ok(copies.length >= keys.length && copies.length <= 4 * keys.length + MOST_CONTEXTS);
  for (const bytes of copies) assert.ok(bytes.length === 32 && bytes.every((byte) => byte === 0));
});

test("a context loses its key before it gets another one, and when the key is collected", async () => {
  const resets: unknown[] = [];
  const cipher = new LibcryptoMessageCipher(
    koffiWith((name, real) => (...args) => {
      if (name === "EVP_CIPHER_CTX_reset") resets.push(args[0]);
      return real(...args);
    }),
  );
  const useKeys = (count: number): void => {
    for (let i = 0; i < count; i++) assert.ok(encrypts(cipher, secretKey(randomBytes(32))));
  };
  useKeys(MOST_CONTEXTS);
  assert.equal(resets.length, 0);
  useKeys(MOST_CONTEXTS);
  assert.equal(resets.length, MOST_CONTEXTS);
  assert.equal(new Set(resets).size, MOST_CONTEXTS);

  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const kept = secretKey(randomBytes(32));
  assert.ok(encrypts(cipher, kept));
  for (let i = 0; i < 200 && cipher.keyedContexts > 1; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(cipher.keyedContexts, 1, "the one whose key is still in use");
  assert.ok(encrypts(cipher, kept));
  assert.equal(resets.length, 2 * MOST_CONTEXTS);
});

test("it is the OpenSSL that node:crypto uses, by the version that both name", () => {
  assert.equal(
    new LibcryptoMessageCipher(koffi).name,
    `libcrypto, OpenSSL ${process.versions.openssl}`,
  );
});
