/**
 * scrypt with more than the least work: a cost that is capped somewhere below what a recipient names would open every
 * keyring of the tests, which take the least to be quick.
 */
import assert from "node:assert/strict";
import { createDecipheriv, scryptSync } from "node:crypto";
import { test } from "node:test";
import { exportKey, scryptKey } from "../../src/crypto/primitives.ts";
import { DEFAULT_LOG_N, PassphraseProvider } from "../../src/keyring/providers/passphrase.ts";

/** The first 32 bytes of RFC 7914, section 12, where N = 2^14; the others by OpenSSL and by Python's hashlib. */
const VECTORS = [
  [14, "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"],
  [15, "f72cbc204bdcfc3ff5b115d8508aec1566ff0ef3f658388601a3933078ef7ac8"],
  [17, "2f10fcda14532d6543334cd899776407ff0ae879c370372de5b4e39d4d2d21ed"],
] as const;

for (const [logN, expected] of VECTORS) {
  test(`scrypt with N = 2^${logN} is that of others`, async () => {
    const key = await scryptKey(Buffer.from("pleaseletmein"), Buffer.from("SodiumChloride"), logN);
    assert.equal(exportKey(key).toString("hex"), expected);
  });
}

for (const logN of [15, DEFAULT_LOG_N]) {
  test(`a recipient is wrapped with all of the work that it names, N = 2^${logN}`, async () => {
    const keyringId = "7f3a000000000001";
    const secret = Buffer.from("a passphrase");
    const provider = new PassphraseProvider(secret, "the passphrase", logN);
    const keyringKey = Buffer.alloc(32, 0x6b);
    const { parameters, wrapped } = await provider.wrap(keyringKey, { keyringId });
    assert.equal(parameters.get("logN"), String(logN));
    // docs/FORMAT.md, "Recipients": the salt has a label before it; nonce, ciphertext and tag.
    const salt = Buffer.from(parameters.get("salt") ?? "", "base64");
    const cost = { N: 2 ** logN, r: 8, p: 1, maxmem: 2 ** (logN + 11) };
    const kek = scryptSync(secret, Buffer.concat([Buffer.from("tde/v1/scrypt"), salt]), 32, cost);
    const decipher = createDecipheriv("aes-256-gcm", kek, wrapped.subarray(0, 12));
    const aad = [Buffer.from("tde/v1/recipient"), Buffer.from(keyringId, "hex"), "scrypt"];
    decipher.setAAD(Buffer.concat(aad.map((part) => Buffer.from(part))));
    decipher.setAuthTag(wrapped.subarray(44));
    const opened = Buffer.concat([decipher.update(wrapped.subarray(12, 44)), decipher.final()]);
    assert.deepEqual(opened, keyringKey);
    assert.deepEqual(await provider.unwrap({ parameters, wrapped }, { keyringId }), keyringKey);
  });
}
