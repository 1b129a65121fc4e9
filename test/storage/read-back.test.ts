/**
 * What storage/ writes by itself is read back: key files and small files, the journal, and locks.
 */
import assert from "node:assert/strict";
import { existsSync, linkSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { secretKey } from "../../src/crypto/primitives.ts";
import { StorageError } from "../../src/errors.ts";
import { createFileDurably, replaceFileDurably } from "../../src/storage/durable-replace.ts";
import { type DueStep, Journal, JOURNAL_NAME } from "../../src/storage/journal.ts";
import { acquireLock } from "../../src/storage/lock.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { haveSameContent, holds } from "../../src/storage/read-back.ts";
import { BAD_WRITES_OF, BadWriteFileSystem } from "../support/bad-write-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();
const any = (): boolean => true;

function isNotAsWritten(error: unknown): true {
  assert.ok(error instanceof StorageError, String(error));
  assert.match(error.message, /does not read as it was written/);
  assert.match(error.hint ?? "", /memory and disk/);
  return true;
}

test("a file holds what it holds, and neither less nor more", (t) => {
  const path = bytePath(join(temporaryDirectory(t), "file"));
  const content = Buffer.from("some content");
  for (const [written, expected] of [
    ["some content", true],
    ["some conten", false],
    ["some content.", false],
    ["Some content", false],
    ["some contenT", false],
    ["", false],
  ] as const) {
    writeFileSync(path, written);
    assert.equal(holds(fs, path, content), expected, written);
    assert.equal(holds(fs, path, content.subarray(0, 4), content.subarray(4)), expected, written);
  }
  writeFileSync(path, "");
  assert.ok(holds(fs, path));
});

test("two files are the same to the last byte, whatever buffers they are read into", (t) => {
  const folder = temporaryDirectory(t);
  const [a, b] = [bytePath(join(folder, "a")), bytePath(join(folder, "b"))];
  for (const [one, other, expected] of [
    ["", "", true],
    ["12345678", "12345678", true],
    ["123456789", "123456789", true],
    ["12345678", "123456789", false],
    ["123456789", "12345678", false],
    ["12345678", "12345679", false],
    ["1234567", "12345678", false],
    ["x2345678", "12345678", false],
  ] as const) {
    writeFileSync(a, one);
    writeFileSync(b, other);
    for (const size of [1, 4, 8, 100]) {
      const buffers = [Buffer.alloc(size), Buffer.alloc(size)] as const;
      assert.equal(haveSameContent(fs, a, b, buffers), expected, `${one} and ${other}, ${size}`);
    }
  }
});

for (const how of BAD_WRITES_OF) {
  test(`a key file that is not what was written (${how}) is not left behind`, (t) => {
    const folder = temporaryDirectory(t);
    const path = bytePath(join(folder, "kek.key"));
    const bad = new BadWriteFileSystem(any, how);
    assert.throws(() => createFileDurably(bad, path, Buffer.alloc(32, 5), 0o600), isNotAsWritten);
    assert.deepEqual(readdirSync(folder), []);
    createFileDurably(bad, path, Buffer.alloc(32, 5), 0o600);
    assert.deepEqual(readFileSync(path), Buffer.alloc(32, 5));
  });

  test(`a small file is not replaced by one that is not what was written (${how})`, (t) => {
    const folder = temporaryDirectory(t);
    const path = bytePath(join(folder, "app.keyring"));
    writeFileSync(path, "old");
    const bad = new BadWriteFileSystem(any, how);
    assert.throws(() => replaceFileDurably(bad, path, Buffer.from("new"), 0o600), isNotAsWritten);
    assert.deepEqual(readdirSync(folder), ["app.keyring"]);
    assert.equal(readFileSync(path, "utf8"), "old");
  });

  test(`no step of the journal is done before it reads as it was written (${how})`, (t) => {
    for (let at = 1, end = false; !end; at++) {
      const folder = temporaryDirectory(t);
      const bad = new BadWriteFileSystem(any, how, at);
      let begun = false;
      try {
        const journal = Journal.create(bad, bytePath(folder), KEY, HEADER, "{}");
        begun = true;
        assertSays(folder, [], false);
        journal.due(FIRST);
        assertSays(folder, FIRST, false);
        journal.due(SECOND);
        assertSays(folder, SECOND, false);
        journal.commit(FIRST);
        assertSays(folder, FIRST, true);
        journal.close();
      } catch (error) {
        // The first of all: there is no run then. A later entry is written once more, in another journal.
        assert.equal(begun, false);
        isNotAsWritten(error);
        assert.equal(existsSync(join(folder, JOURNAL_NAME)), false);
      }
      end = bad.writes < at;
      assert.ok(end || bad.writes >= at);
      assert.equal(begun, at > WRITES_TO_BEGIN, `write ${at}`);
    }
  });

  test(`a journal that is taken up stays what it was (${how})`, (t) => {
    for (const isShared of [false, true]) {
      const folder = temporaryDirectory(t);
      const journal = Journal.create(fs, bytePath(folder), KEY, HEADER, "{}");
      journal.due(FIRST);
      journal.close();
      const path = join(folder, JOURNAL_NAME);
      const before = readFileSync(path);
      if (isShared) linkSync(path, join(folder, "snapshot"));
      const bad = new BadWriteFileSystem(any, how);
      const { journal: resumed } = Journal.resume(bad, bytePath(folder), KEY);
      // In place what was not written stands there already, and what was written behind it is cut off.
      assert.equal(bad.writes > 1, how === "flip" || (how === "drop" && isShared));
      assert.deepEqual(readFileSync(path), before);
      resumed.close();
      if (isShared) assert.deepEqual(readFileSync(join(folder, "snapshot")), before);
    }
  });

  test(`a lock that is not what was written (${how}) locks nobody out`, (t) => {
    const folder = temporaryDirectory(t);
    const path = bytePath(join(folder, "tde.lock"));
    const purpose = { what: "a directory", command: "tde test" };
    const bad = new BadWriteFileSystem((name) => name === path, how);
    if (how === "drop") {
      // An empty one is that of a process that was killed, and is taken over.
      acquireLock(bad, path, purpose).release();
    } else {
      assert.throws(() => acquireLock(bad, path, purpose), isNotAsWritten);
    }
    assert.deepEqual(readdirSync(folder), []);
    acquireLock(fs, path, purpose).release();
  });
}

/** Header and plan. */
const WRITES_TO_BEGIN = 2;
const KEY = secretKey(Buffer.alloc(32, 7));
const HEADER = {
  runId: Buffer.alloc(16, 0xa1),
  directoryId: "00112233445566778899aabbccddeeff",
  keyringId: "7f3a000000000001",
  keyId: 3,
  operation: "encrypt",
  epoch: 6n,
} as const;
const FIRST: readonly DueStep[] = [
  { action: "rename", from: "a_tdenew" as BytePath, to: "a" as BytePath },
];
const SECOND: readonly DueStep[] = [{ action: "remove", path: "b" as BytePath }];

/** What whoever takes it up finds. */
function assertSays(folder: string, due: readonly DueStep[], committed: boolean): void {
  const { journal, content } = Journal.resume(fs, bytePath(folder), KEY);
  journal.close();
  assert.deepEqual(content.due, due);
  assert.equal(content.committed, committed);
}
