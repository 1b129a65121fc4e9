/** AES-256-GCM with tags of 16 bytes and nonces of 12, and nothing that passes for either. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gcmDecrypt, gcmEncrypt } from "../../src/crypto/primitives.ts";
import { testDek } from "../support/keys.ts";

const KEY = testDek(1);
const NONCE = Buffer.alloc(12, 7);
const AAD = Buffer.from("where it belongs");
const TEXT = Buffer.from("what nobody may read");

/** A refusal is either no plaintext or an error of the library, before there is any. */
function opened(nonce: Buffer, ciphertext: Buffer, tag: Buffer): Buffer | undefined {
  try {
    return gcmDecrypt(KEY, nonce, AAD, ciphertext, tag);
  } catch (error) {
    assert.ok(error instanceof Error);
    return undefined;
  }
}

test("a tag that is a part of the right one, or longer than it, opens nothing", () => {
  const { ciphertext, tag } = gcmEncrypt(KEY, NONCE, AAD, TEXT);
  assert.equal(tag.length, 16);
  assert.deepEqual(opened(NONCE, ciphertext, tag), TEXT);
  for (let length = 0; length < 16; length++) {
    assert.equal(opened(NONCE, ciphertext, tag.subarray(0, length)), undefined, `${length} bytes`);
  }
  assert.equal(opened(NONCE, ciphertext, Buffer.concat([tag, Buffer.alloc(1)])), undefined);
});

test("every flipped bit of ciphertext, tag, nonce and AAD opens nothing", () => {
  const { ciphertext, tag } = gcmEncrypt(KEY, NONCE, AAD, TEXT);
  const parts = [NONCE, AAD, ciphertext, tag];
  for (const [i, part] of parts.entries()) {
    for (let bit = 0; bit < part.length * 8; bit++) {
      const changed = parts.map((one) => Buffer.from(one));
      const target = changed[i] ?? assert.fail();
      target.writeUInt8(target.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      const [nonce = NONCE, aad = AAD, text = ciphertext, mark = tag] = changed;
      assert.equal(gcmDecrypt(KEY, nonce, aad, text, mark), undefined, `part ${i}, bit ${bit}`);
    }
  }
});
