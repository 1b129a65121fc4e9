/**
 * Owner and mode of encrypted files are not authenticated: whoever can write to the directory can give ciphertext to
 * everybody. What is decrypted goes to the owner of the data directory and, where that lets its group in, to the group to
 * read, whatever its sealed form had. On a simulated disk, where anybody can be the owner.
 */
import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { decryptRelationsInto } from "../../src/engine/decrypt-relations.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import type { FileAttributes, FileStat } from "../../src/storage/file-system.ts";
import { crashCluster, ROOT, TABLESPACE } from "../support/crash-cluster.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { testKeys } from "../support/keys.ts";
import { copyOf, makeSmallCluster, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { treeOf } from "../support/tree.ts";

/** Who the data directory belongs to, and somebody else. */
const OWNER = 26;
const STRANGER = 1000;

interface Entry {
  readonly path: BytePath;
  readonly stat: FileStat;
}

/** Everything below a folder, behind links, too; the folder itself first. */
function* entriesOf(disk: CrashDisk, folder: BytePath): Generator<Entry> {
  const stat = disk.statFollowing(folder);
  if (stat === undefined) return;
  yield { path: folder, stat };
  if (stat.kind !== "directory") return;
  for (const { name } of disk.readDirectory(folder)) yield* entriesOf(disk, joinPath(folder, name));
}

function setAttributes(disk: CrashDisk, path: BytePath, change: Partial<FileAttributes>): void {
  const real = disk.realPath(path);
  const stat = disk.stat(real);
  assert.ok(stat !== undefined);
  const attributes = { ...stat, ...change };
  if (stat.kind === "directory") return disk.setAttributes(real, attributes);
  const file = disk.open(real);
  file.setAttributes(attributes);
  file.close();
}

/** Gives all files and folders away, but for the data directory itself. */
function openToAll(disk: CrashDisk, root: BytePath): void {
  for (const { path, stat } of entriesOf(disk, root)) {
    if (path === root) continue;
    const mode = stat.kind === "directory" ? 0o3777 : 0o6777;
    setAttributes(disk, path, { mode, uid: STRANGER, gid: STRANGER });
  }
}

async function encryptedDisk(rootMode: number): Promise<CrashDisk> {
  const disk = crashCluster();
  await new SmallEngine({ fs: disk }).encrypt(ROOT, { wal: "readable" });
  setAttributes(disk, ROOT, { mode: rootMode });
  openToAll(disk, ROOT);
  return disk;
}

/** @param mayBe - paths that nobody wrote. */
function assertClosed(
  disk: CrashDisk,
  folder: BytePath,
  modes: { readonly file: number; readonly folder: number },
  mayBe: ReadonlySet<string> = new Set(),
): void {
  let looked = 0;
  for (const { path, stat } of entriesOf(disk, folder)) {
    if (mayBe.has(path)) continue;
    looked++;
    const most = stat.kind === "directory" ? modes.folder : modes.file;
    const mode = stat.mode.toString(8);
    assert.equal(stat.mode & ~most, 0, `${path} has mode ${mode}`);
    assert.deepEqual([stat.uid, stat.gid], [OWNER, OWNER], `${path} is of ${stat.uid}:${stat.gid}`);
  }
  assert.ok(looked > 1);
}

/** The directory's own mode says whether its group is let in. */
const CASES = [
  { root: 0o700, modes: { file: 0o700, folder: 0o2700 } },
  { root: 0o750, modes: { file: 0o740, folder: 0o2750 } },
  { root: 0o777, modes: { file: 0o740, folder: 0o2750 } },
] as const;

for (const { root, modes } of CASES) {
  const what = `of a directory with mode 0${root.toString(8)}`;

  test(`what is decrypted in place is its owner's, whoever opened the sealed files to whom: ${what}`, async () => {
    const disk = await encryptedDisk(root);
    const engine = new SmallEngine({ fs: disk });
    const report = await engine.verify(ROOT);
    assert.ok(report.ok);
    assert.match(
      report.notices.join("\n"),
      /open to others than the owner.*\n.*another's than the directory's \(uid 26, gid 26\)/,
    );
    // What was readable before stays as it was: it is not written.
    const untouched = new Set(
      [
        "PG_VERSION",
        "postgresql.conf",
        "global/pg_control",
        "global/pg_filenode.map",
        "base/5/PG_VERSION",
        "pg_xact/0000",
      ].map((path) => joinPath(ROOT, path)),
    );
    // An empty relation file is neither.
    for (const { path, stat } of entriesOf(disk, ROOT))
      if (stat.kind === "file" && stat.sizeBytes === 0) untouched.add(path);
    await engine.decrypt(ROOT);
    assertClosed(disk, ROOT, modes, untouched);
    assertClosed(disk, TABLESPACE, modes, untouched);
  });

  test(`what is decrypted into a new directory is its owner's: ${what}`, async () => {
    const disk = await encryptedDisk(root);
    const engine = new SmallEngine({ fs: disk });
    const [output, tablespace] = ["/srv/new", "/srv/new_tablespace"] as BytePath[];
    assert.ok(output !== undefined && tablespace !== undefined);
    await decryptIntoOutput(engine.engine, engine.keyContext, engine.decryptOptions(ROOT), {
      output,
      tablespaceMapping: new Map([[TABLESPACE, tablespace]]),
    });
    assertClosed(disk, output, modes);
    assertClosed(disk, tablespace, { ...modes });
    const part = "/srv/part" as BytePath;
    await decryptRelationsInto(engine.engine, engine.keyContext, {
      root: ROOT,
      named: { ...NOTHING_SELECTED, databases: [bytePath("5")] },
      output: part,
      acceptOlder: false,
      dryRun: false,
    });
    // The folder itself is the one that the run made.
    for (const { path, stat } of entriesOf(disk, part)) {
      if (path === part) continue;
      const most = stat.kind === "directory" ? modes.folder : modes.file;
      assert.equal(stat.mode & ~most, 0, `${path} has mode ${stat.mode.toString(8)}`);
      assert.equal(stat.uid, OWNER, path);
    }
  });
}

test("segments that are decrypted, or restored from an archive, are the folder's owner's", async () => {
  const disk = crashCluster();
  const wal = "/srv/wal" as BytePath;
  const names = ["000000010000000000000020", "000000010000000000000021"].map((name) =>
    joinPath(wal, name),
  );
  // What the cluster's WAL has beside the small segments is none of their size.
  disk.remove(joinPath(wal, "000000010000000000000015"));
  const engine = new SmallEngine({ fs: disk });
  const request = { folder: wal, names: undefined };
  await encryptWal(engine.engine, engine.keyContext.keys, request);
  for (const path of names)
    setAttributes(disk, path, { mode: 0o666, uid: STRANGER, gid: STRANGER });
  await decryptWal(engine.engine, engine.keyContext.keys, request);
  for (const path of names) {
    const stat = disk.stat(path);
    assert.deepEqual([stat?.mode, stat?.uid, stat?.gid], [0o600, OWNER, OWNER], path);
  }

  const archive = "/srv/archive" as BytePath;
  disk.makeDirectory(archive, 0o755);
  const [segment] = names;
  assert.ok(segment !== undefined);
  const archived = joinPath(archive, "000000010000000000000020");
  const keys = testKeys();
  await archiveWal(
    { fs: disk, keys, joins: () => undefined },
    { source: segment, destination: archived, compression: "none" },
  );
  setAttributes(disk, archived, { mode: 0o666 });
  for (const [folderMode, mode] of [
    [0o700, 0o600],
    [0o750, 0o640],
  ] as const) {
    setAttributes(disk, wal, { mode: folderMode });
    const target = joinPath(wal, `RECOVERYXLOG${folderMode}`);
    await restoreWal(disk, keys, { source: archived, target, allowPlain: false });
    assert.equal(disk.stat(target)?.mode, mode);
  }
});

test("modes and owners of ordinary clusters come back as they were, and verify has nothing to say of them", async (t) => {
  for (const [file, folder] of [
    [0o600, 0o700],
    [0o640, 0o750],
  ] as const) {
    const datadir = makeSmallCluster();
    addSegments(datadir);
    for (const [path, { kind }] of treeOf(datadir)) {
      if (kind === "file") chmodSync(join(datadir, path), file);
      if (kind === "directory") chmodSync(join(datadir, path), folder);
    }
    // A script of the user's own.
    writeFileSync(join(datadir, "script.sh"), "#!/bin/sh\n", { mode: 0o700 });
    // Whoever owns what a link of the user's leads to, it is no part of the directory.
    symlinkSync("/etc/hostname", join(datadir, "server.crt"));
    const before = treeOf(datadir);
    const engine = new SmallEngine();
    await engine.encrypt(datadir, { wal: "readable" });
    const { notices, ok } = await engine.verify(datadir);
    assert.ok(ok);
    assert.deepEqual(notices, []);
    const output = join(temporaryDirectory(t), "output");
    await decryptIntoOutput(engine.engine, engine.keyContext, engine.decryptOptions(datadir), {
      output: bytePath(output),
      tablespaceMapping: new Map(),
    });
    const opened = copyOf(datadir);
    await engine.decrypt(opened);
    for (const tree of [treeOf(output), treeOf(opened)]) {
      for (const [path, { mode }] of before)
        assert.equal(tree.get(path)?.mode.toString(8), mode.toString(8), path);
    }
  }
});

test("what is decrypted into a folder that is there is its owner's, and nobody else's", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("only root gives files to others");
  const datadir = makeSmallCluster();
  const engine = new SmallEngine();
  await engine.encrypt(datadir);
  // Whoever stores the encrypted directory need not be who may read it.
  for (const path of ["", ...treeOf(datadir).keys()]) chownSync(join(datadir, path), 12345, 12345);
  chmodSync(datadir, 0o750);
  const output = join(temporaryDirectory(t), "output");
  mkdirSync(output, { mode: 0o700 });
  chownSync(output, 65534, 65534);
  await decryptIntoOutput(engine.engine, engine.keyContext, engine.decryptOptions(datadir), {
    output: bytePath(output),
    tablespaceMapping: new Map(),
  });
  for (const [path, { uid, gid, mode }] of treeOf(output)) {
    assert.deepEqual([uid, gid], [65534, 65534], path);
    assert.equal(mode & 0o077, 0, path);
  }
  assert.equal(statSync(output).uid, 65534);
});

test("verify names a single file that others can read", async () => {
  const datadir = makeSmallCluster();
  const engine = new SmallEngine();
  await engine.encrypt(datadir);
  chmodSync(join(datadir, ORDINARY), 0o604);
  const { notices, ok } = await engine.verify(datadir);
  assert.ok(ok);
  assert.deepEqual(notices, [
    `${ORDINARY} (mode 0604) is open to others than the owner, and the group to read; decryption takes that away from what it writes`,
  ]);
  await engine.decrypt(datadir);
  assert.equal(statSync(join(datadir, ORDINARY)).mode & 0o7777, 0o600);
});
