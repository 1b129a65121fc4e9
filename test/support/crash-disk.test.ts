/** The simulated disk itself: one that lost nothing would let every mistake of the protocol pass. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { StorageError } from "../../src/errors.ts";
import { replaceFileDurably } from "../../src/storage/durable-replace.ts";
import { readExactly, readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk, PowerCut } from "./crash-disk.ts";
import { randomFrom } from "./crash-nodes.ts";

const FILE = "/a/file" as BytePath;
const FOLDER = "/a" as BytePath;
const SEEDS = 200;

/** A durable folder with a durable file of one letter. */
function diskWith(letter: string, sizeBytes = 20_000): CrashDisk {
  const disk = new CrashDisk();
  disk.makeDirectory(FOLDER, 0o700);
  put(disk, FILE, letter.repeat(sizeBytes));
  return disk.copy();
}

function put(disk: CrashDisk, path: BytePath, text: string, sync = false): void {
  const file = disk.stat(path) === undefined ? disk.create(path, 0o600) : disk.openForWriting(path);
  writeAll(file, Buffer.from(text), 0, text.length, 0);
  if (sync) file.sync();
  file.close();
}

function get(disk: CrashDisk, path: BytePath): string | undefined {
  if (disk.stat(path) === undefined) return undefined;
  return readWholeFile(disk, path, 2 ** 20).toString("latin1");
}

/** What random power cuts leave, each state once. */
function leftovers<T>(disk: CrashDisk, look: (left: CrashDisk) => T): Set<T> {
  const seen = new Set<T>();
  for (let seed = 0; seed < SEEDS; seed++) {
    seen.add(look(disk.reboot({ survivors: "random", seed })));
  }
  return seen;
}

test("content that was not synced is lost, kept, or kept in part", () => {
  const disk = diskWith("a");
  put(disk, FILE, "b".repeat(20_000));
  assert.equal(get(disk.reboot({ survivors: "synced-only" }), FILE), "a".repeat(20_000));
  assert.equal(get(disk.reboot({ survivors: "everything" }), FILE), "b".repeat(20_000));
  const kinds = leftovers(disk, (left) => {
    const content = get(left, FILE) ?? "";
    const blocks = content.match(/[^]{1,4096}/g) ?? [];
    const isTorn = blocks.some((block) => /ba/.test(block));
    return isTorn ? "torn" : `${content.includes("a")},${content.includes("b")}`;
  });
  assert.deepEqual(kinds, new Set(["true,false", "false,true", "true,true", "torn"]));
});

test("a new size may come to the disk without the content", () => {
  const disk = diskWith("a", 10);
  put(disk, FILE, "b".repeat(9000));
  const found = leftovers(disk, (left) => /^a{10}\0{8990}$/.test(get(left, FILE) ?? ""));
  assert.ok(found.has(true));
});

test("content that was synced is there whatever happens", () => {
  const disk = diskWith("a");
  put(disk, FILE, "b".repeat(20_000), true);
  assert.deepEqual(
    leftovers(disk, (left) => get(left, FILE)),
    new Set(["b".repeat(20_000)]),
  );
});

test("a name is safe only when its directory was synced, and each alone until then", () => {
  const disk = diskWith("a");
  put(disk, "/a/x" as BytePath, "x", true);
  put(disk, "/a/y" as BytePath, "y", true);
  disk.remove(FILE);
  const names = (left: CrashDisk): string =>
    left
      .readDirectory(FOLDER)
      .map(({ name }) => name)
      .sort()
      .join(" ");
  assert.equal(names(disk.reboot({ survivors: "synced-only" })), "file");
  assert.equal(leftovers(disk, names).size, 8);
  disk.syncDirectory(FOLDER);
  assert.deepEqual(leftovers(disk, names), new Set(["x y"]));
});

test("a rename leaves the old file or the new one, and never a name without a file", () => {
  const disk = diskWith("a", 10);
  put(disk, "/a/new" as BytePath, "bbb", true);
  disk.syncDirectory(FOLDER);
  disk.rename("/a/new" as BytePath, FILE);
  const found = leftovers(
    disk,
    (left) => `${get(left, FILE)} ${left.stat("/a/new" as BytePath)?.kind}`,
  );
  assert.deepEqual(found, new Set(["aaaaaaaaaa file", "bbb undefined"]));
});

test("replacing a file without a sync is caught", () => {
  const naive = diskWith("a", 5000);
  put(naive, "/a/new" as BytePath, "b".repeat(5000));
  naive.rename("/a/new" as BytePath, FILE);
  naive.syncDirectory(FOLDER);
  const broken = leftovers(naive, (left) => /^(a{5000}|b{5000})$/.test(get(left, FILE) ?? ""));
  assert.ok(broken.has(false), "no power cut showed that the new content was never synced");

  const careful = diskWith("a", 5000);
  replaceFileDurably(careful, FILE, Buffer.from("b".repeat(5000)), 0o600);
  assert.deepEqual(
    leftovers(careful, (left) => get(left, FILE)),
    new Set(["b".repeat(5000)]),
  );
});

test("a sync that failed is not made good by the next one, only by writing again", () => {
  const disk = diskWith("a").copy({ failAt: 4, errno: "EIO" });
  const file = disk.openForWriting(FILE);
  file.write(Buffer.from("b"), 0, 1, 0);
  file.stat();
  assert.throws(() => file.sync(), StorageError);
  file.sync();
  assert.equal(get(disk.reboot({ survivors: "everything" }), FILE)?.[0], "a");
  file.write(Buffer.from("b"), 0, 1, 0);
  file.sync();
  assert.equal(get(disk.reboot({ survivors: "synced-only" }), FILE)?.[0], "b");
});

test("the power goes before the given step, and stays away", () => {
  const disk = diskWith("a").copy({ crashAt: 2 });
  disk.makeDirectory("/a/first" as BytePath, 0o700);
  assert.throws(() => disk.remove(FILE), PowerCut);
  assert.throws(() => disk.stat(FILE), PowerCut);
  const left = disk.reboot({ survivors: "everything" });
  assert.ok(left.stat(FILE) !== undefined && left.stat("/a/first" as BytePath) !== undefined);
});

test("a call fails once or from there on, and a full disk lets files be read and removed", () => {
  const once = diskWith("a").copy({ failAt: 1, errno: "EIO" });
  assert.throws(() => once.stat(FILE), { errno: "EIO" });
  assert.ok(once.stat(FILE) !== undefined);
  const full = diskWith("a").copy({ failAt: 1, errno: "ENOSPC", failForEver: true });
  assert.equal(get(full, FILE)?.length, 20_000);
  assert.throws(() => full.create("/a/x" as BytePath, 0o600), { errno: "ENOSPC" });
  full.remove(FILE);
  assert.equal(full.stat(FILE), undefined);
});

test("reads are cut short and changed when they are to be", () => {
  const short = diskWith("a").copy({ shortTransfers: randomFrom(1) });
  const file = short.open(FILE);
  const buffer = Buffer.alloc(20_000);
  assert.ok(file.read(buffer, 0, buffer.length, 0) < buffer.length);
  readExactly(file, buffer, 0, buffer.length, 0);
  assert.equal(buffer.toString(), "a".repeat(20_000));
  const spoilt = diskWith("a").copy({ flipRead: 1 });
  assert.notEqual(get(spoilt, FILE), "a".repeat(20_000));
  assert.equal(get(spoilt, FILE), "a".repeat(20_000));
});
