/**
 * What the crash harness found, each as a case of its own: the shortest way to what went wrong.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type BytePath, bytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { deriveKey, randomBytes } from "../../src/crypto/primitives.ts";
import { unsealFile } from "../../src/datadir/sealed-file.ts";
import { IntegrityError, StateError, StorageError } from "../../src/errors.ts";
import { directoriesUsing, loadState } from "../../src/keyring/state.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import { Journal, NEW_JOURNAL_NAME, removeUnbornJournal } from "../../src/storage/journal.ts";
import { acquireLock } from "../../src/storage/lock.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import { crashCluster, ROOT } from "../support/crash-cluster.ts";
import { CrashDisk, PowerCut } from "../support/crash-disk.ts";
import { cutEverywhere, type Figures } from "../support/crash-harness.ts";
import { OPERATIONS, type Operation } from "../support/crash-operations.ts";
import { litterIn } from "../support/disk-tree.ts";
import { testDek, testKeys } from "../support/keys.ts";
import { SimulatedTde, STATE } from "../support/simulated-tde.ts";

const FOLDER = "/srv" as BytePath;
const LOCK = joinPath(ROOT, "tde.lock");
const PURPOSE = { what: "it", command: "tde" };

function operation(name: string): Operation {
  const found = OPERATIONS.find((one) => one.name === name);
  assert.ok(found !== undefined);
  return found;
}

function put(disk: CrashDisk, path: BytePath, text: string): void {
  const file = disk.create(path, 0o600);
  file.write(Buffer.from(text), 0, text.length, 0);
  file.close();
}

test("emptying an unfinished output can be cut anywhere, and its guard goes last", async () => {
  const figures: Figures = { cuts: 0, recovered: 0, errors: 0 };
  const sampling = { stride: 1, seed: 1 };
  await cutEverywhere(operation("recover of encrypt-datadir --output"), sampling, figures);
  assert.ok(figures.cuts > 100);
});

test("recover takes away a dead lock, half a takeover and an unborn journal", async () => {
  const disk = await operation("encrypt-datadir").prepare();
  put(disk, LOCK, "");
  put(disk, joinPath(ROOT, "tde.lock.0123456789abcdef"), "");
  put(disk, joinPath(ROOT, NEW_JOURNAL_NAME), "half");
  assert.equal(await new SimulatedTde(disk).recover(ROOT), "nothing-to-do");
  assert.deepEqual(litterIn(disk, FOLDER), []);
});

test("recover leaves the unborn journal of a tde that is at work", async () => {
  const disk = await operation("encrypt-datadir").prepare();
  const lock = acquireLock(disk, LOCK, PURPOSE);
  put(disk, joinPath(ROOT, NEW_JOURNAL_NAME), "half");
  await assert.rejects(new SimulatedTde(disk).recover(ROOT), StateError);
  assert.ok(disk.stat(joinPath(ROOT, NEW_JOURNAL_NAME)) !== undefined);
  removeUnbornJournal(disk, ROOT);
  lock.release();
});

test("decrypting what is plain takes a dead lock away before it refuses", async () => {
  const disk = await operation("encrypt-datadir").prepare();
  put(disk, LOCK, "");
  await assert.rejects(new SimulatedTde(disk).decrypt(ROOT), /is not encrypted/);
  assert.equal(disk.stat(LOCK), undefined);
});

test("a lock is not lost when its folder cannot be listed", () => {
  const whole = crashCluster();
  acquireLock(whole, LOCK, PURPOSE).release();
  for (let failAt = 1; failAt <= whole.calls; failAt++) {
    const disk = crashCluster().copy({ failAt, errno: "EIO" });
    try {
      acquireLock(disk, LOCK, PURPOSE).release();
    } catch (error) {
      assert.ok(error instanceof StorageError);
    }
    acquireLock(disk, LOCK, PURPOSE).release();
    assert.equal(disk.stat(LOCK), undefined);
  }
});

test("the state forgets a decrypted directory wherever its end is cut", async () => {
  const before = await operation("decrypt-datadir").prepare();
  const whole = before.copy();
  await new SimulatedTde(whole).decrypt(ROOT);
  for (let crashAt = whole.steps - 24; crashAt <= whole.steps; crashAt++) {
    const disk = before.copy({ crashAt });
    await assert.rejects(new SimulatedTde(disk).decrypt(ROOT), PowerCut);
    const left = disk.reboot({ survivors: "everything" });
    const tde = new SimulatedTde(left);
    await tde.recover(ROOT);
    const keys = (await tde.openKeyring()).dataKeys();
    assert.deepEqual(directoriesUsing(loadState(left, STATE, keys), 1), [], disk.struck);
  }
});

test("an entry whose sync failed is made durable before its steps are taken up", () => {
  const key = deriveKey(testDek(1), randomBytes(16), Buffer.from("test"));
  const header = {
    runId: randomBytes(16),
    directoryId: "0".repeat(32),
    keyringId: "0".repeat(16),
    keyId: 1,
    operation: "encrypt",
    epoch: 1n,
  } as const;
  const disk = crashCluster();
  Journal.create(disk, ROOT, key, header, "{}").close();
  const steps = [{ action: "remove", path: "x" as BytePath }] as const;
  // The entry is written by one call and synced by the next; resuming takes some before.
  for (let failAt = 1; failAt < 12; failAt++) {
    const failing = disk.copy({ failAt, errno: "EIO" });
    try {
      const { journal } = Journal.resume(failing, ROOT, key);
      journal.due(steps);
      journal.close();
    } catch (error) {
      assert.ok(error instanceof StorageError);
    }
    failing.heal();
    const { journal, content } = Journal.resume(failing, ROOT, key);
    journal.close();
    const left = Journal.resume(failing.reboot({ survivors: "synced-only" }), ROOT, key);
    left.journal.close();
    assert.deepEqual(left.content.due, content.due, `call ${failAt} failed`);
  }
});

test("a copy into a new directory must be what the manifest says", async () => {
  const disk = crashCluster();
  const runner = new InlineRunner(
    disk,
    {
      blockSizeBytes: 8192,
      dataChecksums: true,
      systemIdentifier: 1n,
      keys: testKeys(),
      keyringId: testKeys().keyringId,
      epoch: 1n,
    },
    () => {},
  );
  const path = "pg_xact/0000" as BytePath;
  const item = {
    kind: "readable",
    path,
    from: joinPath(ROOT, path),
    to: "/srv/copy" as BytePath,
    sizeBytes: 2048,
    digest: "0".repeat(64),
  } as const;
  await assert.rejects(runner.run({ kind: "open", items: [item] }), IntegrityError);
  assert.equal(disk.openFiles.size, 0);
});

test("a container that is read is closed when its content cannot be written", async () => {
  const disk = await operation("decrypt-datadir").prepare();
  const from = joinPath(ROOT, "log/postgresql.log");
  const keys = (await new SimulatedTde(disk).openKeyring()).dataKeys();
  const full = disk.copy({ failAt: 2, errno: "ENOSPC", failForEver: true });
  const to = full.create("/srv/out" as BytePath, 0o600);
  const options = { keys, systemIdentifier: undefined, context: "datadir:log/postgresql.log" };
  assert.throws(() => unsealFile(full, from, to, options), { errno: "ENOSPC" });
  to.close();
  assert.equal(full.openFiles.size, 0);
});

test("a file whose size the system does not tell is read whole", () => {
  const version = readWholeFile(new NodeFileSystem(), bytePath("/proc/self/status"), 2 ** 20);
  assert.match(version.toString(), /^Name:/);
  assert.equal(joinPath("/", "a"), "/a");
});
