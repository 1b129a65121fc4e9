/**
 * backup_manifest through encryption and back, wherever the run is stopped; and copies of an encrypted directory that
 * lack what copying tools leave out. Needs no server: the manifest is written here, and checked file by file.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import type { EngineContext, KeyContext } from "../../src/engine/context.ts";
import { decryptDatadir } from "../../src/engine/decrypt-datadir.ts";
import { encryptDatadir } from "../../src/engine/encrypt-datadir.ts";
import type { EncryptReport } from "../../src/engine/encrypt-report.ts";
import { silentProgress } from "../../src/engine/progress-sink.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { verifyDatadir } from "../../src/engine/verify-datadir.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { IntegrityError, StorageError, TdeError } from "../../src/errors.ts";
import { BackupChecksum, serializeBackupFile } from "../../src/format/backup-manifest-file.ts";
import { openBackupManifest } from "../../src/format/backup-manifest.ts";
import type { FileSystem } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import { BadWriteFileSystem } from "../support/bad-write-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { TestMemory } from "../support/small-cluster.ts";
import { makeSmallDatadir, setClusterState } from "../support/small-datadir.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const PAGE = 8192;

test("an encryption that is stopped anywhere keeps the original of backup_manifest, and goes on to its end", async (t) => {
  const folder = temporaryDirectory(t);
  const original = join(folder, "original");
  makeBackup(original, FEW_FILES);
  const text = readFileSync(join(original, "backup_manifest"));
  const tree = treeOf(original);
  let stops = 0;
  for (let stopAt = 1, done = false; !done; stopAt++) {
    const root = join(folder, `run${stopAt}`);
    copyTree(original, root);
    try {
      await encrypt(root, new StoppingFileSystem(stopAt));
      done = true;
    } catch (error) {
      assert.ok(error instanceof Stopped, `operation ${stopAt}: ${String(error)}`);
      stops++;
      // What the process's death takes back.
      rmSync(join(root, "tde.lock"), { force: true });
      if (!existsSync(join(root, "tde.backup_manifest"))) {
        assert.deepEqual(readFileSync(join(root, "backup_manifest")), text, `operation ${stopAt}`);
      }
      await encrypt(root);
    }
    assertListsStoredFiles(root);
    const report = await verify(root);
    assert.deepEqual(report.problems, [], `operation ${stopAt}`);
    await decrypt(root);
    assertSameTree(treeOf(root), tree);
    rmSync(root, { recursive: true });
  }
  assert.ok(stops > 40, `only ${stops} operations`);
});

test("no manifest takes its place that is not what was written, and none is made of what was not", async (t) => {
  const folder = temporaryDirectory(t);
  const original = join(folder, "original");
  makeBackup(original, FEW_FILES);
  const tree = treeOf(original);
  // What is written twice is written over by what comes next.
  for (const how of ["flip", "drop"] as const) {
    for (const [written, name] of [
      ["tde_tdenew.backup_manifest", "tde.backup_manifest"],
      ["tde_tdenew.draft.manifest", "tde.manifest"],
      ["tde_tdenew.sums", "tde_tdenew.sums"],
      ["backup_manifest_tdenew", "backup_manifest"],
      ["tde_tdenew.manifest", "tde.manifest"],
    ] as const) {
      const root = join(folder, `${how} ${written}`);
      copyTree(original, root);
      const fs = new BadWriteFileSystem((path) => path.endsWith(`/${written}`), how);
      await assert.rejects(encrypt(root, fs), (error) => {
        assert.ok(error instanceof StorageError, String(error));
        assert.equal(
          error.message.split(" does not read as it was written")[0],
          `what was written of "${name}"`,
        );
        return true;
      });
      await encrypt(root);
      assertListsStoredFiles(root);
      assert.deepEqual((await verify(root)).problems, []);
      await decrypt(root);
      assertSameTree(treeOf(root), tree);
    }
  }
});

test("an encrypted backup that gets more files is listed anew from the sealed original", async (t) => {
  const root = join(temporaryDirectory(t), "backup");
  makeBackup(root);
  const before = treeOf(root);
  await encrypt(root);
  const first = readFileSync(join(root, "backup_manifest"));
  write(root, "base/5/20001", Buffer.alloc(PAGE, 7));
  assert.equal((await encrypt(root)).outcome, "encrypted");
  const second = readFileSync(join(root, "backup_manifest"));
  assert.ok(!first.equals(second));
  assertListsStoredFiles(root);
  await decrypt(root);
  assertSameTree(treeOf(root), before, { except: (path) => path === "./base/5/20001" });
});

test("a rewritten backup_manifest is never sealed as an original", async (t) => {
  const folder = temporaryDirectory(t);
  const root = join(folder, "backup");
  makeBackup(root);
  await encrypt(root);
  rmSync(join(root, "tde.backup_manifest"));
  write(root, "base/5/20001", Buffer.alloc(PAGE, 7));
  const left = treeOf(root);
  await assert.rejects(encrypt(root), {
    code: "integrity",
    message: /lists files of tde's, but its original, "tde\.backup_manifest", is missing/,
  });
  assertSameTree(treeOf(root), left);
});

test("a backup_manifest that cannot be rewritten is refused before anything is changed", async (t) => {
  const folder = temporaryDirectory(t);
  const root = join(folder, "backup");
  makeBackup(root);
  const good = readFileSync(join(root, "backup_manifest"));
  const changed = Buffer.from(good);
  changed.writeUInt8(changed.readUInt8(100) ^ 1, 100);
  const bad = [Buffer.alloc(0), good.subarray(0, good.length - 1), changed, Buffer.from("{}\n")];
  for (const [i, bytes] of bad.entries()) {
    write(root, "backup_manifest", bytes);
    const before = treeOf(root);
    await assert.rejects(encrypt(root), TdeError, `case ${i}`);
    assertSameTree(treeOf(root), before);
  }
});

test("a sealed original that belongs to no run and no manifest is refused", async (t) => {
  const root = join(temporaryDirectory(t), "backup");
  makeBackup(root);
  await encrypt(root);
  const sealed = readFileSync(join(root, "tde.backup_manifest"));
  await decrypt(root);
  write(root, "tde.backup_manifest", sealed);
  const before = treeOf(root);
  await assert.rejects(encrypt(root), IntegrityError);
  assertSameTree(treeOf(root), before);
});

test("a copy without what copying tools leave out verifies and decrypts", async (t) => {
  const root = join(temporaryDirectory(t), "backup");
  makeBackup(root);
  const before = treeOf(root);
  await encrypt(root);
  // The main fork of the unlogged relation goes, and its sidecar stays: no tool knows it.
  const leftOut = [
    "backup_manifest",
    "base/5/16500",
    "base/5/pg_internal.init",
    "base/pgsql_tmp",
    "pg_notify/0000",
    "pg_replslot/standby",
    "pg_stat_tmp/global.stat",
    "postmaster.opts",
  ];
  for (const path of leftOut) rmSync(join(root, path), { recursive: true });
  const report = await verify(root);
  assert.deepEqual(report.problems, []);
  for (const path of leftOut) assert.ok(report.missingExpendable.includes(path), path);
  await decrypt(root);
  // The original list comes back even where the rewritten one was left out.
  const except = (path: string): boolean =>
    leftOut.some((left) => left !== "backup_manifest" && path.startsWith(`./${left}`));
  assertSameTree(treeOf(root), before, { except });
});

test("the sidecar of a file that must not be missing is reported without it", async (t) => {
  const root = join(temporaryDirectory(t), "backup");
  makeBackup(root);
  await encrypt(root);
  rmSync(join(root, "base/5/16384"));
  const { problems } = await verify(root);
  assert.deepEqual(problems.map(({ kind, path }) => `${kind} ${path}`).sort(), [
    "extra base/5/16384_tde",
    "missing base/5/16384",
  ]);
  await assert.rejects(decrypt(root), IntegrityError);
});

type Files = Readonly<Record<string, Buffer>>;

/** Enough to have something sealed of each kind, and few enough to stop at every operation. */
const FEW_FILES: Files = {
  backup_label: Buffer.from("START WAL LOCATION: 0/2000028\n"),
  "base/5/16384": Buffer.alloc(2 * PAGE, 3),
  "log/postgresql.log": Buffer.from("a statement"),
};

const FILES: Files = {
  backup_label: Buffer.from("START WAL LOCATION: 0/2000028\n"),
  "base/5/PG_VERSION": Buffer.from("17\n"),
  "base/5/16384": Buffer.alloc(2 * PAGE, 3),
  "base/5/16385": Buffer.alloc(0),
  "base/5/16500": Buffer.alloc(PAGE, 5),
  "base/5/16500_init": Buffer.alloc(PAGE, 6),
  "base/5/pg_internal.init": Buffer.from("cached catalogs"),
  "base/5/INCREMENTAL.16390": Buffer.alloc(12, 1),
  "base/pgsql_tmp/pgsql_tmp7.0": Buffer.from("spilled rows"),
  "log/postgresql.log": Buffer.from("a statement"),
  "pg_notify/0000": Buffer.from("a payload"),
  "pg_replslot/standby/state": Buffer.from("a slot"),
  "pg_stat_tmp/global.stat": Buffer.from("statistics"),
  "pg_wal/000000010000000000000002": Buffer.alloc(4096, 9),
  "postmaster.opts": Buffer.from("postgres\n"),
};

/** A cluster of 17, as a base backup has it: with a label, a list of its files, and a state of a running server. */
function makeBackup(root: string, files: Files = FILES): void {
  makeSmallDatadir(root, 17);
  setClusterState(root, "in production");
  for (const [path, bytes] of Object.entries(files)) write(root, path, bytes);
  const listed = [...treeOf(root)]
    .filter(([path, { kind }]) => kind === "file" && !path.startsWith("./pg_wal/"))
    .map(([path]) => path.slice("./".length));
  write(root, "backup_manifest", backupManifestOf(root, listed));
}

/** In the layout that PostgreSQL writes, with SHA-256. */
function backupManifestOf(root: string, paths: readonly string[]): Buffer {
  const lines = paths.map((path) => {
    const bytes = readFileSync(join(root, path));
    const checksum = sha256(bytes).toString("hex");
    const facts = {
      sizeBytes: bytes.length,
      modifyTime: 0,
      algorithm: "SHA256",
      checksum,
    } as const;
    return serializeBackupFile(facts, { path: path as BytePath });
  });
  const range = '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }';
  const text =
    '{ "PostgreSQL-Backup-Manifest-Version": 1,\n' +
    `"Files": [\n${lines.join(",\n")}\n],\n"WAL-Ranges": [\n${range}\n],\n`;
  const sum = sha256(Buffer.from(text, "latin1")).toString("hex");
  return Buffer.from(`${text}"Manifest-Checksum": "${sum}"}\n`, "latin1");
}

/** Size and checksum of every listed file but those in pg_wal; and that no file of tde's is left out. */
function assertListsStoredFiles(root: string): void {
  const text = readFileSync(join(root, "backup_manifest"));
  const listed = new Set<string>();
  for (const file of openBackupManifest(() => [text], "backup_manifest").files()) {
    const { path, sizeBytes, algorithm, checksum } = file;
    const bytes = readFileSync(join(root, path));
    const sum = new BackupChecksum(algorithm);
    sum.update(bytes);
    assert.deepEqual([bytes.length, sum.finish()], [sizeBytes, checksum], path);
    assert.equal(algorithm, path === "tde.manifest" ? "NONE" : "SHA256", path);
    listed.add(path);
  }
  const own = [...treeOf(root).keys()]
    .map((path) => path.slice("./".length))
    .filter((path) => path.startsWith("tde.") || /_tde(\.\d+)?$/.test(path));
  assert.deepEqual(
    own.filter((path) => !listed.has(path)),
    [],
  );
}

function write(root: string, path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o700 });
  writeFileSync(join(root, path), bytes, { mode: 0o600 });
  const { atime } = statSync(join(root, path));
  utimesSync(join(root, path), atime, 1_700_000_000);
}

const KEY_CONTEXT: KeyContext = {
  keys: testKeys(1),
  memory: new TestMemory(),
};

function engineOn(fs: FileSystem): EngineContext {
  return {
    fs,
    startRunner: (context, onBytes) => new InlineRunner(fs, context, onBytes),
    progress: silentProgress,
    notice: () => {},
    signal: undefined,
    command: "a test",
  };
}

async function encrypt(
  root: string,
  fs: FileSystem = new NodeFileSystem(),
): Promise<EncryptReport> {
  return encryptDatadir(engineOn(fs), KEY_CONTEXT, {
    root: root as BytePath,
    wal: "sealed",
    assumeStopped: false,
    sealConfig: false,
    acceptOlder: false,
    acceptChanged: [],
    scope: NOTHING_SELECTED,
    dryRun: false,
  });
}

async function verify(root: string): Promise<VerifyReport> {
  const options = {
    root: root as BytePath,
    expectRoot: undefined,
    acceptOlder: false,
    acceptChanged: [],
    scope: NOTHING_SELECTED,
  };
  return verifyDatadir(engineOn(new NodeFileSystem()), KEY_CONTEXT, options);
}

async function decrypt(root: string): Promise<void> {
  await decryptDatadir(engineOn(new NodeFileSystem()), KEY_CONTEXT, {
    root: root as BytePath,
    acceptOlder: false,
    acceptChanged: [],
    restoreControl: false,
    keepRecoverySettings: false,
    dryRun: false,
  });
}
