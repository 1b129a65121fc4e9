/**
 * What `tde info` tells of a directory without any key: held against what lies on disk and what verify, with the key,
 * counts.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { type DirectoryInfo, directoryInfo } from "../../src/engine/directory-info.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { FormatError, StateError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { FIXTURE_MAJORS, fixtureTruth } from "../support/fixture.ts";
import { keyIdsOnDisk } from "../support/key-ids-on-disk.ts";
import { KEYRING_ID, testKeys } from "../support/keys.ts";
import { copyOf, makeSmallCluster, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const plain = makeSmallCluster();
const encrypted = copyOf(plain);
await new SmallEngine().encrypt(encrypted);

function infoOf(datadir: string): DirectoryInfo {
  return directoryInfo(new NodeFileSystem(), bytePath(datadir));
}

/** An encryption that was interrupted when the files were in their places, but the manifest was not. */
async function interrupted(datadir: string): Promise<void> {
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal }).encrypt(copyOf(plain));
  const manifest = rehearsal.paths.findIndex((path) => path.includes("tde_tdenew.manifest"));
  const fs = new StoppingFileSystem(manifest + 1);
  await assert.rejects(new SmallEngine({ fs }).encrypt(datadir));
}

for (const major of FIXTURE_MAJORS) {
  test(`a plain directory of ${major} is told with what pg_controldata prints of it`, () => {
    const { state, origin, datadir, manifest, stored, notes } = infoOf(makeSmallCluster(major));
    assert.deepEqual([state, origin, manifest, stored], ["plain", "cluster", undefined, undefined]);
    assert.deepEqual(notes, []);
    const truth = fixtureTruth(major, "pg_controldata.txt");
    assert.match(truth, new RegExp(`system identifier: +${datadir?.control.systemIdentifier}\n`));
    assert.match(truth, new RegExp(`cluster state: +${datadir?.control.state}\n`));
    assert.equal(datadir?.major, major);
  });
}

test("of a plain directory every relation file is counted, and every other", () => {
  const files = readdirSync(plain, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const isRelation = (path: string): boolean => /\/(base\/1|global)\/\d+(_\w+)?$/.test(path);
  const sum = (paths: string[]): { files: number; bytes: number } => ({
    files: paths.length,
    bytes: paths.reduce((bytes, path) => bytes + statSync(path).size, 0),
  });
  const { relations, others } = infoOf(plain).plain ?? {};
  assert.deepEqual({ ...relations }, sum(files.filter(isRelation)));
  assert.deepEqual({ ...others }, sum(files.filter((path) => !isRelation(path))));
});

test("of an encrypted directory it tells keyring, epoch, root and the pages under each key", async () => {
  const datadir = copyOf(encrypted);
  const engine = new SmallEngine({ keys: testKeys(2) });
  const named = { ...NOTHING_SELECTED, relations: [bytePath(ORDINARY)] };
  const report = await engine.rotate(datadir, { kind: "relations", named });
  const { state, manifest, notes } = infoOf(datadir);
  assert.equal(state, "encrypted");
  assert.deepEqual(notes, []);
  assert.equal(manifest?.header.keyringId, KEYRING_ID);
  assert.deepEqual([manifest?.header.epoch, manifest?.root], [2n, report.root]);
  const onDisk = keyIdsOnDisk(datadir);
  const count = (keyId: number): number =>
    (onDisk.get(`slot ${keyId}`) ?? 0) + (onDisk.get(`container ${keyId}`) ?? 0);
  assert.deepEqual(
    [...(manifest?.load ?? [])].map(([keyId, { pages }]) => [keyId, pages]),
    [
      [1, count(1)],
      [2, count(2)],
    ],
  );
  assert.ok(count(2) > 0);
});

test("the manifest's time is when it was written, whatever the times of the files that it names", async () => {
  const begun = Date.now();
  const datadir = copyOf(plain);
  await new SmallEngine().encrypt(datadir);
  const writtenAt = infoOf(datadir).manifest?.writtenAt.getTime() ?? 0;
  // A file system may keep coarser times than the clock.
  assert.ok(writtenAt > begun - 2000 && writtenAt < Date.now() + 2000);
});

test("what stays readable is told by reason, and what the user left out stands apart", async () => {
  const datadir = copyOf(plain);
  const report = await new SmallEngine().encrypt(datadir, {
    wal: "skip",
    scope: { ...NOTHING_SELECTED, exclude: [bytePath(ORDINARY)] },
  });
  const readable = infoOf(datadir).manifest?.readable ?? [];
  const proved = report.proof?.plaintext ?? [];
  const guard = readable.find(({ why }) => why.startsWith("the guard"));
  assert.equal(guard?.example, "postgresql.auto.conf");
  // The proof pass looked at the files themselves.
  const byReason = (groups: typeof readable): typeof readable =>
    groups.filter((group) => group !== guard).toSorted((a, b) => (a.why < b.why ? -1 : 1));
  assert.deepEqual(byReason(readable), byReason(proved));
  assert.deepEqual(
    readable.filter(({ exposed }) => exposed).map(({ why, files }) => [why, files]),
    [
      ["relations out of scope", 3],
      ["WAL, left as it is by --wal=skip", 1],
    ],
  );
});

test("of an unfinished run it tells which, and counts keys in the files, for the manifest is of before", async () => {
  const datadir = copyOf(plain);
  await interrupted(datadir);
  const { state, run, stored, manifest } = infoOf(datadir);
  assert.deepEqual([state, run?.operation, run?.keyId], ["unfinished", "encrypt", 1]);
  assert.equal(manifest, undefined);
  assert.deepEqual(stored?.keyringIds, [KEYRING_ID]);
  const onDisk = keyIdsOnDisk(datadir);
  const pages = (onDisk.get("slot 1") ?? 0) + (onDisk.get("container 1") ?? 0);
  assert.equal(stored?.load.get(1)?.pages, pages);
  assert.ok(pages > 100);
});

test("a new directory that a run did not get far with is told by its journal", async () => {
  const output = join(dirname(copyOf(plain)), "output");
  const fs = new StoppingFileSystem();
  const rehearsal = new SmallEngine({ fs });
  const into = (path: string): Parameters<typeof encryptIntoOutput>[3] => ({
    output: bytePath(path),
    tablespaceMapping: new Map(),
  });
  const run = (engine: SmallEngine, path: string): Promise<unknown> =>
    encryptIntoOutput(engine.engine, engine.keyContext, engine.encryptOptions(plain), into(path));
  await run(rehearsal, `${output}.rehearsal`);
  const firstPage = fs.paths.findIndex((path) => path.includes("/base/"));
  await assert.rejects(run(new SmallEngine({ fs: new StoppingFileSystem(firstPage + 1) }), output));
  const { state, run: header, datadir, notes } = infoOf(output);
  assert.deepEqual([state, header?.operation, datadir], ["unfinished", "encryptOutput", undefined]);
  assert.match(notes.join(), /PG_VERSION is missing/);
});

const INCONSISTENT: readonly (readonly [string, (datadir: string) => void, RegExp])[] = [
  [
    "the manifest is missing",
    (at) => rmSync(join(at, "tde.manifest")),
    /"tde.manifest" is missing/,
  ],
  [
    "the manifest is cut",
    (at) => truncateSync(join(at, "tde.manifest"), 3000),
    /tde.manifest does not end/,
  ],
  [
    "the guard is gone",
    (at) => writeFileSync(join(at, "postgresql.auto.conf"), ""),
    /the guard is gone/,
  ],
  [
    "a tool left the sidecars behind",
    (at) => {
      for (const name of readdirSync(at, { recursive: true, encoding: "utf8" }))
        if (/_tde$|tde\.|auto\.conf$/.test(name)) rmSync(join(at, name));
      rmSync(join(at, "pg_wal"), { recursive: true });
      mkdirSync(join(at, "pg_wal"));
      for (const folder of ["pg_twophase", "pg_logical", "pg_notify"])
        rmSync(join(at, folder), { recursive: true, force: true });
    },
    /is sealed, but its sidecar is gone/,
  ],
];

for (const [name, change, note] of INCONSISTENT) {
  test(`a directory is inconsistent and not plain when ${name}`, () => {
    const datadir = copyOf(encrypted);
    change(datadir);
    const { state, notes } = infoOf(datadir);
    assert.equal(state, "inconsistent");
    assert.match(notes.join("\n"), note);
  });
}

test("a base backup and a copy of a running server are told as such", () => {
  const backup = copyOf(plain);
  writeFileSync(join(backup, "backup_label"), "START WAL LOCATION: 0/1 (file 0)\n");
  assert.equal(infoOf(backup).origin, "backup");
  const copy = copyOf(plain);
  writeFileSync(join(copy, "postmaster.pid"), `${process.pid}\n/srv/original\n`);
  const { origin, notes } = infoOf(copy);
  assert.equal(origin, "copy");
  assert.match(notes.join(), /names "\/srv\/original"/);
});

test("it writes nothing, and takes no notice of what was added", () => {
  const datadir = copyOf(encrypted);
  appendFileSync(join(datadir, "PG_VERSION"), "");
  const before = treeOf(datadir);
  infoOf(datadir);
  assertSameTree(treeOf(datadir), before, { directoryTimes: true });
});

test("what is no data directory is refused", () => {
  assert.throws(() => infoOf(temporaryPath("empty")), StateError);
  const damaged = copyOf(plain);
  truncateSync(join(damaged, "global/pg_control"), 100);
  assert.throws(() => infoOf(damaged), FormatError);
});
