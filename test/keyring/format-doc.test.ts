import assert from "node:assert/strict";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import {
  deriveKey,
  exportKey,
  gcmDecrypt,
  hkdf,
  hmacSha256,
  scryptKey,
  secretKey,
  sha256,
} from "../../src/crypto/primitives.ts";
import { IntegrityError } from "../../src/errors.ts";
import { openKeyring } from "../../src/keyring/keyring.ts";
import { KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { PassphraseProvider } from "../../src/keyring/providers/passphrase.ts";
import { loadState } from "../../src/keyring/state.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const NONE = Buffer.alloc(0);
const ascii = (text: string): Buffer => Buffer.from(text, "latin1");

/** The documents of the format, in which the vectors stand. */
function documents(): string {
  const folder = ["../../", "../../../"]
    .map((up) => new URL(`${up}docs/`, import.meta.url))
    .find((url) => existsSync(url));
  assert.ok(folder);
  const names = readdirSync(folder).filter((name) => /^FORMAT.*\.md$/.test(name));
  return names.map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n");
}

const text = documents();
const block = (name: string): string => {
  const found = new RegExp(`^\`\`\`${name}\n([^]*?)^\`\`\`$`, "m").exec(text)?.[1];
  assert.ok(found, `a block ${name}`);
  return found;
};
const value = (name: string, pattern = "\\S.*"): string => {
  const found = new RegExp(`^    ${name} +(${pattern})$`, "m").exec(text)?.[1];
  assert.ok(found, name);
  return found;
};
const bytes = (name: string): Buffer => Buffer.from(value(name, "[0-9a-f]{64}"), "hex");
const keyring = block("tde-keyring");
const state = block("tde-state");

function field(line: RegExp, name: string): Buffer {
  const found = keyring.split("\n").find((one) => line.test(one));
  return Buffer.from(new RegExp(`${name}=(\\S+)`).exec(found ?? "")?.[1] ?? "", "base64");
}

/** Of the 60 bytes of a wrapped key. */
function unwrap(
  kek: ReturnType<typeof secretKey>,
  aad: Buffer,
  wrapped: Buffer,
): Buffer | undefined {
  const [nonce, ciphertext, tag] = [
    wrapped.subarray(0, 12),
    wrapped.subarray(12, 44),
    wrapped.subarray(44),
  ];
  return gcmDecrypt(kek, nonce, aad, ciphertext, tag);
}

test("the document's keyring follows from its formulas", async () => {
  const id = Buffer.from(/^id (.*)$/m.exec(keyring)?.[1] ?? "", "hex");
  const keyFileKek = deriveKey(
    secretKey(bytes("key file")),
    field(/^recipient 1/, "salt"),
    Buffer.concat([ascii("tde/v1/key-file"), id]),
  );
  const recipientAad = (type: string): Buffer =>
    Buffer.concat([ascii("tde/v1/recipient"), id, ascii(type)]);
  const keyringKey = unwrap(keyFileKek, recipientAad("key-file"), field(/^recipient 1/, "wrapped"));
  assert.deepEqual(keyringKey, bytes("keyring key"));
  const salt = Buffer.concat([ascii("tde/v1/scrypt"), field(/^recipient 3/, "salt")]);
  const scryptKek = await scryptKey(ascii(value("passphrase")), salt, 14);
  const again = unwrap(scryptKek, recipientAad("scrypt"), field(/^recipient 3/, "wrapped"));
  assert.deepEqual(again, keyringKey);

  const key = secretKey(bytes("keyring key"));
  for (const keyId of [2, 3]) {
    const number = Buffer.from([keyId, 0, 0, 0]);
    const dek = unwrap(
      deriveKey(key, NONE, ascii("tde/v1/dek-wrap")),
      Buffer.concat([ascii("tde/v1/dek"), id, number]),
      field(new RegExp(`^key ${keyId}`), "wrapped"),
    );
    assert.deepEqual(dek, bytes(`DEK ${keyId}`));
    const check = hkdf(secretKey(bytes(`DEK ${keyId}`)), NONE, ascii("tde/v1/key-check"), 8);
    assert.match(keyring, new RegExp(`^key ${keyId} .* check=${check.toString("hex")} `, "m"));
  }
  const before = (name: string): Buffer =>
    ascii(keyring.slice(0, keyring.indexOf(`\n${name} `) + 1));
  const mac = hmacSha256(deriveKey(key, NONE, ascii("tde/v1/keyring-mac")), before("mac"));
  assert.ok(keyring.includes(`\nmac ${mac.toString("hex")}\n`));
  assert.ok(keyring.endsWith(`\nsum ${sha256(before("sum")).toString("hex")}\n`));

  const stateKey = deriveKey(secretKey(bytes("DEK 3")), id, ascii("tde/v1/state"));
  const stateMac = hmacSha256(stateKey, ascii(state.slice(0, state.indexOf("\nmac ") + 1)));
  assert.ok(state.includes(`\nmac ${stateMac.toString("hex")}\n`));
});

test("tde opens the document's keyring by either recipient, and believes its state file", async (t) => {
  const folder = temporaryDirectory(t);
  const path = (name: string): ReturnType<typeof bytePath> => bytePath(join(folder, name));
  const fs = new NodeFileSystem();
  writeFileSync(path("k"), keyring);
  writeFileSync(path("k.state"), state);
  writeFileSync(path("kek"), bytes("key file"));
  for (const name of ["k", "kek"]) chmodSync(path(name), 0o600);
  const place = { fs, path: path("k"), command: "tde test" };
  const providers = [
    new KeyFileProvider(fs, path("kek")),
    new PassphraseProvider(ascii(value("passphrase")), "the passphrase"),
  ];
  for (const provider of providers) {
    const keys = (await openKeyring(place, [provider])).dataKeys();
    for (const keyId of [2, 3]) {
      const dek = keys.keys.get(keyId)?.dek;
      assert.ok(dek);
      assert.deepEqual(exportKey(dek), bytes(`DEK ${keyId}`));
    }
    const { status, directories, keyLoad, keyLimitPages } = loadState(fs, path("k.state"), keys);
    assert.equal(status, "verified");
    assert.equal(directories.get("00112233445566778899aabbccddeeff")?.epoch, 6n);
    assert.deepEqual(keyLoad.get(2), { pages: 4096, bytes: 33554432 });
    assert.equal(keyLimitPages, 1_000_000);
  }
});

/** The document's keyring with some lines changed, and MAC and sum made anew by someone who has the keyring key. */
function resealed(change: (text: string) => string): string {
  const body = change(keyring.slice(0, keyring.indexOf("\nmac ") + 1));
  assert.ok(!keyring.startsWith(body), "nothing was changed");
  const macKey = deriveKey(secretKey(bytes("keyring key")), NONE, ascii("tde/v1/keyring-mac"));
  const withMac = `${body}mac ${hmacSha256(macKey, ascii(body)).toString("hex")}\n`;
  return `${withMac}sum ${sha256(ascii(withMac)).toString("hex")}\n`;
}

test("a wrapped key, or a check value, that is not its key's is an IntegrityError, although the MAC holds", async (t) => {
  const folder = temporaryDirectory(t);
  const path = (name: string): ReturnType<typeof bytePath> => bytePath(join(folder, name));
  const fs = new NodeFileSystem();
  writeFileSync(path("kek"), bytes("key file"), { mode: 0o600 });
  const wrappedOf = (keyId: number): string =>
    new RegExp(`^key ${keyId} .* wrapped=(\\S+)$`, "m").exec(keyring)?.[1] ?? assert.fail();
  const [two, three] = [wrappedOf(2), wrappedOf(3)];
  const flipped = Buffer.from(two, "base64");
  flipped.writeUInt8(flipped.readUInt8(20) ^ 1, 20);
  for (const [i, change] of [
    (text: string) => text.replace(two, flipped.toString("base64")),
    (text: string) => text.replace("check=61ce", "check=61cf"),
    (text: string) => text.replace(three, "!").replace(two, three).replace("!", two),
    (text: string) => text.replace(three, two),
  ].entries()) {
    writeFileSync(path(`k${i}`), resealed(change), { mode: 0o600 });
    const place = { fs, path: path(`k${i}`), command: "tde test" };
    const provider = new KeyFileProvider(fs, path("kek"));
    await assert.rejects(openKeyring(place, [provider]), IntegrityError, `case ${i}`);
  }
  writeFileSync(
    path("same"),
    resealed((text) => text.replace("generation 7", "generation 8")),
    {
      mode: 0o600,
    },
  );
  const place = { fs, path: path("same"), command: "tde test" };
  assert.equal(
    (await openKeyring(place, [new KeyFileProvider(fs, path("kek"))])).file.generation,
    8,
  );
});
