/**
 * What `tde wal encrypt` and `decrypt` do where segments and sidecars do not fit: a sidecar is removed or replaced only
 * where tags prove that nothing is lost with it, and nothing is encrypted twice.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import { IntegrityError, KeyError, StateError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { crossing, decrypt, encrypt, isSegment, writeFolder } from "../support/wal-folders.ts";
import { filler, message, PAGE, SEGMENT, WalWriter } from "../support/written-wal.ts";

const fs = new NodeFileSystem();

function contentOf(folder: string): Map<string, Buffer> {
  return new Map(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name))]),
  );
}

/** Neither command touches the folder. */
async function assertRefused(
  folder: string,
  error: new (message: string) => Error = IntegrityError,
): Promise<void> {
  const before = contentOf(folder);
  await assert.rejects(decrypt(folder), error);
  await assert.rejects(encrypt(folder), error);
  assert.deepEqual(contentOf(folder), before);
}

test("a segment whose sidecar is gone is not encrypted once more", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  rmSync(join(folder, `${writer.name(1)}_tde`));
  await assertRefused(folder, StateError);
});

test("a segment of one block whose guard is damaged keeps its sidecar", async (t) => {
  const writer = new WalWriter(17);
  writer.append(message("prefix", Buffer.from("what must not be lost")));
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  const [name = ""] = readdirSync(folder).filter(isSegment);
  const path = join(folder, name);
  const stored = readFileSync(path);
  stored[24] = (stored[24] ?? 0) ^ 1; // xlp_sysid
  writeFileSync(path, stored);
  await assertRefused(folder);
});

test("a cluster made after 2038 is encrypted, and its ciphertext without sidecars still known as such", async (t) => {
  for (const seconds of [2n ** 31n, 2n ** 32n - 1n]) {
    const writer = crossing();
    for (const bytes of writer.segments) bytes.writeBigUInt64LE((seconds << 32n) | 4095n, 24);
    const folder = writeFolder(t, writer);
    const plain = contentOf(folder);
    await encrypt(folder);
    assert.equal(await decrypt(folder), 3);
    assert.deepEqual(contentOf(folder), plain);
    await encrypt(folder);
    for (const name of readdirSync(folder)) {
      if (name.endsWith("_tde")) rmSync(join(folder, name));
    }
    await assertRefused(folder, StateError);
  }
});

const HEADLESS = "000000010000000000000009";

/** A folder with a segment that has content in one block and no page header: recycled, its beginning overwritten. */
function withHeadless(t: TestContext): string {
  const writer = new WalWriter(17);
  writer.append(filler(100));
  const folder = writeFolder(t, writer);
  const bytes = Buffer.alloc(SEGMENT);
  bytes.fill("old rows ", 3 * PAGE + 50, 3 * PAGE + 900);
  writeFileSync(join(folder, HEADLESS), bytes);
  return folder;
}

test("a segment of one block without a page header keeps its sidecar when it is damaged", async (t) => {
  const folder = withHeadless(t);
  await encrypt(folder);
  const path = join(folder, HEADLESS);
  const stored = readFileSync(path);
  stored[3 * PAGE + 60] = (stored[3 * PAGE + 60] ?? 0) ^ 1;
  writeFileSync(path, stored);
  await assertRefused(folder);
});

test("a plain segment beside its own sidecar is taken for plain, with and without a page header", async (t) => {
  const folder = withHeadless(t);
  const plain = contentOf(folder);
  await encrypt(folder);
  const putBack = (): void => {
    for (const [name, bytes] of plain) writeFileSync(join(folder, name), bytes);
  };
  putBack();
  await assert.rejects(decrypt(folder, testKeys(2, { fill: 7 })), KeyError);
  assert.equal((await encrypt(folder)).encrypted, 2);
  putBack();
  assert.equal(await decrypt(folder), 0);
  assert.deepEqual(contentOf(folder), plain);
});

test("a sidecar beside a plain segment of other content is neither removed nor replaced", async (t) => {
  const folder = withHeadless(t);
  const plain = contentOf(folder);
  for (const [name, bytes] of plain) {
    await encrypt(folder);
    // A row that was written after the sidecar was made; and a CRC, which no tag covers.
    const last = bytes.findLastIndex((byte) => byte !== 0);
    for (const at of name === HEADLESS ? [last] : [last, 40 + 20]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(join(folder, name), changed);
      await assertRefused(folder);
    }
    for (const [each, original] of plain) writeFileSync(join(folder, each), original);
  }
});

test("a segment in readable mode is neither archived nor restored as if it were plain", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  const name = writer.name(0);
  const archive = join(folder, "archive");
  mkdirSync(archive);
  const source = bytePath(join(folder, name));
  const destination = bytePath(join(archive, name));
  const context = { fs, keys: testKeys(2), joins: () => undefined };
  await assert.rejects(
    archiveWal(context, { source, destination, compression: "none" }),
    StateError,
  );
  copyFileSync(source, destination);
  const target = bytePath(join(folder, "RECOVERYXLOG"));
  await assert.rejects(
    restoreWal(fs, testKeys(2), { source: destination, target, allowPlain: true }),
    StateError,
  );
  assert.ok(!existsSync(target));
});
