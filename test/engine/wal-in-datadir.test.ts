/**
 * pg_wal of an encrypted data directory in readable mode: all that is in it is sealed, stock tools and tde read what they
 * read before, every change is found, and it comes back bit for bit. Crashes are in crash-cuts.test.ts and
 * crash-errors.test.ts, live servers in test/live.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { directoryInfo } from "../../src/engine/directory-info.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { IntegrityError, StateError } from "../../src/errors.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { edit, flipBit, swapFiles } from "../support/forger.ts";
import { keyIdsOnDisk, keysOf } from "../support/key-ids-on-disk.ts";
import { testKeys } from "../support/keys.ts";
import {
  copyOf,
  makeSmallCluster,
  SmallEngine,
  WAL_FILE,
  TestMemory,
} from "../support/small-cluster.ts";
import { addSegments, saveSegments, SECRET } from "../support/small-wal.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { runTdeBytes } from "../support/tde.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";
import { message, SEGMENT, WalWriter } from "../support/written-wal.ts";

const READABLE = { wal: "readable" } as const;

let small = new SmallEngine();
let original = "";
let paths: string[] = [];
let writer = new WalWriter(17);
beforeEach(() => {
  small = new SmallEngine();
  original = makeSmallCluster();
  ({ writer, paths } = addSegments(original));
});

const sidecar = (path: string): string => `${path}_tde`;

async function encrypted(engine = small): Promise<string> {
  const datadir = copyOf(original);
  await engine.encrypt(datadir, READABLE);
  return datadir;
}

/** What `tde waldump` prints of all segments without a key, but for payloads. */
function printed(datadir: string, from = 0): string {
  const { status, stdout, stderr } = runTdeBytes(
    ["waldump", "-b", writer.name(from), writer.name(writer.segments.length - 1)],
    { cwd: join(datadir, "pg_wal") },
  );
  assert.equal(status, 1, stderr.toString()); // the end of WAL comes before the end of the segment
  return stdout.toString("latin1").replace(/( payload \(\d+ bytes\): ).*/g, "$1");
}

async function problemsOf(datadir: string, engine = small): Promise<string[]> {
  const { problems } = await engine.verify(datadir);
  return problems.map(({ kind, path }) => `${kind} ${path}`);
}

test("segments are sealed in readable mode, and the directory verifies and comes back bit for bit", async () => {
  const datadir = await encrypted();
  for (const path of paths) {
    assert.ok(existsSync(join(datadir, sidecar(path))), path);
    assert.ok(!readFileSync(join(datadir, path)).includes(SECRET), path);
    assert.ok(!readFileSync(join(datadir, sidecar(path))).includes(SECRET), path);
  }
  assert.equal(printed(datadir), printed(original));
  assert.deepEqual(await problemsOf(datadir), []);
  assert.equal((await small.verifyWithoutKey(datadir)).ok, true);
  const { manifest } = directoryInfo(new NodeFileSystem(), bytePath(datadir));
  assert.deepEqual(
    { ...manifest?.segments },
    { files: paths.length, bytes: paths.length * SEGMENT },
  );
  assert.equal((await small.encrypt(datadir, READABLE)).outcome, "already-encrypted");
  await small.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(original));
});

test("where the manifest cannot be read, nothing but the manifest is blamed, and a wrong keyring is called by its name", async () => {
  const datadir = await encrypted();
  const manifest = join(datadir, "tde.manifest");
  flipBit(manifest, 8 * 400);
  assert.deepEqual(await problemsOf(datadir), ["manifest tde.manifest"]);
  const stranger = new SmallEngine({ keys: { ...testKeys(), keyringId: "00000000000000ff" } });
  const { problems } = await stranger.verify(datadir);
  const ofSegment = problems.find(({ path }) => path === paths[0]);
  const { keyringId } = testKeys();
  assert.equal(
    ofSegment?.message,
    `${paths[0]} needs keyring ${keyringId}, yours is keyring 00000000000000ff`,
  );
  writeFileSync(manifest, "");
  assert.deepEqual(await problemsOf(datadir), ["manifest tde.manifest"]);
  rmSync(manifest);
  assert.deepEqual(await problemsOf(datadir), ["manifest tde.manifest"]);
});

test("what is no segment of this cluster is sealed whole, and so is one that is cut", async () => {
  const foreign = "pg_wal/000000010000000000000050";
  const recycled = "pg_wal/000000010000000000000051";
  const empty = "pg_wal/000000010000000000000052";
  const other = new WalWriter(17, { firstSegment: 0x50 });
  other.append(message("foreign", Buffer.from(SECRET)));
  writeFileSync(join(original, foreign), other.segments[0] ?? "", { mode: 0o600 });
  copyFileSync(join(original, paths[1] ?? ""), join(original, recycled));
  writeFileSync(join(original, empty), Buffer.alloc(SEGMENT), { mode: 0o600 });
  const datadir = await encrypted();
  for (const path of [foreign, WAL_FILE])
    assert.ok(!existsSync(join(datadir, sidecar(path))), path);
  for (const path of [recycled, empty]) assert.ok(existsSync(join(datadir, sidecar(path))), path);
  assert.ok(!readFileSync(join(datadir, foreign)).includes(SECRET));
  assert.ok(!readFileSync(join(datadir, recycled)).includes(SECRET));
  assert.deepEqual(await problemsOf(datadir), []);
  await small.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(original));
});

test("an encryption into another directory leaves the source as it was and gives the same", async () => {
  const before = treeOf(original);
  const output = join(temporaryPath("wal-output"), "data");
  await encryptIntoOutput(
    small.engine,
    small.keyContext,
    small.encryptOptions(original, READABLE),
    { output: bytePath(output), tablespaceMapping: new Map() },
  );
  assertSameTree(treeOf(original), before, { directoryTimes: true });
  assert.equal(printed(output), printed(original));
  assert.deepEqual(await problemsOf(output), []);
  await small.decrypt(output);
  assertSameTree(treeOf(output), before);
});

test("with another mode later, what is sealed stays as it is", async () => {
  const datadir = copyOf(original);
  await small.encrypt(datadir, { wal: "sealed" });
  assert.ok(paths.every((path) => !existsSync(join(datadir, sidecar(path)))));
  assert.equal((await small.encrypt(datadir, READABLE)).outcome, "already-encrypted");
  const other = await encrypted();
  for (const wal of ["sealed", "skip"] as const)
    assert.equal((await small.encrypt(other, { wal })).outcome, "already-encrypted");
});

test("a rotation seals every segment anew, and what tools print of them stays", async () => {
  const datadir = await encrypted(new SmallEngine({ keys: testKeys(1) }));
  const before = printed(datadir);
  const rotating = new SmallEngine({ keys: testKeys(2) });
  for (const [request, last] of [
    [{ kind: "key", keyId: 1 }, 2],
    [{ kind: "all" }, 2],
  ] as const) {
    await rotating.rotate(datadir, request);
    assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [last]);
    assert.equal(printed(datadir), before);
    assert.deepEqual(await problemsOf(datadir, rotating), []);
  }
  await rotating.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(original));
});

test("one segment under an old key has all of them sealed anew", async () => {
  const datadir = await encrypted(new SmallEngine({ keys: testKeys(1) }));
  // A sync seals what is new under the current key: the first one, whose last record goes on in the second.
  const source = copyOf(original);
  edit(join(source, paths[0] ?? ""), (bytes) => {
    const record = bytes.subarray(40, 40 + bytes.readUInt32LE(40));
    record.write("new", record.length - 3);
    record.writeUInt32LE(crc32c(record, 0, 20, crc32c(record, 24)), 20);
  });
  const newer = new SmallEngine({ keys: testKeys(2) });
  await newer.sync(source, datadir);
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [1, 2]);
  await newer.rotate(datadir, { kind: "key", keyId: 1 });
  assert.deepEqual(keysOf(keyIdsOnDisk(datadir)), [2]);
  assert.equal(printed(datadir), printed(source));
  await newer.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(source));
});

test("a sync writes the segments that changed, and of the one before them the CRC that crosses", async () => {
  const copy = await encrypted();
  const source = copyOf(original);
  // The third one's record ends in the fourth.
  writer.append(message("later", Buffer.from(SECRET)));
  writer.fillTo(40);
  writer.append(message("into a new segment", Buffer.alloc(900, SECRET)));
  const after = saveSegments(source, writer);
  const sidecars = paths.map((path) => readFileSync(join(copy, sidecar(path))));
  await small.sync(source, copy);
  const isSame = paths.map((path, i) =>
    sidecars[i]?.equals(readFileSync(join(copy, sidecar(path)))),
  );
  // A record that begins in the second goes through the third: in the second only its CRC is another.
  assert.deepEqual(isSame, [true, true, false, false]);
  assert.equal(after.length, paths.length + 1);
  assert.equal(printed(copy), printed(source));
  assert.deepEqual(await problemsOf(copy), []);
  await small.decrypt(copy);
  assertSameTree(treeOf(copy), treeOf(source));
});

test("a sync that is interrupted anywhere leaves CRCs that hold when it has gone on", async () => {
  const source = copyOf(original);
  writer.append(message("later", Buffer.from(SECRET)));
  saveSegments(source, writer);
  rmSync(join(source, paths[0] ?? ""));
  const expected = printed(source, 1);
  const start = await encrypted();
  const counting = new StoppingFileSystem();
  const run = async (fs: StoppingFileSystem, copy: string, memory: TestMemory): Promise<void> => {
    const engine = new SmallEngine({ fs, memory });
    await engine.sync(source, copy);
  };
  await run(counting, copyOf(start), new TestMemory());
  const isPublic = /^(rename|remove|sync)/;
  const steps = counting.paths.flatMap((path, i) =>
    path.includes("pg_wal") && isPublic.test(counting.log[i] ?? "") ? [i + 1] : [],
  );
  assert.ok(steps.length > 8);
  for (const step of steps) {
    const copy = copyOf(start);
    const memory = new TestMemory();
    await assert.rejects(run(new StoppingFileSystem(step), copy, memory), Stopped);
    await run(new StoppingFileSystem(), copy, memory);
    assert.deepEqual(await problemsOf(copy, new SmallEngine()), [], `step ${step}`);
    assert.equal(printed(copy, 1), expected, `step ${step}`);
  }
});

test("verify names a segment that was changed, and its sidecar, in every way", async () => {
  const master = await encrypted();
  const [first = "", second = ""] = paths;
  const cases: readonly (readonly [string, (datadir: string) => void, RegExp])[] = [
    ["a secret byte", (d) => flipBit(join(d, first), 8 * 100_000), /^tag /],
    ["a record's header", (d) => flipBit(join(d, first), 8 * 41), /^(tag|checksum) /],
    ["a page header", (d) => flipBit(join(d, first), 8 * (8192 + 8)), /^tag /],
    ["the guard", (d) => flipBit(join(d, first), 8 * 30), /^mark /],
    ["a tag in the sidecar", (d) => flipBit(join(d, sidecar(first)), 8 * 80), /^sidecar /],
    ["swapped segments", (d) => swapFiles(join(d, first), join(d, second)), /^(tag|mark) /],
    ["a lost sidecar", (d) => rmSync(join(d, sidecar(first))), /^sidecar /],
    ["a lost segment", (d) => rmSync(join(d, first)), /^missing /],
    ["a cut segment", (d) => edit(join(d, first), (b) => b.subarray(0, 5000)), /^size /],
    ["an empty segment", (d) => writeFileSync(join(d, first), ""), /^size /],
    ["the plain segment", (d) => copyFileSync(join(original, first), join(d, first)), /./],
  ];
  for (const [what, change, kind] of cases) {
    const datadir = copyOf(master);
    change(datadir);
    const problems = await problemsOf(datadir, new SmallEngine());
    assert.ok(
      problems.some((problem) => kind.test(problem) && problem.includes(first)),
      `${what}: ${problems.join("; ")}`,
    );
    await assert.rejects(new SmallEngine().decrypt(datadir), IntegrityError, what);
  }
});

test("verify finds another CRC of a record that crosses, which is in no sidecar; what it counts comes back", async () => {
  const datadir = await encrypted();
  const [first = ""] = paths;
  // Its prefix is readable, behind the headers of the record and of its main data.
  const prefix = readFileSync(join(original, first)).lastIndexOf("crosses");
  flipBit(join(datadir, first), 8 * (prefix - 24 - 5 - 24 + 20));
  assert.deepEqual(await problemsOf(datadir), [`checksum ${first}`]);
  assert.equal((await small.verifyWithoutKey(datadir)).ok, false);
  await small.decrypt(datadir);
  assert.deepEqual(readFileSync(join(datadir, first)), readFileSync(join(original, first)));
});

test("both files of a segment swapped with those of another, or with older ones, are found", async () => {
  const datadir = await encrypted();
  const [first = "", second = ""] = paths;
  const older = await encrypted(new SmallEngine());
  for (const path of [first, sidecar(first)]) copyFileSync(join(older, path), join(datadir, path));
  assert.deepEqual(await problemsOf(datadir), [`replaced ${first}`]);
  const other = await encrypted(new SmallEngine());
  swapFiles(join(other, first), join(other, second));
  swapFiles(join(other, sidecar(first)), join(other, sidecar(second)));
  const problems = await problemsOf(other, new SmallEngine());
  for (const path of [first, second]) assert.ok(problems.includes(`identity ${path}`), path);
});

test("a segment without its sidecar is never encrypted once more", async () => {
  const datadir = await encrypted();
  const [first = ""] = paths;
  const plain = copyOf(original);
  copyFileSync(join(datadir, first), join(plain, first));
  const before = treeOf(plain);
  for (const wal of ["readable", "sealed", "skip"] as const) {
    await assert.rejects(
      small.encrypt(plain, { wal }),
      (error) => error instanceof StateError && /sealed already/.test(error.message),
    );
  }
  assertSameTree(treeOf(plain), before);
  renameSync(join(datadir, sidecar(first)), join(datadir, "elsewhere"));
  await assert.rejects(small.encrypt(datadir, READABLE), StateError);
});

test("tde waldump prints everything of an encrypted directory's WAL with its keyring, and marks without", async () => {
  const folder = temporaryPath("wal-keyring");
  const keys = ["--keyring", join(folder, "app.keyring"), "--key-file", join(folder, "kek")];
  const run = (...args: string[]): ReturnType<typeof runTdeBytes> => runTdeBytes(args, {});
  assert.equal(run("keyring", "create", ...keys, "--new-key-file").status, 0);
  const datadir = copyOf(original);
  const { status, stderr } = run("encrypt-datadir", "-D", datadir, ...keys);
  assert.equal(status, 0, stderr.toString());
  const dump = (root: string, ...options: string[]): string =>
    run(
      "waldump",
      ...options,
      join(root, "pg_wal", writer.name(0)),
      writer.name(1),
    ).stdout.toString("latin1");
  assert.equal(dump(datadir, ...keys), dump(original));
  assert.ok(
    dump(original).includes(
      Buffer.from(SECRET)
        .subarray(0, 2)
        .toString("hex")
        .toUpperCase()
        .replace(/(..)(..)/, "$1 $2"),
    ),
  );
  assert.notEqual(dump(datadir), dump(original));
});
