import assert from "node:assert/strict";
import {
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { StateError, StorageError } from "../../src/errors.ts";
import { createFileDurably, replaceFileDurably } from "../../src/storage/durable-replace.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";

test("a replacement stopped anywhere leaves the old or the new content, and the next one succeeds", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "file");
  const [old, next] = [Buffer.from("old content"), Buffer.from("the new content")];
  let stops = 0;
  for (let stopAt = 1; ; stopAt++) {
    writeFileSync(path, old);
    const fs = new StoppingFileSystem(stopAt);
    let done = true;
    try {
      replaceFileDurably(fs, bytePath(path), next, 0o600);
    } catch (error) {
      assert.ok(error instanceof Stopped);
      done = false;
      stops++;
    }
    const found = readFileSync(path);
    assert.ok(found.equals(old) || found.equals(next));
    if (done) {
      assert.deepEqual(found, next);
      break;
    }
    replaceFileDurably(new NodeFileSystem(), bytePath(path), next, 0o600);
    assert.deepEqual(readFileSync(path), next);
    assert.deepEqual(readdirSync(folder), ["file"]);
  }
  assert.ok(stops >= 6, `${stops} places to stop`);
});

test("content is synced before the rename, the directory after it", (t) => {
  const fs = new StoppingFileSystem();
  replaceFileDurably(fs, bytePath(join(temporaryDirectory(t), "file")), Buffer.from("x"), 0o600);
  const order = fs.log.filter((what) => /^(write|sync|rename|syncDirectory)$/.test(what));
  assert.deepEqual(order, ["write", "sync", "rename", "syncDirectory"]);
});

test("a link stays a link: the file behind it is replaced", (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, "real"), "old", { mode: 0o644 });
  symlinkSync("real", join(folder, "link"));
  replaceFileDurably(
    new NodeFileSystem(),
    bytePath(join(folder, "link")),
    Buffer.from("new"),
    0o600,
  );
  assert.ok(lstatSync(join(folder, "link")).isSymbolicLink());
  assert.equal(readFileSync(join(folder, "real"), "utf8"), "new");
  assert.equal(statSync(join(folder, "real")).mode & 0o777, 0o600);
});

test("a new file keeps off an existing one", (t) => {
  const path = join(temporaryDirectory(t), "file");
  writeFileSync(path, "old");
  const fs = new NodeFileSystem();
  assert.throws(() => createFileDurably(fs, bytePath(path), Buffer.from("new"), 0o600), StateError);
  assert.equal(readFileSync(path, "utf8"), "old");
});

test("a folder that does not exist is the system's refusal", (t) => {
  const path = bytePath(join(temporaryDirectory(t), "missing", "file"));
  assert.throws(
    () => replaceFileDurably(new NodeFileSystem(), path, Buffer.from("x"), 0o600),
    StorageError,
  );
});
