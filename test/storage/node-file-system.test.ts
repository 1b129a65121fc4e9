import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { StorageError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("a pipe where a file should be is refused and not waited for", (t) => {
  const pipe = join(temporaryDirectory(t), "pipe");
  execFileSync("mkfifo", [pipe]);
  assert.throws(() => new NodeFileSystem().open(bytePath(pipe)), StorageError);
});

test("a device where a file should be is refused", () => {
  assert.throws(() => new NodeFileSystem().open(bytePath("/dev/zero")), StorageError);
});
