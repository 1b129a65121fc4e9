/**
 * Rotation on a small cluster: what is under which key afterwards, read from the bytes, and what stops it.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IntegrityError, KeyError, StateError, UsageError } from "../../src/errors.ts";
import type { RotationRequest } from "../../src/engine/rotation-selection.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { keyIdsOnDisk, keysOf } from "../support/key-ids-on-disk.ts";
import { testKeys } from "../support/keys.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  SmallEngine,
} from "../support/small-cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const plain = makeSmallCluster();
const plainTree = treeOf(plain);
const oldKey = new SmallEngine();
const encrypted = copyOf(plain);
await oldKey.encrypt(encrypted);

/** The same keyring after "new-key", as a new process would open it. */
function newKeyEngine(): SmallEngine {
  return new SmallEngine({ keys: testKeys(2) });
}

const withoutOldKey = (): SmallEngine =>
  new SmallEngine({ keys: testKeys(2, {}, { 1: "destroyed" }) });
const FROM_OLD: RotationRequest = { kind: "key", keyId: 1 };
const relations = (...paths: string[]): RotationRequest => ({
  kind: "relations",
  named: { ...NOTHING_SELECTED, relations: paths.map(bytePath) },
});
const RELATION = relations(ORDINARY);

for (const selection of [{ kind: "all" }, FROM_OLD] as const) {
  test(`after rotating ${selection.kind === "all" ? "everything" : "from the old key"} no slot, MAC, container or manifest names it`, async () => {
    const datadir = copyOf(encrypted);
    const before = keyIdsOnDisk(datadir);
    assert.deepEqual(keysOf(before), [1]);
    const engine = newKeyEngine();
    const report = await engine.rotate(datadir, selection);
    const after = keyIdsOnDisk(datadir);
    const renamed = [...before].map(([name, count]) => [name.replace(/1$/, "2"), count]);
    assert.deepEqual(new Map(after), new Map(renamed as [string, number][]));

    const verified = await engine.verify(datadir);
    assert.deepEqual(verified.problems, []);
    assert.deepEqual(verified.keys, [{ keyId: 2, pages: report.load.get(2)?.pages }]);
    assert.equal(verified.epoch, 2n);
    await withoutOldKey().decrypt(datadir);
    assertSameTree(treeOf(datadir), plainTree);
  });
}

test("a relation is sealed anew with all its forks, with another salt and other nonces, and nothing else", async () => {
  const datadir = copyOf(encrypted);
  const before = treeOf(datadir);
  const engine = newKeyEngine();
  const report = await engine.rotate(datadir, RELATION);
  const changed = [...treeOf(datadir)]
    .filter(([path, file]) => JSON.stringify(file) !== JSON.stringify(before.get(path)))
    .map(([path]) => path)
    .map((path) => path.slice(2))
    .filter((path) => path !== "" && path !== "base/1");
  const files = ["1259", "1259_fsm", "1259_vm"].flatMap((name) => [name, `${name}_tde`]);
  assert.deepEqual(
    changed.toSorted(),
    [...files.map((name) => `base/1/${name}`), "tde.manifest"].toSorted(),
  );
  assert.equal(report.files, 3);
  // Salt of the first sidecar page, and the nonce of its first slot.
  const [old, now] = [encrypted, datadir].map((root) =>
    readFileSync(join(root, `${ORDINARY}_tde`)),
  );
  assert.notDeepEqual(now?.subarray(8192 - 40, 8192 - 24), old?.subarray(8192 - 40, 8192 - 24));
  assert.notDeepEqual(now?.subarray(24 + 32, 24 + 44), old?.subarray(24 + 32, 24 + 44));

  // The directory is under two keys now, and every command copes.
  assert.deepEqual(
    (await engine.verify(datadir)).keys.map(({ keyId }) => keyId),
    [1, 2],
  );
  const twice = await engine.rotate(datadir, FROM_OLD);
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [2]);
  assert.equal(twice.epoch, 3n);
  await withoutOldKey().decrypt(datadir);
  assertSameTree(treeOf(datadir), plainTree);
});

test("rotating under the same key again draws new salts and nonces all the same", async () => {
  const datadir = copyOf(encrypted);
  const report = await oldKey.rotate(datadir);
  assert.equal(report.outcome, "rotated");
  assert.notDeepEqual(readFileSync(join(datadir, ODD)), readFileSync(join(encrypted, ODD)));
  assert.ok((await oldKey.verify(datadir)).ok);
  await oldKey.decrypt(datadir);
  assertSameTree(treeOf(datadir), plainTree);
});

test("when nothing is under the key any more there is nothing to do, and nothing is written", async () => {
  const datadir = copyOf(encrypted);
  const engine = newKeyEngine();
  await engine.rotate(datadir, FROM_OLD);
  const before = treeOf(datadir);
  assert.equal((await engine.rotate(datadir, FROM_OLD)).outcome, "nothing-to-do");
  assertSameTree(treeOf(datadir), before);
});

test("a dry run says what would be written and writes nothing", async () => {
  const datadir = copyOf(encrypted);
  const before = treeOf(datadir);
  const planned = await newKeyEngine().rotate(datadir, FROM_OLD, { dryRun: true });
  assertSameTree(treeOf(datadir), before);
  const done = await newKeyEngine().rotate(datadir, FROM_OLD);
  assert.deepEqual([planned.files, planned.bytes], [done.files, done.bytes]);
  assert.equal(planned.outcome, "dry-run");
});

test("a key that is not there, that is current or destroyed cannot be rotated away from", async () => {
  const datadir = copyOf(encrypted);
  const before = treeOf(datadir);
  await assert.rejects(newKeyEngine().rotate(datadir, { kind: "key", keyId: 9 }), UsageError);
  await assert.rejects(newKeyEngine().rotate(datadir, { kind: "key", keyId: 2 }), StateError);
  await assert.rejects(withoutOldKey().rotate(datadir, FROM_OLD), StateError);
  await assert.rejects(withoutOldKey().rotate(datadir), KeyError);
  await assert.rejects(
    new SmallEngine({ keys: testKeys(1, { fill: 9 }) }).rotate(datadir),
    KeyError,
  );
  assertSameTree(treeOf(datadir), before);
});

test("a relation that is not there is refused, an empty one has nothing to do", async () => {
  const datadir = copyOf(encrypted);
  await assert.rejects(newKeyEngine().rotate(datadir, relations("base/1/99999")), UsageError);
  const empty = await newKeyEngine().rotate(datadir, relations("base/1/90002"));
  assert.equal(empty.outcome, "nothing-to-do");
});

test("from a retired key one rotates only with --accept-older; until then verify and decryption warn", async () => {
  const datadir = copyOf(encrypted);
  const retired = new SmallEngine({ keys: testKeys(2, {}, { 1: "retired" }) });
  await assert.rejects(retired.rotate(datadir), /retired/);
  const { notices } = await retired.verify(datadir, { acceptOlder: true });
  assert.match(notices.join("\n"), /pages and files are under key 1, which is retired/);
  await retired.decrypt(copyOf(datadir), { acceptOlder: true });
  assert.match(retired.notices.join("\n"), /under key 1, which is retired/);
  await retired.rotate(datadir, FROM_OLD, { acceptOlder: true });
  const report = await retired.verify(datadir);
  assert.deepEqual([report.ok, report.notices], [true, []]);
});

test("what an encryption left out is not rotated: named it is refused, with the rest it stays plain", async () => {
  const datadir = copyOf(plain);
  await oldKey.encrypt(datadir, {
    scope: { ...NOTHING_SELECTED, exclude: [bytePath(ORDINARY)] },
  });
  const engine = newKeyEngine();
  await assert.rejects(engine.rotate(datadir, RELATION), (error) => {
    assert.ok(error instanceof StateError);
    assert.match(error.message, /base\/1\/1259.* is not encrypted: it is out of scope/);
    return true;
  });
  await engine.rotate(datadir);
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [2]);
  assert.ok((await engine.verify(datadir)).ok);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), plainTree);
});

test("a damaged page leaves its file as it was and the directory finished, not locked", async () => {
  const datadir = copyOf(encrypted);
  flip(join(datadir, LARGE), 70 * BLOCK_SIZE + 100);
  const engine = newKeyEngine();
  await assert.rejects(engine.rotate(datadir, FROM_OLD), (error) => {
    assert.ok(error instanceof IntegrityError);
    assert.match(error.message, /base\/1\/1255 block 70/);
    return true;
  });
  const report = await engine.verify(datadir);
  assert.deepEqual(
    [...new Set(report.problems.map(({ path, block }) => `${path} ${block}`))],
    ["base/1/1255 70"],
  );
  // With the page back the same command does the rest.
  flip(join(datadir, LARGE), 70 * BLOCK_SIZE + 100);
  await engine.rotate(datadir, FROM_OLD);
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [2]);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), plainTree);
});

test("an older file in the place of the newest is not sealed anew", async () => {
  const datadir = copyOf(encrypted);
  const engine = newKeyEngine();
  await engine.rotate(datadir, RELATION);
  const before = treeOf(datadir);
  for (const name of [ORDINARY, `${ORDINARY}_tde`]) {
    copyFileSync(join(encrypted, name), join(datadir, name));
  }
  await assert.rejects(engine.rotate(datadir), /base\/1\/1259: .*older or newer/);
  for (const path of ["tde.manifest", LARGE]) {
    assert.deepEqual(treeOf(datadir).get(`./${path}`), before.get(`./${path}`));
  }
});

test("a file that was changed and is not sealed anew is vouched for no more than before", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, "pg_hba.conf"), "local all all trust\n");
  const engine = newKeyEngine();
  await engine.rotate(datadir);
  const { problems } = await engine.verify(datadir);
  assert.deepEqual([...new Set(problems.map(({ path }) => path))], ["pg_hba.conf"]);
});

test("without its guard, or with another pg_control, a directory is not rotated", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, "postgresql.auto.conf"), "");
  await assert.rejects(newKeyEngine().rotate(datadir), /the guard .* is gone/);
  const other = copyOf(encrypted);
  flip(join(other, "global/pg_control"), 300);
  await assert.rejects(newKeyEngine().rotate(other));
  assert.ok(!existsSync(join(other, "tde.journal")));
});

test("an expendable file that a backup tool left out is forgotten with the key that it was under", async () => {
  const expendable = "base/1/pg_internal.init";
  const datadir = copyOf(plain);
  writeFileSync(join(datadir, expendable), "a cache of the server's");
  await oldKey.encrypt(datadir);
  rmSync(join(datadir, expendable));
  const engine = newKeyEngine();
  await engine.rotate(datadir, FROM_OLD);
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [2]);
  assert.ok((await engine.verify(datadir)).ok);
});

test("a plain directory is refused", async () => {
  await assert.rejects(newKeyEngine().rotate(copyOf(plain)), /is not encrypted/);
});

function flip(path: string, offset: number): void {
  const content = readFileSync(path);
  const { atime, mtime } = statSync(path);
  content.writeUInt8(content.readUInt8(offset) ^ 1, offset);
  writeFileSync(path, content);
  utimesSync(path, atime, mtime);
}
