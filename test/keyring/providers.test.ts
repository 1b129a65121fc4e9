import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { KeyError, StateError } from "../../src/errors.ts";
import { CommandProvider } from "../../src/keyring/providers/command.ts";
import { createKeyFile, KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { PassphraseProvider, withoutLineEnd } from "../../src/keyring/providers/passphrase.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();
const context = { keyringId: "0123456789abcdef" };
const key = Buffer.alloc(32, 7);

test("a key file is 32 bytes, or the same in hex with an optional line end", async (t) => {
  const folder = temporaryDirectory(t);
  const hex = key.toString("hex");
  const contents = [key, hex, `${hex}\n`, hex.toUpperCase()];
  const providers = contents.map((content, i) => {
    writeFileSync(join(folder, `${i}`), content, { mode: 0o600 });
    return new KeyFileProvider(fs, bytePath(join(folder, `${i}`)));
  });
  const [first] = providers;
  assert.ok(first);
  const wrapped = await first.wrap(key, context);
  for (const provider of providers) assert.deepEqual(await provider.unwrap(wrapped, context), key);
  assert.equal(await first.unwrap(wrapped, { keyringId: "0123456789abcdee" }), undefined);
});

test("a file that is no key is refused by its length", (t) => {
  const path = join(temporaryDirectory(t), "kek");
  const hex = key.toString("hex");
  for (const content of [
    "",
    "x",
    key.subarray(1),
    hex.slice(1),
    `${hex}\n\n`,
    `${hex.slice(1)}g`,
  ]) {
    writeFileSync(path, content, { mode: 0o600 });
    assert.throws(() => new KeyFileProvider(fs, bytePath(path)), KeyError);
  }
});

test("a key file that group or others can use is refused, through a link too", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "kek");
  createKeyFile(fs, bytePath(path));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  symlinkSync("kek", join(folder, "link"));
  assert.ok(new KeyFileProvider(fs, bytePath(join(folder, "link"))));
  for (let bit = 1; bit <= 0o40; bit *= 2) {
    chmodSync(path, 0o600 | bit);
    for (const name of ["kek", "link"]) {
      assert.throws(
        () => new KeyFileProvider(fs, bytePath(join(folder, name))),
        (error) => error instanceof KeyError && error.hint?.includes("chmod 600") === true,
      );
    }
  }
});

test("a key file that others may read by the time it is open is refused", (t) => {
  const path = join(temporaryDirectory(t), "kek");
  createKeyFile(fs, bytePath(path));
  /** The path leads to something else once it was looked at. */
  class ChangingFileSystem extends NodeFileSystem {
    readonly #change: () => void;
    constructor(change: () => void) {
      super();
      this.#change = change;
    }
    override open(at: BytePath): OpenFile {
      this.#change();
      return super.open(at);
    }
  }
  const read = (change: () => void): KeyFileProvider =>
    new KeyFileProvider(new ChangingFileSystem(change), bytePath(path));
  assert.ok(read(() => {}));
  assert.throws(
    () => read(() => chmodSync(path, 0o640)),
    (error) => error instanceof KeyError && error.message.includes("can be read by others"),
  );
  const change = (): void => {
    rmSync(path, { recursive: true });
    mkdirSync(path, { mode: 0o700 });
  };
  chmodSync(path, 0o600);
  assert.throws(
    () => read(change),
    (error) => error instanceof KeyError && error.message.includes("is not a regular file"),
  );
});

test("what is no regular file is no key file, and a new one keeps off an existing file", (t) => {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, "folder"));
  for (const name of ["folder", "missing"]) {
    assert.throws(() => new KeyFileProvider(fs, bytePath(join(folder, name))), KeyError);
  }
  assert.throws(() => new KeyFileProvider(fs, bytePath("/dev/zero")), KeyError);
  assert.throws(() => createKeyFile(fs, bytePath(join(folder, "folder"))), StateError);
});

test("a passphrase opens what it wrapped and nothing else", async () => {
  const provider = new PassphraseProvider(Buffer.from("Pässword"), "the passphrase", 14);
  const wrapped = await provider.wrap(key, context);
  assert.deepEqual(await provider.unwrap(wrapped, context), key);
  for (const other of ["Pässwort", "Pa\u0308ssword", "Pässword\n"]) {
    const wrong = new PassphraseProvider(Buffer.from(other), "the passphrase", 14);
    assert.equal(await wrong.unwrap(wrapped, context), undefined);
  }
});

test("an empty passphrase and one over 1024 bytes are refused; one line end is no part of it", () => {
  for (const length of [0, 1025]) {
    assert.throws(
      () => new PassphraseProvider(Buffer.alloc(length, 65), "the passphrase"),
      KeyError,
    );
  }
  assert.throws(() => new PassphraseProvider(Buffer.from("a\0"), "the passphrase"), /NUL/);
  const cases = [
    ["a", "a"],
    ["a\n", "a"],
    ["a\r\n", "a"],
    ["a\n\n", "a\n"],
    ["a ", "a "],
    ["\n", ""],
  ];
  for (const [bytes = "", expected = ""] of cases) {
    assert.equal(withoutLineEnd(Buffer.from(bytes)).toString(), expected);
  }
});

test("a pair of commands wraps and unwraps, through pipes or through %p", async () => {
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith("tde-")).length;
  const pairs = [
    ["printf wrapped; cat", "tail -c +8"],
    ["cat > %p", "cat %p"],
    ["printf %%s x; cat", "tail -c +2"],
  ];
  for (const [wrapCommand, unwrapCommand] of pairs) {
    const provider = new CommandProvider(fs, { wrapCommand, unwrapCommand });
    const wrapped = await provider.wrap(key, context);
    assert.deepEqual(await provider.unwrap(wrapped, context), key);
  }
  const after = readdirSync(tmpdir()).filter((name) => name.startsWith("tde-"));
  assert.ok(after.every((name) => name.startsWith("tde-test-")) || after.length === before);
});

/** What outlives its command must not keep the standard error of this process, for whose end the runner would wait. */
const failing: readonly (readonly [string, string, string])[] = [
  ["that fails", "cat; exit 3", "wrap command failed with exit status 3"],
  ["that is killed", "kill -9 $$", "was ended by SIGKILL"],
  ["that gives nothing", "cat > /dev/null", "gave nothing"],
  ["that gives too much", "head -c 100000 /dev/zero", "more than 8192 bytes"],
  ["that never ends", "sleep 5 2> /dev/null", "did not end within 0.3 seconds"],
  ["that never ends and has a child", "sleep 5 2> /dev/null; true", "did not end"],
  ["whose file stays missing", ": %p", "gave nothing"],
];

for (const [what, wrapCommand, message] of failing) {
  test(`a wrap command ${what} is an error without its output`, async () => {
    const options = { wrapCommand, unwrapCommand: "cat", timeoutMs: 300 };
    await assert.rejects(new CommandProvider(fs, options).wrap(key, context), (error) => {
      assert.ok(error instanceof KeyError);
      assert.ok(error.message.includes(message), error.message);
      return true;
    });
  });
}

test("an unwrap command that gives another key or another length is found when wrapping", async () => {
  for (const unwrapCommand of ["head -c 32 /dev/zero", "cat; echo", "head -c 31"]) {
    const provider = new CommandProvider(fs, { wrapCommand: "cat", unwrapCommand });
    await assert.rejects(provider.wrap(key, context), KeyError);
  }
});
