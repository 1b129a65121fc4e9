/**
 * The vectors of sealed relation files, journal, keyring and state file in docs/FORMAT.md, which another program made
 * from that page alone. The code must open what they store, and agree on every key, AAD, slot and MAC in between.
 */
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { deriveKey, exportKey, hkdf, secretKey, sha256 } from "../../src/crypto/primitives.ts";
import type { RunFacts } from "../../src/datadir/relation-job.ts";
import { derivePageKey, deriveSidecarMacKey } from "../../src/format/file-keys.ts";
import { serializeIdentity } from "../../src/format/identity.ts";
import { PageAad } from "../../src/format/page-message.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { keyFileKek, passphraseKek, stateMac } from "../../src/keyring/key-wrap.ts";
import { openKeyring } from "../../src/keyring/keyring.ts";
import { KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { PassphraseProvider } from "../../src/keyring/providers/passphrase.ts";
import { parseStateFile, serializeStateFile, stateBytes } from "../../src/keyring/state-file.ts";
import {
  Journal,
  type JournalOperation,
  readJournalHeader,
  type DueStep,
} from "../../src/storage/journal.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { deriveSaltKey, isSaltOfRun, newFileSalt } from "../../src/format/file-salt.ts";
import { vectorsOf } from "../support/format-document.ts";
import { fileIdentity, openBytes } from "../support/relation-bytes.ts";
import {
  assembleSidecar,
  type BookFile,
  type BookIdentity,
  bookKeys,
  hexOfKey,
  identityBytes,
  sealBlocks,
} from "../support/sealed-by-the-book.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

interface BlockVector {
  readonly block: number;
  readonly kind: number;
  readonly keyId: number;
  readonly epoch: string;
  readonly nonce: string;
  readonly original: {
    readonly header?: string;
    readonly bytes: number;
    readonly fill: readonly [number, number];
  };
  readonly originalSha256: string;
  readonly aad: string;
  readonly slot: string;
  readonly storedHeader?: string;
  readonly stored?: string;
  readonly storedSha256: string;
}

interface RelationVector {
  readonly name: string;
  readonly blockSize: number;
  readonly dataChecksums: boolean;
  readonly keyringId: string;
  readonly identity: BookIdentity;
  readonly fileSalt: string;
  readonly macKeyId: number;
  readonly keys: readonly {
    readonly id: number;
    readonly dek: string;
    readonly pageKey: string;
    readonly commitment: string;
    readonly sidecarMacKey: string;
  }[];
  readonly identityBytes: string;
  readonly slots: readonly BlockVector[];
  readonly originalSha256: string;
  readonly storedSha256: string;
  readonly sidecarPages: readonly {
    readonly header: string;
    readonly special: string;
    readonly mac: string;
    readonly sha256: string;
  }[];
  readonly sidecarBytes: number;
  readonly fileRoot: string;
}

const fs = new NodeFileSystem();
const relations = vectorsOf<RelationVector>("relation file");

test("the specification has vectors of every kind of block", () => {
  const slots = relations.flatMap((vector) => vector.slots);
  assert.deepEqual(new Set(slots.map(({ kind }) => kind)), new Set([1, 2, 3]));
  const flags = slots.map(({ slot }) => Buffer.from(slot, "hex").readUInt16LE(2));
  assert.deepEqual(new Set(flags), new Set([0, 1, 2, 3]));
  assert.ok(relations.some(({ keys }) => keys.length === 2));
});

for (const vector of relations) {
  const file: BookFile = {
    ...vector,
    fileSalt: Buffer.from(vector.fileSalt, "hex"),
    deks: new Map(vector.keys.map(({ id, dek }) => [id, secretKey(Buffer.from(dek, "hex"))])),
  };
  const identity = fileIdentity(vector.identity);
  const originals = vector.slots.map(originalOf);

  test(`vector of a relation file: ${vector.name}: keys`, () => {
    assert.equal(serializeIdentity(identity).toString("hex"), vector.identityBytes);
    assert.equal(identityBytes(vector.identity).toString("hex"), vector.identityBytes);
    for (const { id, dek, pageKey, commitment, sidecarMacKey } of vector.keys) {
      const key = secretKey(Buffer.from(dek, "hex"));
      const derived = derivePageKey(key, file.fileSalt, id, identity);
      assert.equal(hexOfKey(derived.key), pageKey);
      assert.equal(derived.commitment.toString("hex"), commitment);
      assert.equal(hexOfKey(deriveSidecarMacKey(key, file.fileSalt, identity)), sidecarMacKey);
      assert.equal(bookKeys(file, id).pageKey.toString("hex"), pageKey);
    }
  });

  test(`vector of a relation file: ${vector.name}: sealing by the book`, () => {
    const sealed = sealBlocks(
      file,
      vector.slots.map(({ keyId, epoch, nonce }, i) => ({
        original: originals[i] ?? Buffer.alloc(0),
        keyId,
        epoch: BigInt(epoch),
        nonce: Buffer.from(nonce, "hex"),
      })),
    );
    const aad = new PageAad(identity);
    for (const [i, expected] of vector.slots.entries()) {
      const block = sealed[i];
      assert.ok(block !== undefined);
      assert.equal(expected.block, identity.firstBlock + i);
      assert.equal(
        sha256(originals[i] ?? Buffer.alloc(0)).toString("hex"),
        expected.originalSha256,
      );
      assert.equal(block.aad.toString("hex"), expected.aad);
      assert.equal(block.slot.toString("hex"), expected.slot);
      assert.equal(sha256(block.stored).toString("hex"), expected.storedSha256);
      if (expected.stored !== undefined)
        assert.equal(block.stored.toString("hex"), expected.stored);
      if (expected.storedHeader !== undefined)
        assert.equal(block.stored.toString("hex", 0, 24), expected.storedHeader);
      const { slot, stored } = block;
      const ofTheCode =
        expected.kind === 1
          ? aad.forPage(i, slot, 0, stored, 0)
          : expected.kind === 2
            ? aad.forZeroPage(i, slot, 0)
            : aad.forTail(i, slot, 0);
      assert.equal(ofTheCode.toString("hex"), expected.aad);
    }
    const sidecar = assembleSidecar(
      file,
      sealed.map(({ slot }) => slot),
    );
    assert.equal(sidecar.length, vector.sidecarBytes);
    assert.equal(sha256(sidecar).toString("hex"), vector.fileRoot);
  });

  test(`vector of a relation file: ${vector.name}: opening`, () => {
    const sealed = sealBlocks(
      file,
      vector.slots.map(({ keyId, epoch, nonce }, i) => ({
        original: originals[i] ?? Buffer.alloc(0),
        keyId,
        epoch: BigInt(epoch),
        nonce: Buffer.from(nonce, "hex"),
      })),
    );
    const stored = Buffer.concat(sealed.map((block) => block.stored));
    assert.equal(sha256(stored).toString("hex"), vector.storedSha256);
    const sidecar = sidecarOf(vector);
    assert.equal(sha256(sidecar).toString("hex"), vector.fileRoot);
    const facts: RunFacts = {
      blockSizeBytes: vector.blockSize,
      dataChecksums: vector.dataChecksums,
      keys: keysOf(vector.keyringId, file),
      keyringId: vector.keyringId,
      epoch: BigInt(vector.slots.at(0)?.epoch ?? 0),
    };
    const { problems, plain } = openBytes(facts, identity, { stored, sidecar });
    assert.deepEqual(problems, []);
    assert.ok(plain !== undefined);
    assert.ok(plain.equals(Buffer.concat(originals)));
    assert.equal(sha256(plain).toString("hex"), vector.originalSha256);
  });
}

interface JournalVector {
  readonly name: string;
  readonly dek: string;
  readonly journalKey: string;
  readonly runId: string;
  readonly directoryId: string;
  readonly keyringId: string;
  readonly keyId: number;
  readonly operation: JournalOperation;
  readonly epoch: string;
  readonly plan: string;
  readonly due: readonly DueStep[];
  readonly committed: readonly DueStep[];
  readonly header: string;
  readonly records: readonly string[];
  readonly sha256: string;
}

for (const vector of vectorsOf<JournalVector>("journal")) {
  test(`vector of a journal: ${vector.name}`, (t) => {
    const runId = Buffer.from(vector.runId, "hex");
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const key = deriveKey(dek, runId, Buffer.from("tde/v1/journal"));
    assert.equal(exportKey(key).toString("hex"), vector.journalKey);
    const { directoryId, keyringId, keyId, operation, plan, due, committed } = vector;
    const header = { runId, directoryId, keyringId, keyId, operation, epoch: BigInt(vector.epoch) };

    const written = bytePath(temporaryDirectory(t));
    const journal = Journal.create(fs, written, key, header, plan);
    journal.due(due);
    journal.commit(committed);
    journal.close();
    const bytes = Buffer.from(vector.header + vector.records.join(""), "hex");
    assert.equal(sha256(bytes).toString("hex"), vector.sha256);
    assert.equal(readText(join(written, "tde.journal")), bytes.toString("hex"));

    const folder = temporaryDirectory(t);
    const read = (records: number): ReturnType<typeof Journal.resume>["content"] => {
      const part = vector.header + vector.records.slice(0, records).join("");
      writeFileSync(join(folder, "tde.journal"), Buffer.from(part, "hex"));
      assert.deepEqual(readJournalHeader(fs, bytePath(folder)), header);
      const resumed = Journal.resume(fs, bytePath(folder), key);
      resumed.journal.close();
      return resumed.content;
    };
    const nothing = { header, plan, due: [], redo: [], entered: false, committed: false };
    assert.deepEqual(read(1), nothing);
    assert.deepEqual(read(2), { ...nothing, due, entered: true });
    assert.deepEqual(read(3), { ...nothing, due: committed, entered: true, committed: true });
  });
}

interface RedoVector extends Omit<JournalVector, "due" | "committed"> {
  readonly redo: readonly {
    readonly path: BytePath;
    readonly size: number;
    readonly parts: readonly { readonly position: number; readonly bytes: string }[];
  }[];
}

for (const vector of vectorsOf<RedoVector>("journal with redo")) {
  test(`vector of a journal: ${vector.name}`, (t) => {
    const runId = Buffer.from(vector.runId, "hex");
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const key = deriveKey(dek, runId, Buffer.from("tde/v1/journal"));
    assert.equal(exportKey(key).toString("hex"), vector.journalKey);
    const { directoryId, keyringId, keyId, operation, plan } = vector;
    const header = { runId, directoryId, keyringId, keyId, operation, epoch: BigInt(vector.epoch) };
    const redo = vector.redo.map(({ path, size, parts }) => ({
      path,
      sizeBytes: size,
      parts: parts.map(({ position, bytes }) => ({ position, bytes: Buffer.from(bytes, "hex") })),
    }));
    const folder = temporaryDirectory(t);
    const journal = Journal.create(fs, bytePath(folder), key, header, plan);
    journal.redo(redo);
    journal.close();
    const bytes = vector.header + vector.records.join("");
    assert.equal(readText(join(folder, "tde.journal")), bytes);
    assert.equal(sha256(Buffer.from(bytes, "hex")).toString("hex"), vector.sha256);
    const resumed = Journal.resume(fs, bytePath(folder), key);
    resumed.journal.close();
    assert.deepEqual(resumed.content, {
      header,
      plan,
      due: [],
      redo,
      entered: true,
      committed: false,
    });
  });
}

interface KeyringVector {
  readonly name: string;
  readonly passphrase: string;
  readonly scryptKek: string;
  readonly keyFile: string;
  readonly keyFileKek: string;
  readonly deks: Readonly<Record<string, string>>;
  readonly lines: readonly string[];
}

for (const vector of vectorsOf<KeyringVector>("keyring")) {
  test(`vector of a keyring: ${vector.name}`, async (t) => {
    const folder = temporaryDirectory(t);
    const path = join(folder, "app.keyring");
    writeFileSync(path, lines(vector.lines), { mode: 0o600 });
    const keyFile = join(folder, "kek.key");
    writeFileSync(keyFile, Buffer.from(vector.keyFile, "hex"), { mode: 0o600 });
    chmodSync(path, 0o600);
    const passphrase = Buffer.from(vector.passphrase);
    const providers = [
      new PassphraseProvider(passphrase, "a passphrase"),
      new KeyFileProvider(fs, bytePath(keyFile)),
    ];
    for (const [i, provider] of providers.entries()) {
      const place = { fs, path: bytePath(path), command: "a test" };
      const keyring = await openKeyring(place, [provider]);
      assert.equal(keyring.openedBy, i + 1);
      const held = [...keyring.dataKeys().keys].flatMap(([id, { dek }]) =>
        dek === undefined ? [] : [[String(id), hexOfKey(dek)]],
      );
      assert.deepEqual(Object.fromEntries(held), vector.deks);
    }
    const saltOf = (line: string | undefined): Buffer =>
      Buffer.from(/ salt=(\S+)/.exec(line ?? "")?.[1] ?? "", "base64");
    const scrypt = await passphraseKek(passphrase, saltOf(vector.lines[3]), 14);
    assert.equal(hexOfKey(scrypt), vector.scryptKek);
    const id = vector.lines[1]?.slice("id ".length) ?? "";
    const key = secretKey(Buffer.from(vector.keyFile, "hex"));
    assert.equal(hexOfKey(keyFileKek(key, saltOf(vector.lines[4]), id)), vector.keyFileKek);
  });
}

interface SaltVector {
  readonly name: string;
  readonly dek: string;
  readonly runId: string;
  readonly saltKey: string;
  readonly salts: readonly { readonly path: string; readonly salt: string }[];
}

for (const vector of vectorsOf<SaltVector>("file salt")) {
  test(`vector of file salts: ${vector.name}`, () => {
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const key = deriveSaltKey(dek, Buffer.from(vector.runId, "hex"));
    assert.equal(hexOfKey(key), vector.saltKey);
    for (const { path, salt } of vector.salts) {
      const bytes = Buffer.from(salt, "hex");
      assert.ok(isSaltOfRun(key, path, bytes));
      assert.ok(!isSaltOfRun(key, `${path}.1`, bytes));
      for (let bit = 0; bit < 128; bit++) {
        const other = Buffer.from(bytes);
        other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.ok(!isSaltOfRun(key, path, other), `bit ${bit}`);
      }
      const made = newFileSalt(key, path);
      assert.ok(isSaltOfRun(key, path, made) && made.length === 16);
      assert.notDeepEqual(newFileSalt(key, path), made);
    }
  });
}

interface StateVector {
  readonly name: string;
  readonly dek: string;
  readonly stateKey: string;
  readonly lines: readonly string[];
}

for (const vector of vectorsOf<StateVector>("state")) {
  test(`vector of a state file: ${vector.name}`, () => {
    const bytes = lines(vector.lines);
    const { version, keyId, content, mac } = parseStateFile(bytes);
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const id = Buffer.from(content.keyringId, "hex");
    const derived = hkdf(dek, id, Buffer.from("tde/v1/state"), 32);
    assert.equal(derived.toString("hex"), vector.stateKey);
    assert.deepEqual(stateMac(dek, content.keyringId, stateBytes(keyId, content, version)), mac);
    assert.deepEqual(serializeStateFile({ version, keyId, content, mac }), bytes);
  });
}

function lines(texts: readonly string[]): Buffer {
  return Buffer.from(texts.map((text) => `${text}\n`).join(""), "latin1");
}

function readText(path: string): string {
  const file = fs.open(bytePath(path));
  try {
    const bytes = Buffer.alloc(file.stat().sizeBytes);
    file.read(bytes, 0, bytes.length, 0);
    return bytes.toString("hex");
  } finally {
    file.close();
  }
}

function originalOf({ original }: BlockVector): Buffer {
  const [factor, sum] = original.fill;
  const bytes = Buffer.from(Array.from({ length: original.bytes }, (_, i) => factor * i + sum));
  if (original.header !== undefined) Buffer.from(original.header, "hex").copy(bytes);
  return bytes;
}

/** From the slots and the parts that the document gives, not from the code under test. */
function sidecarOf(vector: RelationVector): Buffer {
  const perPage = vector.blockSize / 128 - 1;
  return Buffer.concat(
    vector.sidecarPages.map((page, number) => {
      const slots = vector.slots.slice(number * perPage, (number + 1) * perPage);
      const bytes = Buffer.alloc(vector.blockSize);
      Buffer.from(page.header + slots.map(({ slot }) => slot).join(""), "hex").copy(bytes);
      Buffer.from(page.special, "hex").copy(bytes, vector.blockSize - 104);
      assert.equal(sha256(bytes).toString("hex"), page.sha256);
      assert.ok(page.special.endsWith(page.mac));
      return bytes;
    }),
  );
}

function keysOf(keyringId: string, file: BookFile): DataKeys {
  const keys = [...file.deks].map(([id, dek]) => {
    const state = id === file.macKeyId ? "current" : "readable";
    return [id, { state, dek }] as const;
  });
  return { keyringId, currentKeyId: file.macKeyId, keys: new Map(keys) };
}
