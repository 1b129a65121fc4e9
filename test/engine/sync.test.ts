/**
 * An encrypted copy that is brought up to date with its plain original: it becomes what a new encryption of the
 * original would be, only what differs is written, and nothing is written that a snapshot shares. Crashes everywhere
 * are in crash-cuts.test.ts and crash-errors.test.ts; sizes and pages of every kind in sync-patches.test.ts.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { silentProgress } from "../../src/engine/progress-sink.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { IntegrityError, StateError, TdeError, UsageError } from "../../src/errors.ts";
import { SPECIAL, SPECIAL_BYTES } from "../../src/format/sidecar-page.ts";
import { readSlotFields } from "../../src/format/slot.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { temporaryPath } from "../support/cluster.ts";
import { edit, flipBit, sidecarOf, slotAt } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  OTHER,
  SmallEngine,
  TestMemory,
  WAL_FILE,
  putBack,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

/** A new one for each test: all copies here are of one directory, and it would know older ones from newer. */
let small = new SmallEngine();
beforeEach(() => {
  small = new SmallEngine();
});
/** Large enough to be patched. */
const BIG = "base/1/90003";
const BIG_PAGES = 2000;
/** The plain cluster as it was encrypted, and its encrypted copy. */
let original = "";
let encrypted = "";

before(async () => {
  original = makeSmallCluster();
  const pages = readFileSync(join(original, LARGE));
  const big = Buffer.alloc(BIG_PAGES * BLOCK_SIZE);
  for (let at = 0; at < big.length; at += pages.length) pages.copy(big, at);
  writeFileSync(join(original, BIG), big, { mode: 0o600 });
  encrypted = copyOf(original);
  await small.encrypt(encrypted);
});

/** A source that went on, and its copy of before. */
function behind(change: (source: string) => void): { source: string; copy: string } {
  const source = copyOf(original);
  change(source);
  return { source, copy: copyOf(encrypted) };
}

/** The copy verifies, and decrypts to what the source is. */
async function assertCopyOf(
  source: string,
  copy: string,
  engine: SmallEngine = small,
): Promise<void> {
  const { problems, ok } = await engine.verify(copy);
  assert.deepEqual(problems, []);
  assert.ok(ok);
  const opened = copyOf(copy);
  await engine.decrypt(opened);
  assertSameTree(treeOf(opened), treeOf(source));
}

function changePages(path: string, blocks: readonly number[]): void {
  edit(path, (bytes) => {
    for (const block of blocks)
      bytes.fill(0x21, block * BLOCK_SIZE + 4000, block * BLOCK_SIZE + 4100);
  });
}

function scattered(count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor((i * BIG_PAGES) / count) + 3);
}

test("a copy becomes what its source is, whatever has changed", async () => {
  const { source, copy } = behind((datadir) => {
    const at = (path: string): string => join(datadir, path);
    changePages(at(BIG), [0, 1, 62, 63, 1999]);
    edit(at(ORDINARY), (bytes) => Buffer.concat([bytes, bytes.subarray(0, BLOCK_SIZE)]));
    truncateSync(at(LARGE), 64 * BLOCK_SIZE);
    edit(at(ODD), (bytes) => Buffer.concat([bytes.subarray(0, -3), Buffer.from("other tail")]));
    unlinkSync(at(OTHER));
    truncateSync(at("base/1/2619"), 0);
    writeFileSync(at("base/1/90002"), Buffer.alloc(2 * BLOCK_SIZE), { mode: 0o600 });
    mkdirSync(at("base/77"), { mode: 0o700 });
    copyFileSync(at(ORDINARY), at("base/77/1259"));
    edit(at(WAL_FILE), (bytes) => void bytes.fill(3, 70_000, 70_010));
    copyFileSync(at(WAL_FILE), at("pg_wal/000000010000000000000002"));
    writeFileSync(at("postgresql.conf"), "max_connections = 30\n");
    chmodSync(at("pg_hba.conf"), 0o640);
    edit(at("postgresql.auto.conf"), () => Buffer.from("work_mem = '8MB'\n"));
    symlinkSync("/etc/hostname", at("server.log"));
    rmSync(at("pg_notify"), { recursive: true });
    writeFileSync(at("pg_replslot/slot"), "a slot", { mode: 0o600 });
    laterCheckpoint(datadir);
  });
  const before = treeOf(source);
  const { outcome, figures, epoch } = await small.sync(source, copy);
  assert.deepEqual([outcome, epoch], ["synced", 2n]);
  assert.equal(figures.removedFiles > 0, true);
  assertSameTree(treeOf(source), before, { directoryTimes: true });
  await assertCopyOf(source, copy);
  const again = await small.sync(source, copy);
  assert.deepEqual([again.outcome, again.bytesWritten], ["up-to-date", 0]);
});

test("a file is written whole, under a new salt, before its key could have had 2^31 messages", async () => {
  const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), [7]));
  const saltOf = (): string => {
    const at = BLOCK_SIZE - SPECIAL_BYTES + SPECIAL.fileSalt;
    return readFileSync(sidecarOf(join(copy, BIG))).toString("hex", at, at + 16);
  };
  const encryptedSalt = saltOf();
  const { directoryId = "" } = await small.verify(copy);
  // A segment has 2^17 blocks here, and each run seals a page of it once at most: 2^14 runs make 2^31.
  for (const [epoch, isWhole] of [
    [2n ** 14n - 1n, false],
    [2n ** 14n, true],
  ] as const) {
    const before = saltOf();
    small.keyContext.memory.remember({
      directoryId,
      epoch: epoch - 1n,
      root: "0".repeat(64),
      path: copy,
      load: new Map(),
      written: new Map(),
    });
    changePages(join(source, BIG), [Number(epoch % 100n)]);
    const report = await small.sync(source, copy, { acceptOlder: true });
    assert.equal(report.epoch, epoch);
    assert.equal(saltOf() !== before, isWhole, `epoch ${epoch}`);
  }
  assert.notEqual(saltOf(), encryptedSalt);
  await assertCopyOf(source, copy);
});

test("what comes into an empty relation while it is synced is never written as it is", async () => {
  const { source, copy } = behind((datadir) => truncateSync(join(datadir, OTHER), 0));
  const progress = {
    ...silentProgress,
    begin(label: string): void {
      if (label === "writing") copyFileSync(join(original, OTHER), join(source, OTHER));
    },
  };
  const engine = new SmallEngine({ progress });
  await assert.rejects(engine.sync(source, copy), IntegrityError);
  const plain = readFileSync(join(original, OTHER)).subarray(0, BLOCK_SIZE);
  for (const [path, { kind }] of treeOf(copy)) {
    if (kind === "file") assert.ok(!readFileSync(join(copy, path)).includes(plain), path);
  }
  await engine.sync(source, copy);
  await assertCopyOf(source, copy, engine);
});

test("folders become files and links, and the other way round", async () => {
  const { source, copy } = behind((datadir) => {
    rmSync(join(datadir, "pg_replslot"), { recursive: true });
    writeFileSync(join(datadir, "pg_replslot"), "a file now", { mode: 0o600 });
    rmSync(join(datadir, "pg_stat"), { recursive: true });
    symlinkSync("elsewhere", join(datadir, "pg_stat"));
    unlinkSync(join(datadir, "postgresql.conf"));
    mkdirSync(join(datadir, "postgresql.conf"), { mode: 0o700 });
    writeFileSync(join(datadir, "postgresql.conf/x"), "x", { mode: 0o600 });
    unlinkSync(join(datadir, "postgresql.auto.conf"));
  });
  await small.sync(source, copy);
  await assertCopyOf(source, copy);
  const back = copyOf(original);
  await small.sync(back, copy);
  await assertCopyOf(back, copy);
});

test("a page is unchanged only if all its bytes are, and keeps its key; a changed one gets the current key", async () => {
  const { source, copy } = behind((datadir) =>
    // A hint bit: no new LSN.
    edit(
      join(datadir, BIG),
      (bytes) =>
        void bytes.writeUInt8((bytes[9 * BLOCK_SIZE + 8100] ?? 0) ^ 1, 9 * BLOCK_SIZE + 8100),
    ),
  );
  const later = new SmallEngine({ keys: testKeys(2) });
  const old = readFileSync(sidecarOf(join(copy, BIG)));
  const { figures, keyId } = await later.sync(source, copy);
  assert.deepEqual([figures.changedPages, figures.patchedFiles, keyId], [1, 1, 2]);
  const sidecar = readFileSync(sidecarOf(join(copy, BIG)));
  for (let block = 0; block < BIG_PAGES; block++) {
    const slot = (bytes: Buffer): Buffer => bytes.subarray(slotAt(block), slotAt(block) + 128);
    const { keyId: of } = readSlotFields(sidecar, slotAt(block));
    assert.equal(of, block === 9 ? 2 : 1);
    assert.equal(slot(sidecar).equals(slot(old)), block !== 9);
  }
  await assertCopyOf(source, copy, later);
  // The pages under either key go on changing.
  changePages(join(source, BIG), [9, 10]);
  await later.sync(source, copy);
  await assertCopyOf(source, copy, later);
  const { keys } = await later.verify(copy);
  assert.deepEqual(
    keys.map(({ keyId: id }) => id),
    [1, 2],
  );
});

test("a copy whose keys were rotated is synced like any other", async () => {
  const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), [4, 5]));
  const later = new SmallEngine({ keys: testKeys(2) });
  await later.rotate(copy, { kind: "key", keyId: 1 });
  const { figures, epoch } = await later.sync(source, copy);
  assert.deepEqual([figures.changedPages, figures.wholeFiles, epoch], [2, 0, 3n]);
  await assertCopyOf(source, copy, later);
});

test("a copy of which a part is encrypted stays so", async () => {
  const source = copyOf(original);
  const copy = copyOf(original);
  const scope = { ...NOTHING_SELECTED, relations: [BIG, ORDINARY].map(bytePath) };
  await small.encrypt(copy, { scope });
  changePages(join(source, BIG), [7]);
  changePages(join(source, LARGE), [7]);
  copyFileSync(join(source, OTHER), join(source, "base/1/90020"));
  unlinkSync(join(source, OTHER));
  const { proof } = await small.sync(source, copy);
  assert.ok((proof?.outOfScope.files ?? 0) > 5);
  assert.deepEqual(readFileSync(join(copy, LARGE)), readFileSync(join(source, LARGE)));
  await assertCopyOf(source, copy);
  // Under another number it would be plain from now on.
  renameSync(join(source, ORDINARY), join(source, "base/1/90021"));
  const before = treeOf(copy);
  await assert.rejects(
    small.sync(source, copy),
    /no relation 1663\/1\/1259, which the copy's scope names/,
  );
  assertSameTree(treeOf(copy), before);
});

for (const [what, pagesAfter] of [
  ["grew", BIG_PAGES + 1],
  ["grew by much", 2 * BIG_PAGES],
  ["lost its end", BIG_PAGES - 300],
] as const) {
  test(`a large file that ${what} and changed far before its end is patched in one go`, async () => {
    const { source, copy } = behind((datadir) => {
      const path = join(datadir, BIG);
      changePages(path, [0, 700, 1500]);
      truncateSync(path, Math.min(pagesAfter, BIG_PAGES) * BLOCK_SIZE);
      for (let more = pagesAfter - BIG_PAGES; more > 0; more -= BIG_PAGES)
        appendFileSync(path, readFileSync(path).subarray(0, more * BLOCK_SIZE));
    });
    const { figures } = await small.sync(source, copy);
    assert.equal(figures.changedPages, 3 + Math.max(0, pagesAfter - BIG_PAGES));
    await assertCopyOf(source, copy);
  });
}

test("where one page in a hundred changed, about two in a hundred are written", async () => {
  const changed = scattered(BIG_PAGES / 100);
  const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), changed));
  const fs = new StoppingFileSystem();
  const report = await new SmallEngine({ fs }).sync(source, copy);
  assert.equal(report.figures.changedPages, changed.length);
  const size = BIG_PAGES * BLOCK_SIZE;
  assert.ok(fs.bytesWritten > 0.02 * size, "the journal counts");
  assert.ok(fs.bytesWritten < 0.025 * size, `${fs.bytesWritten} bytes`);
  // What is reported leaves out the journal's own lines.
  assert.ok(Math.abs(report.bytesWritten - fs.bytesWritten) < 0.02 * fs.bytesWritten);
});

test("a dry run says what would be written, and writes nothing", async () => {
  const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), [5, 6]));
  const before = treeOf(copy);
  const { outcome, figures } = await small.sync(source, copy, { dryRun: true });
  assert.deepEqual([outcome, figures.changedPages], ["dry-run", 2]);
  assertSameTree(treeOf(copy), before, { directoryTimes: true });
});

test("data checksums that were switched on or off have all pages sealed anew", async () => {
  const { source, copy } = behind((datadir) =>
    edit(join(datadir, "global/pg_control"), (bytes) => {
      bytes.writeUInt32LE(0, 252);
      bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
    }),
  );
  const { wrongChecksums } = await small.verify(copy);
  assert.ok(wrongChecksums > 0);
  await small.sync(source, copy);
  assert.equal((await small.verify(copy)).wrongChecksums, 0);
  await assertCopyOf(source, copy);
});

/** Each is done to the copy; sync must refuse it and leave every byte as it is. */
const DAMAGES: Readonly<Record<string, (copy: string) => void>> = {
  "a flipped bit in a page": (copy) => flipBit(join(copy, BIG), 8 * 500_000),
  "a flipped bit in a page of a file that the source has no more": (copy) =>
    flipBit(join(copy, OTHER), 8 * 10_000),
  "a flipped bit in a sidecar": (copy) => flipBit(sidecarOf(join(copy, BIG)), 8 * 4000),
  "a sealed file that was cut": (copy) => truncateSync(join(copy, WAL_FILE), 100_000),
  "a readable file that was changed": (copy) =>
    writeFileSync(join(copy, "pg_hba.conf"), "host all all all trust\n"),
  "a file that is missing": (copy) => unlinkSync(join(copy, "pg_hba.conf")),
  "a file that no line names": (copy) => writeFileSync(join(copy, "added.conf"), ""),
  "a manifest that is missing": (copy) => unlinkSync(join(copy, "tde.manifest")),
  "an older file with its sidecar": (copy) => {
    for (const of of [(path: string) => path, sidecarOf])
      copyFileSync(of(join(otherEncryption, ORDINARY)), of(join(copy, ORDINARY)));
  },
};
let otherEncryption = "";
before(async () => {
  otherEncryption = copyOf(original);
  await small.encrypt(otherEncryption);
});

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`a copy with ${what} is refused as it is`, async () => {
    const { source, copy } = behind((datadir) => {
      changePages(join(datadir, BIG), [1, 700]);
      unlinkSync(join(datadir, OTHER));
    });
    damage(copy);
    const before = treeOf(copy);
    await assert.rejects(small.sync(source, copy), IntegrityError);
    assertSameTree(treeOf(copy), before);
  });
}

test("an older copy is refused, unless it is wanted", async () => {
  const engine = new SmallEngine();
  const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), [1]));
  const older = copyOf(copy);
  await engine.sync(source, copy);
  await assert.rejects(engine.sync(source, older), /older than epoch 2/);
  const { epoch } = await engine.sync(source, older, { acceptOlder: true });
  assert.equal(epoch, 3n);
  await assertCopyOf(source, older, engine);
});

test("nothing is written through a hard link into a snapshot of the copy", async () => {
  const { source, copy } = behind((datadir) => {
    changePages(join(datadir, BIG), [1, 700]);
    changePages(join(datadir, ORDINARY), [0]);
    writeFileSync(join(datadir, "postgresql.conf"), "max_connections = 30\n");
  });
  const snapshot = `${copy}.snapshot`;
  execFileSync("cp", ["-al", copy, snapshot]);
  const before = treeOf(snapshot);
  await small.sync(source, copy);
  assertSameTree(treeOf(snapshot), before);
  await assertCopyOf(source, copy);
});

/** A sync of some pages of BIG, stopped when the journal has them, and nothing is in place yet. */
async function stoppedAtRedo(): Promise<{ source: string; copy: string }> {
  const change = (datadir: string): void => changePages(join(datadir, BIG), [1, 700, 1500]);
  const rehearsal = new StoppingFileSystem();
  const trial = behind(change);
  await new SmallEngine({ fs: rehearsal }).sync(trial.source, trial.copy);
  const inPlace = rehearsal.paths.findIndex(
    (path, i) => path === join(trial.copy, BIG) && rehearsal.log[i] === "write",
  );
  assert.ok(inPlace > 0);
  const pair = behind(change);
  const fs = new StoppingFileSystem(inPlace + 1);
  const { memory } = small.keyContext;
  await assert.rejects(new SmallEngine({ fs, memory }).sync(pair.source, pair.copy), Stopped);
  rmSync(join(pair.copy, "tde.lock"), { force: true });
  return pair;
}

test("what is done again after a crash is not written through a hard link either", async () => {
  const { source, copy } = await stoppedAtRedo();
  const snapshot = `${copy}.snapshot`;
  execFileSync("cp", ["-al", copy, snapshot]);
  const before = treeOf(snapshot);
  await assert.rejects(small.recover(copy), /between two states/);
  assertSameTree(treeOf(snapshot), before);
  await small.sync(source, copy);
  await assertCopyOf(source, copy);
});

test("an interrupted sync keeps other commands away, and the same one goes on, also with a newer source", async () => {
  const { source, copy } = await stoppedAtRedo();
  for (const command of [small.verify(copy), small.decrypt(copy), small.encrypt(copy)])
    await assert.rejects(command, /unfinished run of tde sync/);
  await assert.rejects(small.recover(copy), StateError);
  assert.ok(existsSync(join(copy, "tde.journal")));
  changePages(join(source, BIG), [3, 701]);
  laterCheckpoint(source);
  const newer = copyOf(source);
  await small.sync(newer, copy);
  await assertCopyOf(newer, copy);
});

test("an interrupted sync puts the guard back, whatever lies in its place, but not over settings beside it", async () => {
  const { source, copy } = await stoppedAtRedo();
  const guard = join(copy, "postgresql.auto.conf");
  const whole = readFileSync(guard);
  appendFileSync(guard, "restore_command = 'cp'\n");
  await assert.rejects(small.sync(source, copy), /settings were added beside the guard/);
  writeFileSync(guard, "work_mem = '1GB'\n");
  await small.sync(source, copy);
  assert.deepEqual(readFileSync(guard), whole);
  await assertCopyOf(source, copy);
});

test("an interrupted sync does not go on with a source that is older than it was", async () => {
  const rehearsal = new StoppingFileSystem();
  const older = behind((datadir) => changePages(join(datadir, BIG), [1]));
  const newer = copyOf(older.source);
  laterCheckpoint(newer);
  await new SmallEngine({ fs: rehearsal }).sync(newer, copyOf(older.copy));
  const fs = new StoppingFileSystem(Math.floor(rehearsal.operations * 0.7));
  const { memory } = small.keyContext;
  await assert.rejects(new SmallEngine({ fs, memory }).sync(newer, older.copy), Stopped);
  rmSync(join(older.copy, "tde.lock"), { force: true });
  await assert.rejects(small.sync(older.source, older.copy), /older than its encrypted copy/);
  await small.sync(newer, older.copy);
  await assertCopyOf(newer, older.copy);
});

test("the journal of a sync that came to its end is not taken up again", async () => {
  const { source, copy } = await stoppedAtRedo();
  const journal = readFileSync(join(copy, "tde.journal"));
  const unfinished = copyOf(copy);
  const engine = new SmallEngine({ memory: small.keyContext.memory });
  await engine.sync(source, copy);
  writeFileSync(join(copy, "tde.journal"), journal);
  const before = treeOf(copy);
  await assert.rejects(engine.recover(copy), IntegrityError);
  await assert.rejects(engine.sync(source, copy), IntegrityError);
  assertSameTree(treeOf(copy), before);
  unlinkSync(join(copy, "tde.journal"));
  await assertCopyOf(source, copy, engine);
  // Nor is the whole of the unfinished state, brought back: its run is over.
  putBack(unfinished, copy);
  await assert.rejects(engine.sync(source, copy), IntegrityError);
  await assert.rejects(engine.sync(source, copy, { acceptOlder: true }), IntegrityError);
});

test("a new tablespace needs a place, and one that is gone leaves its folder empty", async () => {
  const folder = temporaryPath("tablespaces");
  const { source, copy } = behind((datadir) => {
    const inside = join(folder, "old/PG_17_202406281/1");
    mkdirSync(inside, { recursive: true, mode: 0o700 });
    copyFileSync(join(datadir, ORDINARY), join(inside, "90010"));
    symlinkSync(join(folder, "old"), join(datadir, "pg_tblspc/90009"));
  });
  await assert.rejects(small.sync(source, copy), UsageError);
  const mapping = { [join(folder, "old")]: join(folder, "new") };
  await small.sync(source, copy, { mapping });
  assert.deepEqual((await small.verify(copy)).problems, []);
  assert.ok(existsSync(join(folder, "new/PG_17_202406281/1/90010_tde")));
  // The next night the same options are given again.
  assert.equal((await small.sync(source, copy, { mapping })).outcome, "up-to-date");

  unlinkSync(join(source, "pg_tblspc/90009"));
  await small.sync(source, copy);
  await assertCopyOf(source, copy);
  assert.deepEqual(statSync(join(folder, "new")).isDirectory(), true);
  assert.ok(!existsSync(join(folder, "new/PG_17_202406281")));
});

/** A source with one tablespace more than its copy, at `old`, and where it goes in the copy. */
function withNewTablespace(): {
  source: string;
  copy: string;
  folder: string;
  mapping: Record<string, string>;
} {
  const folder = temporaryPath("tablespaces");
  const old = join(folder, "old");
  const both = behind((datadir) => {
    const inside = join(old, "PG_17_202406281/1");
    mkdirSync(inside, { recursive: true, mode: 0o700 });
    copyFileSync(join(datadir, ORDINARY), join(inside, "90010"));
    symlinkSync(old, join(datadir, "pg_tblspc/90009"));
    unlinkSync(join(datadir, OTHER));
  });
  return { ...both, folder, mapping: { [old]: join(folder, "new") } };
}

test("a sync that makes a tablespace goes on wherever it was stopped", async () => {
  const { source, copy, folder, mapping } = withNewTablespace();
  const rehearsal = new StoppingFileSystem();
  const memory = new TestMemory();
  const rehearsed = copyOf(copy);
  await new SmallEngine({ fs: rehearsal, memory: memory.copy() }).sync(source, rehearsed, {
    mapping,
  });
  rmSync(join(folder, "new"), { recursive: true });
  const isOfTablespace = (path: string): boolean => /90009|\/tablespaces-/.test(path);
  const steps = rehearsal.paths.flatMap((path, i) => (isOfTablespace(path) ? [i + 1, i + 2] : []));
  for (const stopAt of new Set(steps)) {
    const [datadir, own] = [copyOf(copy), memory.copy()];
    const fs = new StoppingFileSystem(stopAt);
    const stopped = new SmallEngine({ fs, memory: own }).sync(source, datadir, { mapping });
    await assert.rejects(stopped, Stopped, `${stopAt}`);
    const engine = new SmallEngine({ memory: own });
    const { outcome } = await engine.sync(source, datadir, { mapping });
    assert.ok(outcome === "synced" || outcome === "up-to-date");
    assert.deepEqual((await engine.verify(datadir)).problems, []);
    assert.ok(!existsSync(join(folder, "new/tde.claim")));
    rmSync(join(folder, "new"), { recursive: true, force: true });
  }
});

for (const [what, forge] of [
  [
    "was put there since",
    (copy: string, other: string): void => {
      rmSync(join(copy, "pg_tblspc/90009"), { force: true });
      symlinkSync(other, join(copy, "pg_tblspc/90009"));
    },
  ],
  [
    "takes the place of a folder",
    (copy: string, other: string): void => {
      rmSync(join(copy, "base/1"), { recursive: true });
      symlinkSync(join(other, "base/1"), join(copy, "base/1"));
    },
  ],
] as const) {
  test(`an interrupted sync does nothing behind a link that ${what}`, async () => {
    const { source, copy, mapping } = withNewTablespace();
    const other = copyOf(encrypted);
    const before = treeOf(other);
    // Something is to be removed: the entry is durable, and nothing of it is done.
    const rehearsal = new StoppingFileSystem();
    await new SmallEngine({ fs: rehearsal }).sync(source, copyOf(copy), { mapping });
    for (const path of Object.values(mapping)) rmSync(path, { recursive: true });
    const removal = rehearsal.log.findIndex(
      (step, i) => step === "remove" && rehearsal.paths[i]?.endsWith(OTHER) === true,
    );
    for (const stopAt of [removal + 1, rehearsal.operations - 20]) {
      const [datadir, own] = [copyOf(copy), new TestMemory()];
      const stopped = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory: own });
      await assert.rejects(stopped.sync(source, datadir, { mapping }), Stopped);
      forge(datadir, other);
      const engine = new SmallEngine({ memory: own });
      await assert.rejects(engine.sync(source, datadir, { mapping }), TdeError);
      await assert.rejects(engine.recover(datadir), TdeError);
      assertSameTree(treeOf(other), before, { directoryTimes: true });
      for (const path of Object.values(mapping)) rmSync(path, { recursive: true, force: true });
    }
  });
}

/** As a server leaves pg_control of 17 behind: a later checkpoint, at a later time. */
function laterCheckpoint(datadir: string): void {
  edit(join(datadir, "global/pg_control"), (bytes) => {
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(32) + 8192n, 32);
    bytes.writeBigInt64LE(bytes.readBigInt64LE(24) + 60n, 24);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
}

/** What lies in a file from one page to before another, and how to put it back. */
function saved(path: string, from: number, to: number): () => void {
  const bytes = readFileSync(path).subarray(from * BLOCK_SIZE, to * BLOCK_SIZE);
  return () => edit(path, (now) => void bytes.copy(now, from * BLOCK_SIZE));
}

/** An engine that does something when a comparison is over and writing begins. */
function betweenComparingAndWriting(act: () => void): SmallEngine {
  const begin = (label: string): void => {
    if (label === "writing") act();
  };
  return new SmallEngine({ progress: { ...silentProgress, begin } });
}

for (const [what, change] of [
  ["a page changes beside it", (source: string) => changePages(join(source, BIG), [5])],
  [
    "the file grows",
    (source: string) =>
      edit(join(source, BIG), (bytes) => Buffer.concat([bytes, bytes.subarray(0, BLOCK_SIZE)])),
  ],
  [
    "the file is cut",
    (source: string) => truncateSync(join(source, BIG), (BIG_PAGES - 1) * BLOCK_SIZE),
  ],
] as const) {
  test(`an older page that comes back with its older sidecar page between comparing and writing is not authenticated anew: ${what}`, async () => {
    const { source, copy } = behind((datadir) => changePages(join(datadir, BIG), [3, 1995]));
    const big = join(copy, BIG);
    const old = [3, 1995].flatMap((block) => {
      const page = Math.floor(block / 63);
      return [saved(big, block, block + 1), saved(sidecarOf(big), page, page + 1)];
    });
    await small.sync(source, copy);
    await assertCopyOf(source, copy);
    change(source);
    const engine = betweenComparingAndWriting(() => {
      for (const putBack of old) putBack();
    });
    await assert.rejects(engine.sync(source, copy), (error) => {
      assert.ok(error instanceof IntegrityError);
      assert.match(
        error.message,
        /^base\/1\/90003: the sidecar is not the one any more that was compared/,
      );
      assert.equal(error.file, BIG);
      return true;
    });
    // Nothing vouches for what was put back.
    assert.ok(
      !(await new SmallEngine().verify(copy).then(
        ({ ok }) => ok,
        () => false,
      )),
    );
  });
}
