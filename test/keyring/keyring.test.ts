import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { exportKey, secretKey, sha256 } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, KeyError, StateError, UsageError } from "../../src/errors.ts";
import type { KeyProvider, WrappedKey } from "../../src/keyring/key-provider.ts";
import { keyringMac, unwrapDek } from "../../src/keyring/key-wrap.ts";
import { authenticatedBytes } from "../../src/keyring/keyring-file.ts";
import {
  createKeyring,
  type Keyring,
  type KeyringPlace,
  openKeyring,
} from "../../src/keyring/keyring.ts";
import { createKeyFile, KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { PassphraseProvider } from "../../src/keyring/providers/passphrase.ts";
import { loadState, rememberDirectory, type State, updateState } from "../../src/keyring/state.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";

const fs = new NodeFileSystem();

interface Setup {
  readonly folder: string;
  readonly path: string;
  readonly place: KeyringPlace;
  readonly key: KeyProvider;
  readonly keyring: Keyring;
}

function newKeyFile(folder: string, name: string): KeyProvider {
  const path = bytePath(join(folder, name));
  createKeyFile(fs, path);
  return new KeyFileProvider(fs, path);
}

/** Cheap to open; the format allows no less work. */
function passphrase(text: string): KeyProvider {
  return new PassphraseProvider(Buffer.from(text), "the passphrase", 14);
}

async function setup(t: TestContext): Promise<Setup> {
  const folder = temporaryDirectory(t);
  const path = join(folder, "k");
  const place = { fs, path: bytePath(path), command: "tde test" };
  const key = newKeyFile(folder, "kek");
  return { folder, path, place, key, keyring: await createKeyring(place, key, "first") };
}

function noState(keyring: Keyring): State {
  return loadState(fs, bytePath("/nonexistent/state"), keyring.dataKeys());
}

function dekBytes(keyring: Keyring): Record<number, string | undefined> {
  const entries = [...keyring.dataKeys().keys].map(([id, { dek }]) => [
    id,
    dek && exportKey(dek).toString("hex"),
  ]);
  return Object.fromEntries(entries);
}

/** The file with some lines changed and its sum made anew, as someone without a key can do. */
function forge(path: string, change: (text: string) => string): void {
  const text = change(readFileSync(path, "latin1").replace(/sum .*\n$/, ""));
  const sum = sha256(Buffer.from(text, "latin1")).toString("hex");
  writeFileSync(path, `${text}sum ${sum}\n`, "latin1");
}

/** Counts what it is tried on, without any work. */
class CountingPassphrase implements KeyProvider {
  readonly typeName = "scrypt";
  readonly description = "the passphrase";
  tried = 0;
  readonly #logN: number;

  constructor(logN = 20) {
    this.#logN = logN;
  }

  async wrap(): Promise<WrappedKey> {
    const parameters = new Map([
      ["logN", String(this.#logN)],
      ["salt", Buffer.alloc(16, 1).toString("base64")],
    ]);
    return { parameters, wrapped: Buffer.alloc(60, 1) };
  }

  async unwrap(): Promise<undefined> {
    this.tried++;
  }

  reread(): undefined {}

  dispose(): void {}
}

function recipientLines(count: number, logN: number): string {
  const fields = `salt=${Buffer.alloc(16, 1).toString("base64")} wrapped=${Buffer.alloc(60, 1).toString("base64")} label=`;
  return Array.from(
    { length: count },
    (_, i) => `recipient ${i + 2} scrypt logN=${logN} ${fields}\n`,
  ).join("");
}

test("a passphrase is tried on no keyring whose recipients someone made to take for ever", async (t) => {
  const { path, place, key } = await setup(t);
  const before = readFileSync(path);
  for (const [count, logN, tried] of [
    [8, 20, 0],
    [5, 20, 0],
    [4, 20, 4],
    // What tde itself can have written.
    [31, 17, 31],
  ] as const) {
    writeFileSync(path, before);
    forge(path, (text) => text.replace(/(?=key 1)/, recipientLines(count, logN)));
    const provider = new CountingPassphrase();
    await assert.rejects(openKeyring(place, [provider]), {
      code: "key",
      message: tried === 0 ? /is not tried on .* together, more than 4194304$/ : /^wrong key/,
    });
    assert.equal(provider.tried, tried);
    // A key file costs nothing: the file is not authentic, and that is what is said.
    await assert.rejects(openKeyring(place, [provider, key]), { code: "integrity" });
  }
});

test("no keyring is written that a passphrase would not be tried on", async (t) => {
  const { place, keyring, key } = await setup(t);
  let written = keyring;
  for (let i = 0; i < 4; i++) written = await written.addRecipient(new CountingPassphrase(), "");
  await assert.rejects(written.addRecipient(new CountingPassphrase(14), ""), {
    code: "state",
    message: /would take a work of 4210688 together, more than 4194304$/,
  });
  const now = await openKeyring(place, [key]);
  assert.equal(now.file.recipients.length, 5);
  await assert.rejects(now.rewrap(1, new CountingPassphrase(14)), { code: "state" });
});

test("a new keyring opens again with the same keys and is readable by its owner alone", async (t) => {
  const { place, key, keyring, path } = await setup(t);
  assert.deepEqual(dekBytes(await openKeyring(place, [key])), dekBytes(keyring));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await assert.rejects(createKeyring(place, key, ""), StateError);
});

test("a wrong key, another keyring's key and no key are KeyErrors that name who can open it", async (t) => {
  const { place, folder } = await setup(t);
  const other = newKeyFile(folder, "other");
  for (const providers of [[other], [passphrase("x")], []]) {
    await assert.rejects(openKeyring(place, providers), (error) => {
      assert.ok(error instanceof KeyError);
      assert.match(error.hint ?? "", /recipient 1 \(key-file, "first"\)/);
      return true;
    });
  }
});

test("every flipped bit of the file is detected, with its sum as it was or made anew", async (t) => {
  const { place, key, path } = await setup(t);
  const whole = readFileSync(path);
  const sumStart = whole.length - 69;
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    writeFileSync(path, damaged);
    await assert.rejects(openKeyring(place, [key]), FormatError);
    if (bit >= sumStart * 8) continue;
    damaged.write(sha256(damaged.subarray(0, sumStart)).toString("hex"), sumStart + 4);
    writeFileSync(path, damaged);
    await assert.rejects(
      openKeyring(place, [key]),
      (error) =>
        error instanceof FormatError ||
        error instanceof KeyError ||
        error instanceof IntegrityError,
      `bit ${bit}`,
    );
  }
});

test("a keyring altered by someone without a key is an IntegrityError", async (t) => {
  const { place, key, path, keyring } = await setup(t);
  keyring.newKey(noState(keyring));
  const good = readFileSync(path, "latin1");
  const alterations: ((text: string) => string)[] = [
    (text) => text.replace("label=first", "label=other"),
    (text) => text.replace("generation 2", "generation 3"),
    (text) => text.replace("state=readable", "state=retired"),
    (text) =>
      text
        .replace("key 1 state=readable", "key 1 state=current")
        .replace("key 2 state=current", "key 2 state=readable"),
    (text) => text.replace(/^key 2 .*\n/m, "").replace("state=readable", "state=current"),
    (text) => text.replace(/(recipient 1 .*)\n/, "$1\nrecipient 2 command wrapped=AAAA label=\n"),
    (text) => text.replace(/mac .*/, `mac ${"00".repeat(32)}`),
  ];
  for (const alter of alterations) {
    writeFileSync(path, good, "latin1");
    forge(path, alter);
    await assert.rejects(openKeyring(place, [key]), IntegrityError);
  }
});

test("a keyring that others can read is refused with the command that mends it", async (t) => {
  const { place, key, path } = await setup(t);
  for (const mode of [0o640, 0o604, 0o644, 0o660]) {
    chmodSync(path, mode);
    await assert.rejects(
      openKeyring(place, [key]),
      (error) => error instanceof KeyError && error.hint?.includes(`chmod 600 ${path}`) === true,
    );
  }
});

test("a new key becomes current and the old one stays readable", async (t) => {
  const { place, key, keyring } = await setup(t);
  const next = keyring.newKey(noState(keyring));
  const { keys, currentKeyId } = (await openKeyring(place, [key])).dataKeys();
  assert.equal(currentKeyId, 2);
  assert.deepEqual(
    [...keys].map(([id, { state }]) => [id, state]),
    [
      [1, "readable"],
      [2, "current"],
    ],
  );
  assert.equal(dekBytes(next)[1], dekBytes(keyring)[1]);
  assert.equal(next.file.generation, 2);
});

test("any recipient opens the keyring, and data keys stay the same", async (t) => {
  const { place, key, keyring } = await setup(t);
  const word = passphrase("correct horse");
  const next = await keyring.addRecipient(word, "Büro");
  assert.equal((await openKeyring(place, [word])).openedBy, 2);
  assert.equal((await openKeyring(place, [key])).openedBy, 1);
  assert.equal((await openKeyring(place, [passphrase("wrong"), word])).openedBy, 2);
  assert.deepEqual(dekBytes(next), dekBytes(keyring));
});

test("removing a recipient needs the secrets of all that stay and draws a new keyring key", async (t) => {
  const { folder, place, key, keyring } = await setup(t);
  const [second, third] = [newKeyFile(folder, "2"), newKeyFile(folder, "3")];
  const all = await (await keyring.addRecipient(second, "second")).addRecipient(third, "third");
  await assert.rejects(
    all.removeRecipients([3], [key]),
    (error) =>
      error instanceof KeyError && error.message.includes('recipient 2 (key-file, "second")'),
  );
  await assert.rejects(all.removeRecipients([1, 2, 3], [key]), StateError);
  await assert.rejects(all.removeRecipients([9], [key]), UsageError);
  const next = await all.removeRecipients([3], [second, key]);
  assert.deepEqual(
    next.file.recipients.map(({ number }) => number),
    [1, 2],
  );
  await assert.rejects(openKeyring(place, [third]), KeyError);
  assert.deepEqual(dekBytes(await openKeyring(place, [second])), dekBytes(keyring));
  await assertOpensNothing(await keyringKeyOf(all, third), next);
});

/** The 32 bytes that open the keyring, as one recipient's secret gives them. */
async function keyringKeyOf({ file }: Keyring, provider: KeyProvider): Promise<Buffer> {
  for (const recipient of file.recipients) {
    const bytes = await provider.unwrap(recipient, { keyringId: file.id });
    if (bytes !== undefined) return bytes;
  }
  return assert.fail("no recipient is of this secret");
}

/** That whoever kept an older keyring key gets no data key out of the file, and cannot make one that passes. */
async function assertOpensNothing(older: Buffer, { file }: Keyring): Promise<void> {
  const key = secretKey(older);
  for (const { keyId, wrapped } of file.keys) {
    if (wrapped === undefined) continue;
    assert.equal(unwrapDek(key, file.id, keyId, wrapped), undefined, `key ${keyId}`);
  }
  assert.notDeepEqual(keyringMac(key, authenticatedBytes(file)), file.mac);
}

test("rewrap changes the secret of one recipient and no data key", async (t) => {
  const { folder, place, key, keyring } = await setup(t);
  const other = newKeyFile(folder, "other");
  await keyring.rewrap(1, other);
  await assert.rejects(openKeyring(place, [key]), KeyError);
  const opened = await openKeyring(place, [other]);
  assert.equal(opened.file.recipients[0]?.label, "first");
  assert.deepEqual(dekBytes(opened), dekBytes(keyring));
});

test("a destroyed key is gone, its record stays, and the current key cannot be destroyed", async (t) => {
  const { place, key, keyring } = await setup(t);
  const state = noState(keyring);
  await assert.rejects(keyring.destroyKey(1, state, [key]), StateError);
  const two = keyring.newKey(state);
  await assert.rejects(two.destroyKey(1, state, []), KeyError);
  const next = await two.destroyKey(1, state, [key]);
  assert.equal(next.file.keys[0]?.state, "destroyed");
  const opened = await openKeyring(place, [key]);
  assert.equal(opened.dataKeys().keys.get(1)?.dek, undefined);
  assert.equal(dekBytes(opened)[2], dekBytes(two)[2]);
  await assert.rejects(opened.destroyKey(1, state, [key]), StateError);
  await assertOpensNothing(await keyringKeyOf(two, key), next);
});

test("what opens nothing after a removal opens everything before it", async (t) => {
  const { key, keyring } = await setup(t);
  const [record] = keyring.file.keys;
  const bytes = await keyringKeyOf(keyring, key);
  assert.ok(record?.wrapped !== undefined);
  assert.ok(unwrapDek(secretKey(bytes), keyring.file.id, 1, record.wrapped) !== undefined);
  assert.deepEqual(
    keyringMac(secretKey(bytes), authenticatedBytes(keyring.file)),
    keyring.file.mac,
  );
});

test("a key is not destroyed while a directory that the state knows uses it, were it for a MAC alone", async (t) => {
  const { folder, key, keyring } = await setup(t);
  const two = keyring.newKey(noState(keyring));
  const place = { fs, path: bytePath(join(folder, "k.state")), command: "tde test" };
  const memory = {
    id: "ab".repeat(16),
    epoch: 1n,
    root: "cd".repeat(32),
    time: "2026-11-20T11:28:31Z",
    path: bytePath("/srv/pg"),
    others: [],
    load: new Map([
      [1, { pages: 0, bytes: 0 }],
      [2, { pages: 5, bytes: 40960 }],
    ]),
  };
  const state = updateState(place, two.dataKeys(), 2, (content) =>
    rememberDirectory(content, memory),
  );
  await assert.rejects(
    two.destroyKey(1, state, [key]),
    /key 1 is used by directory abab.*\/srv\/pg/,
  );
});

test("only a readable key can be retired, and it still decrypts", async (t) => {
  const { keyring } = await setup(t);
  assert.throws(() => keyring.retire(1), StateError);
  const next = keyring.newKey(noState(keyring)).retire(1);
  assert.equal(next.dataKeys().keys.get(1)?.state, "retired");
  assert.ok(next.dataKeys().keys.get(1)?.dek);
  assert.throws(() => next.retire(1), StateError);
  assert.throws(() => next.retire(9), UsageError);
});

test("a keyring that was changed meanwhile is not overwritten", async (t) => {
  const { place, key, keyring } = await setup(t);
  const other = await openKeyring(place, [key]);
  other.newKey(noState(other));
  assert.throws(() => keyring.newKey(noState(keyring)), StateError);
  assert.equal((await openKeyring(place, [key])).currentKeyId, 2);
});

test("an old copy of the keyring gets no second key of the same id", async (t) => {
  const { folder, path, place, key, keyring } = await setup(t);
  const old = readFileSync(path);
  const statePlace = { fs, path: bytePath(join(folder, "k.state")), command: "tde test" };
  const two = keyring.newKey(noState(keyring));
  updateState(statePlace, two.dataKeys(), 2, (content) => content);
  writeFileSync(path, old);
  // The state is under key 2, which the old copy lacks.
  const restored = await openKeyring(place, [key]);
  const state = loadState(fs, statePlace.path, restored.dataKeys());
  assert.equal(state.status, "newer-keyring");
  assert.throws(() => restored.newKey(state), StateError);
  // A generation without a new key, such as a recipient that was removed, counts as well.
  const remembered = { ...noState(restored), highestGeneration: 2 };
  assert.throws(() => restored.newKey(remembered), /generation 1, but generation 2/);
});

test("an operation stopped anywhere leaves the old keyring or the new one", async (t) => {
  const { folder, path, place, key } = await setup(t);
  const before = readFileSync(path);
  for (let stopAt = 1, done = false; !done; stopAt++) {
    writeFileSync(path, before);
    const stopping = await openKeyring({ ...place, fs: new StoppingFileSystem(stopAt) }, [key]);
    try {
      stopping.newKey(noState(stopping));
      done = true;
    } catch (error) {
      assert.ok(error instanceof Stopped);
    }
    const found = await openKeyring(place, [key]);
    assert.equal(found.currentKeyId, found.file.generation);
    found.newKey(noState(found));
    assert.deepEqual(readdirSync(folder).sort(), ["k", "kek"]);
  }
});

test("a key file that is read wrongly once locks nobody out", async (t) => {
  const { path, place, key, keyring } = await setup(t);
  const before = readFileSync(path);
  const other = newKeyFile(join(path, ".."), "other");
  // What was read the first time is in no file; what is read the second time is.
  const misread: KeyProvider = {
    typeName: other.typeName,
    description: other.description,
    wrap: (bytes, context) => newKeyFile(join(path, ".."), "misread").wrap(bytes, context),
    unwrap: (wrapped, context) => other.unwrap(wrapped, context),
    reread: () => other,
    dispose(): void {},
  };
  await assert.rejects(keyring.rewrap(1, misread), /key file ".*other" reads differently a second/);
  assert.deepEqual(readFileSync(path), before);
  await openKeyring(place, [key]);
});

test("a keyring that does not read back as it was written takes no other's place", async (t) => {
  const { path, place, key } = await setup(t);
  const before = readFileSync(path);
  const opened = await openKeyring(place, [key]);
  // The new version is the only one that is opened by this name.
  const open = fs.open.bind(fs);
  t.mock.method(fs, "open", (name: BytePath) => {
    const file = open(name);
    if (!name.endsWith(".new")) return file;
    const read = file.read.bind(file);
    file.read = (buffer, offset, length, position): number => {
      const count = read(buffer, offset, length, position);
      buffer[offset] = (buffer[offset] ?? 0) ^ 1;
      return count;
    };
    return file;
  });
  assert.throws(() => opened.newKey(noState(opened)), /k" does not read as it was written/);
  assert.deepEqual(readFileSync(path), before);
  assert.deepEqual(readdirSync(join(path, "..")).sort(), ["k", "kek"]);
});

test("nothing is left where a keyring could not be made", async (t) => {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, "in"));
  for (let stopAt = 1; stopAt < 4; stopAt++) {
    const path = join(folder, "in", "k");
    const place = { fs: new StoppingFileSystem(stopAt), path: bytePath(path), command: "tde test" };
    await assert.rejects(createKeyring(place, passphrase("x"), ""), Stopped);
    assert.ok(!existsSync(path));
  }
});
