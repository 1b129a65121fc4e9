/**
 * Which implementation of AES-256-GCM a thread has: libcrypto where there is much to do and nothing is wrong with it,
 * node:crypto in every other case.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { spawnSync } from "node:child_process";
import { test, type TestContext } from "node:test";
import {
  chooseMessageCipher,
  MESSAGES_BEFORE_LOADING,
  ThreadCipher,
} from "../../src/crypto/choose-message-cipher.ts";
import type { ForeignFunctions } from "../../src/crypto/foreign-functions.ts";
import type { MessageCipher } from "../../src/crypto/message-cipher.ts";
import { nodeMessageCipher } from "../../src/crypto/node-message-cipher.ts";
import { defectOf } from "../../src/crypto/prove-message-cipher.ts";
import { UsageError } from "../../src/errors.ts";
import { type ForeignFunction, koffi, koffiWith } from "../support/koffi.ts";
import { TDE_PROGRAM } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const isLibcrypto = ({ name }: MessageCipher): boolean => name.startsWith("libcrypto");

function missing(): ForeignFunctions {
  throw new Error("Cannot find module 'koffi'\nRequire stack:\n- tde");
}

test("koffi is loaded once, and not before there are many messages", () => {
  let loaded = 0;
  const thread = new ThreadCipher(undefined, () => {
    loaded++;
    return koffi;
  });
  for (let i = 0; i < MESSAGES_BEFORE_LOADING; i++)
    assert.equal(thread.forMessage(), nodeMessageCipher);
  assert.equal(loaded, 0);
  const cipher = thread.forMessage();
  assert.ok(isLibcrypto(cipher));
  for (let i = 0; i < 10; i++) assert.equal(thread.forMessage(), cipher);
  assert.equal(thread.choice.cipher, cipher);
  assert.equal(loaded, 1);
});

test("without koffi a thread stays with node:crypto, asks no second time and says why", () => {
  let loaded = 0;
  const thread = new ThreadCipher("", () => {
    loaded++;
    return missing();
  });
  for (let i = 0; i < MESSAGES_BEFORE_LOADING + 10; i++)
    assert.equal(thread.forMessage(), nodeMessageCipher);
  assert.deepEqual(thread.choice, {
    cipher: nodeMessageCipher,
    reason: "Cannot find module 'koffi'",
  });
  assert.equal(loaded, 1);
});

test("TDE_CRYPTO decides from the first message on, and is refused where it cannot be followed", () => {
  assert.ok(isLibcrypto(new ThreadCipher("libcrypto", () => koffi).forMessage()));
  const reference = new ThreadCipher("node", () => assert.fail("koffi is loaded"));
  for (let i = 0; i < MESSAGES_BEFORE_LOADING + 10; i++)
    assert.equal(reference.forMessage(), nodeMessageCipher);
  const refusal =
    (value: string): ForeignFunction =>
    () =>
      new ThreadCipher(value, missing).forMessage();
  assert.throws(refusal("libcrypto"), (error: unknown) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /cannot be used: Cannot find module 'koffi'$/);
    return true;
  });
  assert.throws(refusal("openssl"), /^UsageError: TDE_CRYPTO is "openssl"$/);
});

const FUNCTIONS = [
  "OpenSSL_version",
  "EVP_CIPHER_fetch",
  "EVP_CIPHER_CTX_new",
  "EVP_CIPHER_CTX_reset",
  "EVP_CipherInit_ex",
  "EVP_CipherUpdate",
  "EVP_CipherFinal_ex",
  "EVP_CIPHER_CTX_ctrl",
  "ERR_clear_error",
];

for (const name of FUNCTIONS) {
  test(`a library without ${name} is not used`, () => {
    const { cipher, reason } = chooseMessageCipher(undefined, () =>
      koffiWith((found, real) => {
        if (found === name) throw new Error(`Cannot find function '${name}' in shared library`);
        return real;
      }),
    );
    assert.equal(cipher, nodeMessageCipher);
    assert.match(reason ?? "", new RegExp(name));
  });
}

/** One function, and what a broken one does. */
const BROKEN: Readonly<
  Record<string, readonly [string, (real: ForeignFunction) => ForeignFunction, RegExp]>
> = {
  "of another version": ["OpenSSL_version", () => () => "OpenSSL 9.9.9", /found OpenSSL 9\.9\.9/],
  "that has no AES-256-GCM": ["EVP_CIPHER_fetch", () => () => null, /EVP_CIPHER_fetch/],
  "with another cipher": [
    "EVP_CIPHER_fetch",
    (real) => (context, _name, properties) => real(context, "ChaCha20-Poly1305", properties),
    /known answer|failed/,
  ],
  "that takes every tag": [
    "EVP_CipherFinal_ex",
    (real) =>
      (...args) =>
        [real(...args), 1][1],
    /a wrong tag holds/,
  ],
  "that leaves the tag out": ["EVP_CIPHER_CTX_ctrl", () => () => 1, /known answer/],
  "that keeps its first key": [
    "EVP_CipherInit_ex",
    (real) => {
      let first: Buffer | undefined;
      return (context, cipher, engine, key, ...rest) => {
        if (Buffer.isBuffer(key)) first ??= Buffer.from(key);
        return real(context, cipher, engine, key === null ? null : first, ...rest);
      };
    },
    /known answer/,
  ],
  "that leaves the AAD out": [
    "EVP_CipherUpdate",
    (real) => (context, output, written, input, bytes) => {
      if (output !== null) return real(context, output, written, input, bytes);
      if (written instanceof Int32Array) written[0] = Number(bytes);
      return 1;
    },
    /known answer/,
  ],
};

for (const [what, [name, broken, reason]] of Object.entries(BROKEN)) {
  test(`a library ${what} is not used`, () => {
    const choice = chooseMessageCipher(undefined, () =>
      koffiWith((found, real) => (found === name ? broken(real) : real)),
    );
    assert.equal(choice.cipher, nodeMessageCipher);
    assert.match(choice.reason ?? "", reason);
  });
}

const FAULTY: Readonly<Record<string, readonly [Partial<MessageCipher>, RegExp]>> = {
  nothing: [{}, /^$/],
  "plaintext left behind": [
    {
      decrypt(key, nonce, aad, ciphertext, tag, output) {
        const opened = nodeMessageCipher.decrypt(key, nonce, aad, ciphertext, tag, output);
        if (opened === undefined) output?.subarray(0, 1).fill(1);
        return opened;
      },
    },
    /a wrong tag leaves plaintext behind/,
  ],
  "a buffer of its own instead of the one given": [
    {
      decrypt: (key, nonce, aad, ciphertext, tag) =>
        nodeMessageCipher.decrypt(key, nonce, aad, ciphertext, tag),
    },
    /a right tag does not hold/,
  ],
  "nothing encrypted in place": [
    {
      encrypt: (key, nonce, aad, plaintext, tag) =>
        nodeMessageCipher.encrypt(key, nonce, aad, plaintext, tag),
    },
    /does not encrypt in place, in a message of 1 bytes/,
  ],
  "a message of a page that comes out otherwise": [
    {
      encrypt(key, nonce, aad, plaintext, tag, output) {
        const text = nodeMessageCipher.encrypt(key, nonce, aad, plaintext, tag, output);
        if (text.length > 8000) text.writeUInt8(text.readUInt8(8000) ^ 1, 8000);
        return text;
      },
    },
    /encrypts otherwise than node:crypto, in a message of 8170 bytes/,
  ],
};

for (const [what, [fault, found]] of Object.entries(FAULTY)) {
  test(`the proof finds ${what}`, () => {
    const defect = defectOf({ ...nodeMessageCipher, ...fault }, nodeMessageCipher);
    assert.match(defect ?? "", found);
  });
}

/** The program as it is where the optional dependency was not installed. */
function withoutKoffi(t: TestContext): string {
  const root = dirname(dirname(TDE_PROGRAM));
  const folder = temporaryDirectory(t);
  for (const part of ["bin", "dist/bundle", "package.json"])
    cpSync(join(root, part), join(folder, part), { recursive: true });
  mkdirSync(join(folder, "node_modules"));
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (name !== "koffi" && !name.startsWith("."))
      symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  }
  return join(folder, "bin/tde.js");
}

test("tde --version -v says by what it encrypts, and without koffi why not by libcrypto", (t) => {
  const version = process.versions.openssl.replaceAll(/[.+]/g, "\\$&");
  const run = (program: string, crypto: string): string => {
    const { TDE_CRYPTO: _, ...kept } = process.env;
    const env = crypto === "" ? kept : { ...kept, TDE_CRYPTO: crypto };
    const { stdout, stderr } = spawnSync(process.execPath, [program, "--version", "-v"], {
      encoding: "utf8",
      env,
    });
    return stdout + stderr;
  };
  assert.match(
    run(TDE_PROGRAM, ""),
    new RegExp(`^AES-256-GCM: libcrypto, OpenSSL ${version}$`, "m"),
  );
  assert.match(
    run(TDE_PROGRAM, "node"),
    new RegExp(`^AES-256-GCM: node:crypto, OpenSSL ${version}$`, "m"),
  );
  const without = withoutKoffi(t);
  assert.match(
    run(without, ""),
    new RegExp(
      `^AES-256-GCM: node:crypto, OpenSSL ${version} \\(not libcrypto: Cannot find module 'koffi'\\)$`,
      "m",
    ),
  );
  assert.match(
    run(without, "libcrypto"),
    /tde: error: TDE_CRYPTO asks for libcrypto.*\ntde: hint: Install/,
  );
});
