/**
 * The end of a decryption in place takes away what its files could be checked against. Interrupted there, it goes on, but
 * nothing counts because the evidence is gone: what cannot be checked any more is said, and is no success.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { recoverDatadir } from "../../src/engine/recover.ts";
import { IntegrityError } from "../../src/errors.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import {
  copyOf,
  makeSmallCluster,
  putBack,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const CONF = "postgresql.auto.conf";
let plain = "";
let datadir = "";
let memory: TestMemory;
let small: SmallEngine;

before(() => {
  plain = makeSmallCluster();
});

beforeEach(async () => {
  memory = new TestMemory();
  small = new SmallEngine({ memory });
  datadir = copyOf(plain);
  await small.encrypt(datadir);
});

/** Decrypts until the first file with such a name is to be removed: `offset` steps later. */
async function stopAtRemovalOf(
  name: RegExp,
  { offset = 0, keepRecoverySettings = false } = {},
): Promise<void> {
  const rehearsal = new StoppingFileSystem();
  const copy = copyOf(datadir);
  const options = { keepRecoverySettings };
  await new SmallEngine({ fs: rehearsal }).decrypt(copy, options);
  const at = rehearsal.log.findIndex(
    (what, i) => what === "remove" && name.test(rehearsal.paths[i] ?? ""),
  );
  assert.ok(at >= 0, `${name.source} is never removed`);
  const fs = new StoppingFileSystem(at + 1 + offset);
  await assert.rejects(new SmallEngine({ fs, memory }).decrypt(datadir, options), Stopped);
  rmSync(join(datadir, "tde.lock"), { force: true });
}

function recover(): Promise<string> {
  return recoverDatadir(small.engine, small.keyContext, bytePath(datadir));
}

/** When some are gone, and others not. */
const SOME_SIDECAR = /\/global\/1260_tde$/;

test("what still has its sidecar is checked, and what has none any more is said to be unproved", async () => {
  await stopAtRemovalOf(SOME_SIDECAR);
  const stopped = copyOf(datadir);
  const kept = "global/1262";
  assert.ok(existsSync(sidecarOf(join(datadir, kept))));
  flipBit(join(datadir, kept), 5000 * 8);
  await assert.rejects(small.decrypt(datadir), IntegrityError);
  await assert.rejects(recover(), IntegrityError);
  // Nor does it help to take the sidecar away.
  rmSync(sidecarOf(join(datadir, kept)));
  const report = await small.decrypt(datadir);
  assert.equal(report.outcome, "ended-before");
  assert.ok(typeof report.unchecked === "number" && report.unchecked > 0);
  putBack(stopped, datadir);
});

test("a decryption that is cut before anything of it is removed proves all of its files again", async () => {
  await stopAtRemovalOf(/_tde$/);
  const { unchecked, checkedAgain } = await small.decrypt(datadir);
  assert.equal(unchecked, 0);
  assert.ok(checkedAgain > 10);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("files whose tags were taken away are not called proved", async () => {
  await stopAtRemovalOf(/_tde$/);
  const sealedWhole = "pg_logical/replorigin_checkpoint";
  assert.ok(existsSync(join(datadir, sealedWhole)));
  rmSync(join(datadir, "tde.tags"));
  writeFileSync(join(datadir, sealedWhole), "forged");
  assert.equal(await recover(), "decryption-unproved");
});

for (const [what, act] of [
  [
    "is gone with its sidecar",
    (path: string) => [path, sidecarOf(path)].forEach((one) => rmSync(one)),
  ],
  [
    "became a folder",
    (path: string) => {
      [path, sidecarOf(path)].forEach((one) => rmSync(one));
      mkdirSync(path);
    },
  ],
] as const) {
  test(`a relation that ${what} when all files were done is no success`, async () => {
    await stopAtRemovalOf(/_tde$/);
    act(join(datadir, "global/1262"));
    await assert.rejects(small.decrypt(datadir), IntegrityError);
    await assert.rejects(recover(), IntegrityError);
    assert.ok(existsSync(sidecarOf(join(datadir, "global/1260"))));
  });
}

test("an empty relation that got content when all files were done is no success", async () => {
  await stopAtRemovalOf(/_tde$/);
  appendFileSync(join(datadir, "base/1/90002"), Buffer.alloc(8192, 1));
  await assert.rejects(small.decrypt(datadir), IntegrityError);
});

test("a run that ended, and whose command did not come back to say so, is no success", async () => {
  await stopAtRemovalOf(/\/tde\.journal$/);
  writeFileSync(join(datadir, "base/1/1259"), "forged");
  assert.equal((await small.decrypt(datadir)).unchecked, "all");
});

test("without the manifest nothing is called proved", async () => {
  await stopAtRemovalOf(SOME_SIDECAR);
  rmSync(join(datadir, "tde.manifest"));
  assert.equal((await small.decrypt(datadir)).unchecked, "all");
});

test("pg_control is what it was, as long as the guard stands", async () => {
  await stopAtRemovalOf(SOME_SIDECAR);
  const path = join(datadir, "global/pg_control");
  const control = readFileSync(path);
  const other = Buffer.from(control);
  other[5000] = 1;
  writeFileSync(path, other);
  await small.decrypt(datadir);
  assert.deepEqual(readFileSync(path), control);
});

test("what takes the guard's place is the sealed original, and nothing else passes for it", async () => {
  await stopAtRemovalOf(/\/tde\.postgresql\.auto\.conf$/);
  assert.equal(existsSync(join(datadir, "tde.manifest")), false);
  writeFileSync(join(datadir, CONF), "archive_command = 'evil'\n");
  await assert.rejects(recover(), /was changed while the decryption was unfinished/);
  rmSync(join(datadir, CONF));
  assert.equal(await recover(), "decryption-unproved");
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("settings that are kept are those that the run found", async () => {
  appendFileSync(join(datadir, CONF), "restore_command = 'cp good'\n");
  await stopAtRemovalOf(/\/tde\.manifest$/, { offset: 1, keepRecoverySettings: true });
  const guard = readFileSync(join(datadir, CONF));
  appendFileSync(join(datadir, CONF), "archive_command = 'evil'\n");
  await assert.rejects(recover(), /was changed while the decryption was unfinished/);
  writeFileSync(join(datadir, CONF), guard);
  await recover();
  assert.match(readFileSync(join(datadir, CONF), "latin1"), /restore_command = 'cp good'\n$/);
});

test("a folder is no signal file", async () => {
  mkdirSync(join(datadir, "recovery.signal"));
  assert.equal((await small.verify(datadir)).ok, false);
  const before = treeOf(datadir);
  await assert.rejects(small.decrypt(datadir), /recovery\.signal: the manifest does not name it/);
  assertSameTree(treeOf(datadir), before);
});

test("tags are not kept in a file that somebody else has, too", async () => {
  const precious = `${datadir}.precious`;
  writeFileSync(precious, "precious");
  linkSync(precious, join(datadir, "tde.tags"));
  await small.decrypt(datadir);
  assert.equal(readFileSync(precious, "latin1"), "precious");
  assertSameTree(treeOf(datadir), treeOf(plain));
});
