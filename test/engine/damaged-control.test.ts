/**
 * One damaged file does not lock the rest, also where it is global/pg_control: of an encrypted directory the manifest has
 * it, and goes for all that the file itself would say. Only decryption puts it back, where that was asked for.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { decryptRelationsInto } from "../../src/engine/decrypt-relations.ts";
import { directoryInfo } from "../../src/engine/directory-info.ts";
import { directoryKeyUse } from "../../src/engine/key-use.ts";
import { openByManifest } from "../../src/engine/open-by-manifest.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { FormatError, StateError, TdeError } from "../../src/errors.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit } from "../support/forger.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const CONTROL = "global/pg_control";
const isControl = (path: string): boolean => path === `./${CONTROL}`;
const fs = new NodeFileSystem();

/** What a crash, a full disk, a failed pg_rewind or a careless copy leaves. */
const DAMAGES: Readonly<Record<string, (control: string) => void>> = {
  emptied: (control) => truncateSync(control, 0),
  "cut short": (control) => truncateSync(control, 300),
  "filled with zeros": (control) => writeFileSync(control, Buffer.alloc(8192)),
  "changed by one bit": (control) => flipBit(control, 220),
  missing: (control) => rmSync(control),
  "of another cluster": (control) => change(control, (bytes) => void bytes.writeUInt8(7, 0)),
  "of another block size": (control) =>
    change(control, (bytes) => void bytes.writeUInt32LE(16384, 216)),
};
const isUnusable = (name: string): boolean => !name.startsWith("of another");

/** Changes a copy so that its CRC holds. */
function change(control: string, edit: (bytes: Buffer) => void): void {
  const bytes = readFileSync(control);
  edit(bytes);
  bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  writeFileSync(control, bytes);
}

let plain = "";
let encrypted = "";
const memory = new TestMemory();
const small = new SmallEngine({ memory });

before(async () => {
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  await small.encrypt(encrypted);
});

function damaged(damage: (control: string) => void): string {
  const copy = copyOf(encrypted);
  damage(join(copy, CONTROL));
  return copy;
}

function assertOriginal(datadir: string): void {
  assertSameTree(treeOf(datadir), treeOf(plain), { except: isControl });
  assert.deepEqual(readFileSync(join(datadir, CONTROL)), readFileSync(join(plain, CONTROL)));
  assert.equal(lstatSync(join(datadir, CONTROL)).mode & 0o777, 0o600);
}

for (const [name, damage] of Object.entries(DAMAGES)) {
  test(`pg_control ${name}: verify names that one file, and checks all others`, async () => {
    const whole = await small.verify(encrypted);
    const datadir = damaged(damage);
    for (const report of [await small.verify(datadir), await small.verifyWithoutKey(datadir)]) {
      const files = new Set(report.problems.map(({ path }) => path));
      files.delete("tde.manifest");
      assert.deepEqual([...files], [CONTROL]);
      assert.equal(report.pages, whole.pages);
      assert.ok(
        report.problems.every(
          ({ path, message }) => path === CONTROL || /is of cluster/.test(message),
        ),
      );
      assert.deepEqual(
        report.traces.map(({ advice }) => /--restore-control/.test(advice)),
        [true],
      );
    }
  });

  test(`pg_control ${name}: --restore-control gives the directory back in place, and says so before`, async () => {
    const datadir = damaged(damage);
    const before = treeOf(datadir);
    await assert.rejects(small.decrypt(datadir), (error: unknown) => {
      assert.ok(error instanceof TdeError);
      if (isUnusable(name)) assert.match(error.hint ?? "", /--restore-control/);
      return true;
    });
    const rehearsal = await small.decrypt(datadir, { restoreControl: true, dryRun: true });
    assert.equal(rehearsal.controlRestored, true);
    assertSameTree(treeOf(datadir), before);
    const report = await small.decrypt(datadir, { restoreControl: true });
    assert.equal(report.controlRestored, true);
    assertOriginal(datadir);
  });

  test(`pg_control ${name}: --restore-control gives the directory back in another place`, async () => {
    const datadir = damaged(damage);
    const before = treeOf(datadir);
    const output = bytePath(join(temporaryPath("restored"), "new"));
    const into = { output, tablespaceMapping: new Map() };
    const options = small.decryptOptions(datadir, { restoreControl: true });
    const { engine, keyContext } = small;
    const report = await decryptIntoOutput(engine, keyContext, options, into);
    assert.equal(report.controlRestored, true);
    assertOriginal(output);
    assertSameTree(treeOf(datadir), before);
  });

  test(`pg_control ${name}: nothing that writes goes on, and what reads does`, async () => {
    const datadir = damaged(damage);
    const before = treeOf(datadir);
    await assert.rejects(small.rotate(datadir), TdeError);
    await assert.rejects(small.encrypt(datadir), TdeError);
    await assert.rejects(small.decrypt(datadir), TdeError);
    assertSameTree(treeOf(datadir), before);
    if (!isUnusable(name)) return;
    const info = directoryInfo(fs, bytePath(datadir));
    assert.equal(info.state, "inconsistent");
    assert.equal(info.datadir?.control.blockSizeBytes, 8192);
    assert.match(info.notes.join("\n"), /pg_control.*taken from the manifest's copy/);
    assert.ok(openByManifest(fs, bytePath(datadir), undefined).own instanceof TdeError);
    assert.ok(directoryKeyUse(fs, bytePath(datadir), small.keyContext).load.size > 0);
    const output = bytePath(join(temporaryPath("part"), "new"));
    const named = { ...NOTHING_SELECTED, relations: [bytePath(ORDINARY)] };
    const options = { root: bytePath(datadir), named, output, acceptOlder: false, dryRun: false };
    await decryptRelationsInto(small.engine, small.keyContext, options);
    assert.deepEqual(readFileSync(join(output, ORDINARY)), readFileSync(join(plain, ORDINARY)));
  });
}

test("a decryption by the manifest's pg_control goes on wherever it was killed", async () => {
  const rehearsal = new StoppingFileSystem();
  const options = { restoreControl: true };
  const missing = damaged((control) => rmSync(control));
  await new SmallEngine({ fs: rehearsal, memory: memory.copy() }).decrypt(missing, options);
  assertOriginal(missing);
  const putBackAt = rehearsal.paths.findIndex((path) => path.endsWith("pg_control_tdenew"));
  assert.ok(putBackAt > 0);
  for (let stopAt = 1; stopAt <= rehearsal.operations; stopAt += stopAt < putBackAt ? 23 : 3) {
    const datadir = damaged((control) => rmSync(control));
    const own = memory.copy();
    const killed = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory: own });
    await assert.rejects(killed.decrypt(datadir, options), Stopped);
    const next = new SmallEngine({ memory: own });
    // Who goes on need not say it again: the run itself puts pg_control back.
    if (!existsSync(join(datadir, "tde.journal")))
      await next.decrypt(datadir, options).catch(notEncrypted);
    else if (stopAt % 2 === 0) await next.recover(datadir);
    else await next.decrypt(datadir);
    assertOriginal(datadir);
  }
});

/** It had come to its end. */
function notEncrypted(error: unknown): void {
  assert.ok(error instanceof StateError && error.message.endsWith("is not encrypted"));
}

test("recover ends a rotation whose directory has lost pg_control meanwhile", async () => {
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal, memory: memory.copy() }).rotate(copyOf(encrypted));
  const datadir = copyOf(encrypted);
  const own = memory.copy();
  const stopAt = Math.floor(rehearsal.operations / 2);
  const killed = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory: own });
  await assert.rejects(killed.rotate(datadir), Stopped);
  truncateSync(join(datadir, CONTROL), 0);
  const next = new SmallEngine({ memory: own });
  assert.equal(await next.recover(datadir), "rotation-finished");
  assert.match(next.notices.join("\n"), /put back from the manifest/);
  assert.equal((await next.verify(datadir)).problems.length, 0);
  await next.decrypt(datadir);
  assertOriginal(datadir);
});

test("without a manifest that holds, --restore-control restores nothing", async () => {
  const datadir = damaged((control) => rmSync(control));
  flipBit(join(datadir, "tde.manifest"), 30);
  const before = treeOf(datadir);
  await assert.rejects(small.decrypt(datadir, { restoreControl: true }), TdeError);
  rmSync(join(datadir, "tde.manifest"));
  await assert.rejects(small.decrypt(datadir, { restoreControl: true }), StateError);
  const isManifest = (path: string): boolean => path === "./tde.manifest" || path === ".";
  assertSameTree(treeOf(datadir), before, { except: isManifest });
});

test("a directory in pg_control's place is named before anything is written", async () => {
  const datadir = damaged((control) => {
    rmSync(control);
    mkdirSync(control);
  });
  const before = treeOf(datadir);
  await assert.rejects(
    small.decrypt(datadir, { restoreControl: true }),
    /pg_control" is a directory/,
  );
  assertSameTree(treeOf(datadir), before);
});

test("a plain directory has no copy to go by", () => {
  const datadir = copyOf(plain);
  truncateSync(join(datadir, CONTROL), 0);
  assert.throws(
    () => openByManifest(fs, bytePath(datadir), undefined),
    (error: unknown) => error instanceof FormatError && !/manifest/.test(error.hint ?? ""),
  );
});
