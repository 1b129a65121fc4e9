/**
 * What the crash harness found, each as a case of its own: the shortest way to what went wrong.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { type BytePath, bytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { deriveKey, randomBytes } from "../../src/crypto/primitives.ts";
import { plainAccess } from "../../src/datadir/plain-access.ts";
import { unsealFile } from "../../src/datadir/sealed-file.ts";
import { IntegrityError, StateError, StorageError } from "../../src/errors.ts";
import { directoriesUsing, loadState } from "../../src/keyring/state.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import { Journal, NEW_JOURNAL_NAME, removeUnbornJournal } from "../../src/storage/journal.ts";
import { acquireLock } from "../../src/storage/lock.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import { crashCluster, ROOT, TABLESPACE } from "../support/crash-cluster.ts";
import { CrashDisk, PowerCut } from "../support/crash-disk.ts";
import { cutEverywhere, type Figures } from "../support/crash-harness.ts";
import {
  OPERATIONS,
  type Operation,
  OUTPUT,
  OUTPUT_TABLESPACE,
} from "../support/crash-operations.ts";
import { assertSameFiles, diskTree, litterIn } from "../support/disk-tree.ts";
import { testDek, testKeys } from "../support/keys.ts";
import { SimulatedTde, STATE } from "../support/simulated-tde.ts";

const FOLDER = "/srv" as BytePath;
const LOCK = joinPath(ROOT, "tde.lock");
const SERVER_LOCK = joinPath(ROOT, "postmaster.pid");
/** In pg_control of 17: when it was written, and its checksum. */
const CONTROL_TIME = 24;
const CONTROL_CRC = 288;
const PURPOSE = { what: "it", command: "tde" };

function operation(name: string): Operation {
  const found = OPERATIONS.find((one) => one.name === name);
  assert.ok(found !== undefined);
  return found;
}

function put(disk: CrashDisk, path: BytePath, text: string): void {
  const file = disk.create(path, 0o600);
  file.write(Buffer.from(text, "latin1"), 0, text.length, 0);
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
  await assert.rejects(
    runner.run({ kind: "open", access: plainAccess(disk, ROOT), items: [item] }),
    IntegrityError,
  );
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

/** What happens on the disk while an encryption waits for servers that did not see its guard. */
async function encryptWhile(t: TestContext, disk: CrashDisk, happens: () => void): Promise<void> {
  const waiting = t.mock.method(Atomics, "wait", () => {
    happens();
    return "timed-out";
  });
  try {
    await new SimulatedTde(disk).encrypt(ROOT);
  } finally {
    waiting.mock.restore();
  }
}

test("a server that did not see the guard gets back everything, wherever the undoing is cut", async (t) => {
  const encryption = operation("encrypt-datadir");
  const before = await encryption.prepare();
  // Some process that runs and is neither this one nor its parent.
  const startServer = (disk: CrashDisk): void => put(disk, SERVER_LOCK, `1\n${ROOT}\n`);
  const whole = before.copy();
  await assert.rejects(
    encryptWhile(t, whole, () => startServer(whole)),
    (error) => error instanceof StateError && error.message.includes("a server is running on"),
  );
  whole.remove(SERVER_LOCK);
  assertSameFiles(diskTree(whole, ROOT), diskTree(before, ROOT));

  for (let crashAt = 1; crashAt <= whole.steps; crashAt++) {
    const disk = before.copy({ crashAt });
    const cut = encryptWhile(t, disk, () => startServer(disk));
    await assert.rejects(cut, crashAt < whole.steps ? PowerCut : StateError, disk.struck);
    for (const survivors of ["synced-only", "everything"] as const) {
      const left = disk.reboot({ survivors });
      // The power took the server, too.
      left.remove(SERVER_LOCK);
      await encryption.always(left.copy());
      await new SimulatedTde(left).recover(ROOT);
      await encryption.check(left, false);
    }
  }
});

test("a server that ran while an encryption began has changed what it looked at: nothing is done", async (t) => {
  const disk = await operation("encrypt-datadir").prepare();
  const path = joinPath(ROOT, "global/pg_control");
  const began = encryptWhile(t, disk, () => {
    const control = readWholeFile(disk, path, 8192);
    control.writeBigInt64LE(control.readBigInt64LE(CONTROL_TIME) + 1n, CONTROL_TIME);
    control.writeUInt32LE(crc32c(control, 0, CONTROL_CRC), CONTROL_CRC);
    const file = disk.openForWriting(path);
    file.write(control, 0, control.length, 0);
    file.close();
  });
  await assert.rejects(began, /a server was started on "\/srv\/data" while tde read it/);
  const left = [...diskTree(disk, ROOT).keys()].filter((name) => name.includes("tde"));
  assert.deepEqual(left, []);
});

test("a server that starts on the source of a copy makes the copy worthless, and tde says so", async () => {
  const disk = await operation("encrypt-datadir --output").prepare();
  const source = diskTree(disk, ROOT);
  // Just before the copy would count.
  const isLast = (to: BytePath): boolean => to.endsWith("tde.journal");
  disk.rename = (from, to): void => {
    CrashDisk.prototype.rename.call(disk, from, to);
    if (isLast(to)) put(disk, SERVER_LOCK, `1\n${ROOT}\n`);
  };
  const output = { output: OUTPUT, tablespaceMapping: new Map([[TABLESPACE, OUTPUT_TABLESPACE]]) };
  await assert.rejects(new SimulatedTde(disk).encrypt(ROOT, output), /a server is running on/);
  disk.remove(SERVER_LOCK);
  assert.equal(await new SimulatedTde(disk).recover(OUTPUT), "output-emptied");
  assert.deepEqual(disk.readDirectory(OUTPUT), []);
  assertSameFiles(diskTree(disk, ROOT), source);
});

/** As `cp -a`. */
function copyFolder(disk: CrashDisk, from: BytePath, to: BytePath): void {
  disk.makeDirectory(to, 0o700);
  for (const { name, kind } of disk.readDirectory(from)) {
    const [source, target] = [joinPath(from, name), joinPath(to, name)];
    if (kind === "directory") copyFolder(disk, source, target);
    else if (kind === "link") disk.makeLink(disk.readLink(source), target);
    else put(disk, target, readWholeFile(disk, source, 2 ** 24).toString("latin1"));
  }
}

test("recovering a copy of an unfinished output leaves the original's tablespaces alone", async () => {
  const encryption = operation("encrypt-datadir --output");
  const whole = await encryption.prepare();
  await encryption.run(new SimulatedTde(whole));
  const cut = (await encryption.prepare()).copy({ crashAt: Math.floor(0.8 * whole.steps) });
  await assert.rejects(encryption.run(new SimulatedTde(cut)), PowerCut);
  const disk = cut.copy();
  const copy = "/srv/copy" as BytePath;
  copyFolder(disk, OUTPUT, copy);
  const [output, tablespace] = [diskTree(disk, OUTPUT), diskTree(disk, OUTPUT_TABLESPACE)];
  assert.ok(
    [...tablespace.values()].some(({ content }) => content !== undefined),
    "nothing is in the tablespace that could be lost",
  );
  await assert.rejects(
    new SimulatedTde(disk).recover(copy),
    (error) => error instanceof IntegrityError && error.message.includes("was moved or copied"),
  );
  assertSameFiles(diskTree(disk, OUTPUT), output);
  assertSameFiles(diskTree(disk, OUTPUT_TABLESPACE), tablespace);
  assert.equal(await new SimulatedTde(disk).recover(OUTPUT), "output-emptied");
  assert.deepEqual(disk.readDirectory(OUTPUT_TABLESPACE), []);
});

test("a file whose size the system does not tell is read whole", () => {
  const version = readWholeFile(new NodeFileSystem(), bytePath("/proc/self/status"), 2 ** 20);
  assert.match(version.toString(), /^Name:/);
  assert.equal(joinPath("/", "a"), "/a");
});
