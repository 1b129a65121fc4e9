/**
 * Folders of WAL as no server leaves them: sidecars that changed places, links and pipes in the place of files, disks
 * that are full or fail. Nothing is lost, nothing stays plaintext that is called encrypted.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { sidecarName, workingName } from "../../src/datadir/relation-path.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { rotateWal } from "../../src/engine/wal-readable/rotate-wal.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { rotateArchive } from "../../src/engine/wal-archive/rotate-archive.ts";
import { verifyArchive } from "../../src/engine/wal-archive/verify-archive.ts";
import { IntegrityError, KeyError, StateError, StorageError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import type { FileSystem } from "../../src/storage/file-system.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import {
  crossing,
  decrypt,
  diskWith,
  encrypt,
  FOLDER,
  writeFolder,
} from "../support/wal-folders.ts";
import { message, SEGMENT, WalWriter } from "../support/written-wal.ts";

const fs = new NodeFileSystem();
const [first, second] = [crossing().name(0), crossing().name(1)];

function sums(folder: string): string[] {
  return readdirSync(folder)
    .sort()
    .map((name) => {
      const path = join(folder, name);
      const isFile = lstatSync(path).isFile();
      return `${name} ${isFile ? readFileSync(path).toString("base64") : "no file"}`;
    });
}

test("sidecars that changed places are refused by both commands, and so are pairs under each other's names", async (t) => {
  for (const suffixes of [["_tde"], ["", "_tde"]]) {
    const folder = writeFolder(t, crossing());
    await encrypt(folder);
    for (const suffix of suffixes) {
      renameSync(join(folder, first + suffix), join(folder, "aside"));
      renameSync(join(folder, second + suffix), join(folder, first + suffix));
      renameSync(join(folder, "aside"), join(folder, second + suffix));
    }
    const before = sums(folder);
    await assert.rejects(decrypt(folder), IntegrityError);
    await assert.rejects(encrypt(folder), IntegrityError);
    assert.deepEqual(sums(folder), before);
  }
});

test("what is no file of the folder itself is refused before anything is written: links, directories, pipes", async (t) => {
  const put: readonly ((path: string, real: string) => void)[] = [
    (path, real) => symlinkSync(real, path),
    (path) => mkdirSync(path),
    (path) => void execFileSync("mkfifo", [path]),
  ];
  for (const [i, make] of put.entries()) {
    for (const name of [first, `${first}_tde`]) {
      const folder = writeFolder(t, crossing());
      if (name !== first) await encrypt(folder);
      const real = join(temporaryDirectory(t), "real");
      renameSync(join(folder, name), real);
      make(join(folder, name), real);
      const before = sums(folder);
      await assert.rejects(encrypt(folder), StateError, `${i} ${name}`);
      await assert.rejects(decrypt(folder), StateError, `${i} ${name}`);
      assert.deepEqual(sums(folder), before);
    }
  }
});

test("rotate does not call segments in readable mode plain, and verify does not call an empty folder whole", async (t) => {
  const folder = writeFolder(t, crossing());
  await encrypt(folder);
  const context = { fs, keys: testKeys(3), signal: undefined };
  const request = { archive: bytePath(folder), fromKey: undefined, dryRun: false };
  await assert.rejects(rotateArchive(context, request), StateError);
  const archive = bytePath(temporaryDirectory(t));
  await assert.rejects(verifyArchive(context, { archive, allowPlain: false }), StateError);
});

test("on a disk that is full, or fails at any step, a command ends with an error, and the next one finishes", async () => {
  const writer = crossing();
  const plain = diskWith(writer);
  const stored = diskWith(writer);
  const run = async (
    disk: FileSystem,
    work: typeof encryptWal | typeof decryptWal,
  ): Promise<void> => {
    await work(new SmallEngine({ fs: disk }).engine, testKeys(2), { folder: FOLDER });
  };
  await run(stored, encryptWal);
  for (const [start, work] of [
    [plain, encryptWal],
    [stored, decryptWal],
  ] as const) {
    for (const errno of ["ENOSPC", "EIO"] as const) {
      let failures = 0;
      for (let failAt = 2; ; failAt += 11) {
        const disk = start.copy({ failAt, errno, failForEver: errno === "ENOSPC" });
        try {
          await run(disk, work);
        } catch (error) {
          assert.ok(error instanceof StorageError, String(error));
          failures++;
        }
        if (disk.struck === undefined) break;
        const mended = disk.copy({});
        removeLock(mended);
        await run(mended, work);
        if (work === encryptWal) await run(mended, decryptWal);
        for (const [i, bytes] of writer.segments.entries()) {
          const path = bytePath(`${FOLDER}/${writer.name(i)}`);
          assert.ok(readWholeFile(mended, path, 2 * SEGMENT).equals(bytes), `${errno} ${failAt}`);
        }
        assert.equal(mended.readDirectory(FOLDER).length, writer.segments.length);
      }
      assert.ok(failures > 3, `${errno}: ${failures}`);
    }
  }
});

test("a killed command, and a power cut in the next one, lose nothing: what the first one renamed is made durable first", async () => {
  const writer = new WalWriter(17);
  writer.append(message("prefix", Buffer.from("what must not be lost")));
  const work = async (
    disk: FileSystem,
    command: typeof encryptWal | typeof decryptWal,
  ): Promise<unknown> =>
    await command(new SmallEngine({ fs: disk }).engine, testKeys(2), { folder: FOLDER });
  const [plain = assert.fail()] = writer.segments;
  const wholeSegment = (disk: FileSystem): Buffer =>
    readWholeFile(disk, bytePath(`${FOLDER}/${writer.name(0)}`), 2 * SEGMENT);
  const stored = diskWith(writer);
  await work(stored, encryptWal);
  let cuts = 0;
  for (let failAt = 1; ; failAt++) {
    // Every call fails from here on, as if the process was gone.
    const disk = stored.copy({ failAt, errno: "EIO", failForEver: true });
    const isKilled = await work(disk, decryptWal).then(
      () => false,
      () => true,
    );
    if (!isKilled) break;
    disk.heal();
    // Renamed, and nobody has synced that.
    if (!wholeSegment(disk).equals(plain)) continue;
    removeLock(disk);
    const left: CrashDisk[] = [];
    const cut = (): void => {
      for (const seed of [1, 2, 3]) left.push(disk.reboot({ survivors: "random", seed }));
    };
    await work(afterEachChange(disk, cut), decryptWal);
    for (const rebooted of left) {
      cuts++;
      removeLock(rebooted);
      await work(rebooted, decryptWal);
      assert.ok(wholeSegment(rebooted).equals(plain), `${failAt}`);
    }
  }
  assert.ok(cuts >= 9, String(cuts));
});

test("a rotation that was killed between its two renames is ended by the next run, whose power may be cut, too", async () => {
  const writer = new WalWriter(17);
  writer.append(message("prefix", Buffer.from("what must not be lost")));
  const [plain = assert.fail()] = writer.segments;
  const request = { archive: FOLDER, fromKey: undefined, dryRun: false };
  const rotate = async (disk: FileSystem): Promise<unknown> =>
    await rotateWal(new SmallEngine({ fs: disk }).engine, testKeys(2), request);
  const name = bytePath(`${FOLDER}/${writer.name(0)}`);
  const contentOf = (disk: FileSystem, path = name): Buffer =>
    readWholeFile(disk, path, 2 * SEGMENT);
  const stored = diskWith(writer);
  await encryptWal(new SmallEngine({ fs: stored }).engine, testKeys(1), { folder: FOLDER });
  const [segment, sidecar] = [contentOf(stored), contentOf(stored, sidecarName(name))];
  let cuts = 0;
  for (let failAt = 1; ; failAt++) {
    const disk = stored.copy({ failAt, errno: "EIO", failForEver: true });
    const isKilled = await rotate(disk).then(
      () => false,
      () => true,
    );
    if (!isKilled) break;
    disk.heal();
    const isBetween =
      contentOf(disk).equals(segment) && !contentOf(disk, sidecarName(name)).equals(sidecar);
    if (!isBetween) continue;
    removeLock(disk);
    const left: CrashDisk[] = [];
    const cut = (): void => {
      for (const seed of [1, 2, 3, 4]) left.push(disk.reboot({ survivors: "random", seed }));
    };
    await rotate(afterEachChange(disk, cut));
    for (const rebooted of left) {
      cuts++;
      removeLock(rebooted);
      const { engine } = new SmallEngine({ fs: rebooted });
      await decryptWal(engine, testKeys(2), { folder: FOLDER });
      assert.ok(contentOf(rebooted).equals(plain), `${failAt}`);
    }
  }
  assert.ok(cuts >= 9, String(cuts));
});

test("what a killed rotation left under a working name is kept by runs that cannot tell whether it is needed", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  await encrypt(folder, { keys: testKeys(1) });
  const path = join(folder, first);
  const old = readFileSync(path);
  await rotateWal(new SmallEngine().engine, testKeys(2), {
    archive: bytePath(folder),
    fromKey: undefined,
    dryRun: false,
  });
  // As if it was killed after the first of the two renames.
  const working = join(folder, workingName(bytePath(first)));
  const sealedAnew = readFileSync(path);
  writeFileSync(working, sealedAnew);
  writeFileSync(path, old);
  const isKept = (): boolean => readFileSync(working).length === sealedAnew.length;
  const other = testKeys(2, { keyringId: "7f3a000000000002", fill: 9 });
  await assert.rejects(decrypt(folder, other), KeyError);
  assert.ok(isKept());
  assert.equal(await decrypt(folder, testKeys(2), [writer.name(2)]), 1);
  assert.ok(isKept());
  sealedAnew[100_000] = (sealedAnew[100_000] ?? 0) ^ 1;
  writeFileSync(working, sealedAnew);
  const before = sums(folder);
  await assert.rejects(decrypt(folder), IntegrityError);
  assert.deepEqual(sums(folder), before);
  sealedAnew[100_000] = (sealedAnew[100_000] ?? 0) ^ 1;
  writeFileSync(working, sealedAnew);
  assert.equal(await decrypt(folder), 2);
  for (const [i, bytes] of writer.segments.entries())
    assert.ok(readFileSync(join(folder, writer.name(i))).equals(bytes));
  assert.equal(readdirSync(folder).length, writer.segments.length);
});

/** Nobody's, after the machine or the process has gone. */
function removeLock(disk: FileSystem): void {
  for (const { name } of disk.readDirectory(FOLDER)) {
    if (name.startsWith("tde.lock")) disk.remove(bytePath(`${FOLDER}/${name}`));
  }
}

/** A disk that tells of names that come, go and change. */
function afterEachChange(disk: CrashDisk, tell: () => void): FileSystem {
  return new Proxy(disk, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown => {
        const result: unknown = Reflect.apply(value, target, args);
        if (property === "rename" || property === "remove") tell();
        return result;
      };
    },
  });
}
