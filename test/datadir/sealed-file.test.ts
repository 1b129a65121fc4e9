import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import {
  containerHeaderOf,
  inspectSealedFile,
  readSealedFile,
  sealBytes,
  type SealedFile,
  type SealFileOptions,
  sealFile,
  unsealFile,
  verifySealedFile,
} from "../../src/datadir/sealed-file.ts";
import { FormatError, IntegrityError, StorageError, TdeError } from "../../src/errors.ts";
import { containerSizeBytes, fileContext, linkContext } from "../../src/format/container.ts";
import type { FileStat, OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";

const folder = mkdtempSync(join(tmpdir(), "tde-test-"));
after(() => rmSync(folder, { recursive: true }));

const fs = new NodeFileSystem();
const CONTEXT = fileContext("log/postgresql.log");
const OPTIONS: SealFileOptions = {
  keys: testKeys(2),
  systemIdentifier: 7391234567890123456n,
  context: CONTEXT,
};
const CHUNK = 65536;

let fileCount = 0;
function freshPath(): BytePath {
  return bytePath(join(folder, `file-${fileCount++}`));
}

function fileOf(content: Buffer): BytePath {
  const path = freshPath();
  writeFileSync(path, content);
  return path;
}

function into<T>(write: (to: OpenFile) => T): { path: BytePath; result: T } {
  const path = freshPath();
  const to = fs.create(path, 0o600);
  try {
    return { path, result: write(to) };
  } finally {
    to.close();
  }
}

function sealed(content: Buffer, options = OPTIONS): { path: BytePath; result: SealedFile } {
  return into((to) => sealFile(fs, fileOf(content), to, options));
}

function contentOf(length: number): Buffer {
  return Buffer.alloc(length, "a row of a table, and another one; ");
}

for (const length of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 ** 20, 2 ** 21 + 12345]) {
  test(`a file of ${length} bytes is sealed and comes back`, () => {
    const content = contentOf(length);
    const { path, result } = sealed(content);
    const bytes = readFileSync(path);
    assert.equal(result.keyId, 2);
    assert.equal(result.sizeBytes, bytes.length);
    assert.equal(bytes.length, containerSizeBytes(length, CONTEXT.length));
    assert.ok(length < 32 || !bytes.includes("a row of a table"));
    const { path: plain, result: opened } = into((to) => unsealFile(fs, path, to, OPTIONS));
    assert.deepEqual(readFileSync(plain), content);
    assert.equal(opened.sizeBytes, length);
    assert.deepEqual(opened.digest, result.digest);
    assert.deepEqual(verifySealedFile(fs, path, OPTIONS), opened);
    const { header, digest } = inspectSealedFile(fs, path, CONTEXT);
    assert.deepEqual(digest, result.digest);
    assert.deepEqual(header, opened.header);
    assert.deepEqual(readSealedFile(fs, path, length, OPTIONS), content);
  });
}

test("the same file sealed twice has other bytes", () => {
  const content = contentOf(1000);
  assert.notDeepEqual(readFileSync(sealed(content).path), readFileSync(sealed(content).path));
});

test("the target of a link is sealed apart from a file of the same path", () => {
  const context = linkContext("postgresql.auto.conf");
  const target = Buffer.from("/dev/null");
  const { path } = into((to) => sealBytes(target, to, { ...OPTIONS, context }));
  assert.deepEqual(readSealedFile(fs, path, 4096, { ...OPTIONS, context }), target);
  const asFile = { ...OPTIONS, context: fileContext("postgresql.auto.conf") };
  assert.throws(() => readSealedFile(fs, path, 4096, asFile), IntegrityError);
  assert.throws(() => inspectSealedFile(fs, path, asFile.context), IntegrityError);
});

test("only chunks whose tag holds reach the target", () => {
  const content = contentOf(20 * CHUNK);
  const { path } = sealed(content);
  const bytes = readFileSync(path);
  const at = bytes.length - 5 * CHUNK;
  bytes.writeUInt8((bytes[at] ?? 0) ^ 1, at);
  writeFileSync(path, bytes);
  const plain = freshPath();
  const to = fs.create(plain, 0o600);
  try {
    assert.throws(() => unsealFile(fs, path, to, OPTIONS), {
      name: "IntegrityError",
      message: /authentication of ".*" failed: chunk 15 at offset \d+, key 2/,
    });
  } finally {
    to.close();
  }
  const written = readFileSync(plain);
  assert.ok(written.length <= 15 * CHUNK);
  assert.deepEqual(written, content.subarray(0, written.length));
});

test("content above the limit of a small file is refused", () => {
  const { path } = sealed(contentOf(1000));
  assert.throws(() => readSealedFile(fs, path, 999, OPTIONS), FormatError);
});

test("a file that is no container is refused, and has no header", () => {
  for (const content of [Buffer.alloc(0), Buffer.from("plain text"), Buffer.alloc(5000)]) {
    const path = fileOf(content);
    assert.throws(() => verifySealedFile(fs, path, OPTIONS), TdeError);
    assert.throws(() => inspectSealedFile(fs, path, CONTEXT), FormatError);
    assert.equal(containerHeaderOf(fs, path), undefined);
  }
});

test("a file that grows or shrinks while it is sealed is an error", () => {
  /** Says that each file has `difference` bytes more than it has. */
  class WrongSize extends NodeFileSystem {
    readonly difference: number;
    constructor(difference: number) {
      super();
      this.difference = difference;
    }
    override open(path: BytePath): OpenFile {
      const file = super.open(path);
      const stat = (): FileStat => {
        const real = fs.statFollowing(path);
        assert.ok(real !== undefined);
        return { ...real, sizeBytes: real.sizeBytes + this.difference };
      };
      return new Proxy(file, {
        get: (target, name): unknown => {
          if (name === "stat") return stat;
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    }
  }
  const path = fileOf(contentOf(100_000));
  for (const difference of [-1, 1, 50_000]) {
    const disk = new WrongSize(difference);
    assert.throws(() => into((to) => sealFile(disk, path, to, OPTIONS)), StorageError);
  }
});
