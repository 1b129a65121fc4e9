/**
 * Every command that writes, run as a process whose calls of the system are noted: what it says to have done is durable,
 * in the order that docs/RELIABILITY.md promises, by syncs that were really made.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { auditSyncs, type CallLog, fileCallLog } from "../support/file-calls.ts";
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
function audited(...args: readonly string[]): { fileSyncs: number; directorySyncs: number } {
  const keys = { TDE_KEYRING: join(folder, "app.keyring"), TDE_KEY_FILE: join(folder, "kek") };
  const { status, stderr } = spawnSync(process.execPath, [...log.execArgv, TDE_PROGRAM, ...args], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], ...log.env, ...keys },
  });
  assert.equal(status, 0, stderr);
  const audit = auditSyncs(log.take());
  assert.deepEqual(audit.problems, [], args.join(" "));
  return audit;
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

test("wal archive, once and again, and wal restore", () => {
  const name = segments[0] ?? "";
  const target = join(folder, "archive", name.slice("pg_wal/".length));
  audited("wal", "archive", join(plain, name), target);
  const again = audited("wal", "archive", join(plain, name), target);
  assert.deepEqual([again.fileSyncs + again.directorySyncs], [2], "the file and its directory");
  audited("wal", "restore", target, join(folder, "RECOVERYXLOG"));
});

test("wal encrypt, rotate --wal and wal decrypt", () => {
  const wal = join(folder, "wal");
  audited("wal", "encrypt", wal);
  audited("keyring", "new-key");
  audited("rotate", "--wal", wal);
  audited("wal", "decrypt", wal);
});
