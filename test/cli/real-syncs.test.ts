/**
 * Every command that writes, run as a process whose calls of the system are noted: what it says to have done is durable,
 * in the order that docs/RELIABILITY.md promises, by syncs that were really made.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import {
  type Audit,
  auditSyncs,
  type CallLog,
  type FileCall,
  fileCallLog,
} from "../support/file-calls.ts";
import { copyOf, makeSmallCluster, ORDINARY } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { TDE_PROGRAM } from "../support/tde.ts";
import { crossing } from "../support/wal-folders.ts";

let folder = "";
let plain = "";
let datadir = "";
let log: CallLog;
let segments: readonly string[] = [];

before(() => {
  folder = temporaryPath("syncs");
  mkdirSync(folder, { recursive: true });
  plain = makeSmallCluster();
  segments = addSegments(plain).paths;
  datadir = copyOf(plain);
  mkdirSync(join(folder, "archive"));
  mkdirSync(join(folder, "wal"));
  const writer = crossing();
  for (const [i, bytes] of writer.segments.entries())
    writeFileSync(join(folder, "wal", writer.name(i)), bytes);
  log = fileCallLog(folder);
});

/** Runs a command to its end, and holds what it asked of the system against the protocol. */
function audited(...args: readonly string[]): Audit & { readonly calls: readonly FileCall[] } {
  const keys = { TDE_KEYRING: join(folder, "app.keyring"), TDE_KEY_FILE: join(folder, "kek") };
  const { status, stderr } = spawnSync(process.execPath, [...log.execArgv, TDE_PROGRAM, ...args], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], ...log.env, ...keys },
  });
  assert.equal(status, 0, stderr);
  const calls = log.take();
  const audit = auditSyncs(calls);
  assert.deepEqual(audit.problems, [], args.join(" "));
  return { ...audit, calls };
}

test("keyring create: key file, keyring and state file are durable", () => {
  const { fileSyncs } = audited("keyring", "create", "--new-key-file");
  assert.ok(fileSyncs >= 2);
  audited("keyring", "new-key");
});

test("encrypt-datadir: every new file is synced before it takes its place, and all of it before the journal goes", () => {
  const { fileSyncs, directorySyncs } = audited("encrypt-datadir", "-D", datadir, "-j", "2");
  const sidecars = readdirSync(datadir, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.includes("_tde"),
  );
  assert.ok(sidecars.length >= 10);
  // Each with its file; journal, guard, manifest and state file besides.
  assert.ok(fileSyncs >= 2 * sidecars.length + 4, `${fileSyncs} syncs of files`);
  assert.ok(directorySyncs >= 10, `${directorySyncs} syncs of directories`);
});

test("sync: what is written in place is synced, too", () => {
  appendFileSync(join(plain, ORDINARY), Buffer.alloc(8192, 7));
  audited("sync", plain, datadir);
});

test("rotate", () => {
  audited("keyring", "new-key");
  audited("rotate", "--all", "-D", datadir, "-j", "2");
});

test("decrypt-datadir, into another directory and in place", () => {
  audited("decrypt-datadir", "-D", datadir, "--output", join(folder, "opened"));
  audited("decrypt-datadir", "-D", datadir, "-j", "2");
});

test("encrypt-datadir --output", () => {
  audited("encrypt-datadir", "-D", plain, "--output", join(folder, "sealed"), "-j", "2");
});

/** What was asked for a file, by its names, and for its directory after that; one write for many. */
function stepsOf(calls: readonly FileCall[], directory: string, isMeant: RegExp): string[] {
  const steps: string[] = [];
  for (const { what, path } of calls) {
    const isDirectory = path === directory;
    if (!isDirectory && !isMeant.test(path)) continue;
    const step = isDirectory ? `${what} the directory` : what;
    if (step !== "write" || steps.at(-1) !== "write") steps.push(step);
  }
  return steps;
}

test("wal archive: the file is synced before its name, and that before the server is told", () => {
  const archive = join(folder, "archive");
  mkdirSync(archive);
  const create = ["create", "write", "sync", "link", "unlink", "sync the directory"];
  for (const [i, segment] of segments.slice(0, 2).entries()) {
    const name = basename(segment);
    const command = ["wal", "archive", join(plain, segment), join(archive, name)];
    const { calls, fileSyncs, directorySyncs } = audited(...command);
    // The first one makes the archive's own folder and file, and the state file knows of it.
    if (i > 0) assert.deepEqual([fileSyncs, directorySyncs], [1, 1]);
    assert.deepEqual(stepsOf(calls, archive, new RegExp(name)).slice(-create.length), create);
    // Whoever wrote it may have been killed before its sync.
    const again = audited(...command);
    const sync = ["sync", "sync the directory"];
    assert.deepEqual(stepsOf(again.calls, archive, new RegExp(name)), sync);
    assert.equal(again.calls.length, sync.length);
  }
});

test("wal restore: the file is synced before its name, and that before the server is told", () => {
  const target = join(folder, "restored", "RECOVERYXLOG");
  mkdirSync(join(folder, "restored"));
  const source = join(folder, "archive", basename(segments[1] ?? ""));
  // Once more over what is there.
  for (let i = 0; i < 2; i++) {
    const { calls, fileSyncs, directorySyncs } = audited("wal", "restore", source, target);
    const steps = ["create", "write", "sync", "rename", "sync the directory"];
    assert.deepEqual(stepsOf(calls, dirname(target), /RECOVERYXLOG/), steps);
    assert.deepEqual([fileSyncs, directorySyncs], [1, 1]);
  }
  assert.deepEqual(readFileSync(target), readFileSync(join(plain, segments[1] ?? "")));
});

test("wal encrypt, rotate --wal and wal decrypt", () => {
  const wal = join(folder, "wal");
  audited("wal", "encrypt", wal);
  audited("keyring", "new-key");
  audited("rotate", "--wal", wal);
  audited("wal", "decrypt", wal);
});
