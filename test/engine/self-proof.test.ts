/**
 * The proof at the end of a run looks at what lies on the disk by then. Whatever of it differs from what the run wrote, in
 * a sidecar, a container's header or a page's stored form, the run does not end well, and goes on once it is mended.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { silentProgress } from "../../src/engine/progress-sink.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { IntegrityError, TdeError } from "../../src/errors.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { PAGE_HEADER } from "../../src/postgres/page.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit, sidecarOf, slotAt } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  SmallEngine,
  TestMemory,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";

const CONTAINER = "pg_twophase/0000000000000001";
const SEGMENT = "pg_wal/000000010000000000000005";

/** Where it is done, and to which file. */
type Damage = readonly [what: string, path: string, act: (path: string) => void];

const flip =
  (byte: number) =>
  (path: string): void =>
    flipBit(path, byte * 8);

const DAMAGES: readonly Damage[] = [
  ["a slot's nonce", sidecarOf(ORDINARY), flip(slotAt(3) + 32)],
  ["a slot's epoch", sidecarOf(ORDINARY), flip(slotAt(3) + 8)],
  ["the MAC of a sidecar page", sidecarOf(ORDINARY), flip(BLOCK_SIZE - 1)],
  ["the second page of a sidecar", sidecarOf(LARGE), flip(slotAt(70) + 60)],
  ["a sidecar's end", sidecarOf(LARGE), (path) => truncateSync(path, BLOCK_SIZE)],
  ["a sidecar, which is gone", sidecarOf(ORDINARY), (path) => unlinkSync(path)],
  ["the stored form of a page", ORDINARY, flip(2 * BLOCK_SIZE + 5000)],
  ["the mark of a page", ORDINARY, flip(2 * BLOCK_SIZE + 11)],
  ["a container's magic", CONTAINER, flip(0)],
  ["a container's key id", CONTAINER, flip(8)],
  ["a container's context", CONTAINER, flip(115)],
  ["a container's end", CONTAINER, (path) => truncateSync(path, 120)],
  ["a container, where the plain file is", CONTAINER, (path) => writeFileSync(path, "plain")],
  ["the header of the original behind the guard", "tde.postgresql.auto.conf", flip(90)],
  ["a container of several chunks, its header", WAL_FILE, flip(20)],
  ["the sidecar of a WAL segment", sidecarOf(SEGMENT), flip(24 + 60)],
];

type Operation = (small: SmallEngine, datadir: string, source: string) => Promise<unknown>;

interface Case {
  readonly name: string;
  /** Brings a plain cluster to where the operation begins. */
  readonly prepare: (small: SmallEngine, datadir: string) => Promise<unknown>;
  readonly operation: Operation;
  /** Files that it writes; it proves no others. */
  readonly writes: (path: string) => boolean;
}

const CASES: readonly Case[] = [
  {
    name: "encrypt-datadir",
    prepare: async () => {},
    operation: (small, datadir) => small.encrypt(datadir, { wal: "readable" }),
    writes: () => true,
  },
  {
    name: "rotate",
    prepare: (small, datadir) => small.encrypt(datadir, { wal: "readable" }),
    operation: (small, datadir) => small.rotate(datadir),
    writes: () => true,
  },
  {
    name: "sync",
    prepare: (small, datadir) => small.encrypt(datadir, { wal: "readable" }),
    operation: (small, datadir, source) => small.sync(source, datadir),
    writes: (path) => path === sidecarOf(ORDINARY) || path === CONTAINER,
  },
];

/** @param act - done once, when the proof begins. */
function engineThat(act: () => void, keyCount: number, memory: TestMemory): SmallEngine {
  let isDone = false;
  const progress = {
    ...silentProgress,
    begin(label: string): void {
      if (label !== "proving" || isDone) return;
      isDone = true;
      act();
    },
  };
  return new SmallEngine({ progress, keys: testKeys(keyCount), memory });
}

for (const { name, prepare, operation, writes } of CASES) {
  for (const [what, path, act] of DAMAGES.filter(([, path]) => writes(path))) {
    test(`${name}: what is not as it was written is no proof: ${what}`, async () => {
      const source = makeSmallCluster();
      addSegments(source);
      writeFileSync(join(source, CONTAINER), "a prepared transaction", { mode: 0o600 });
      const datadir = copyOf(source);
      const memory = new TestMemory();
      await prepare(new SmallEngine({ memory }), datadir);
      const blockOf = readFileSync(join(source, ORDINARY));
      blockOf.fill(0x21, 3 * BLOCK_SIZE + 4000, 3 * BLOCK_SIZE + 4100);
      writeFileSync(join(source, ORDINARY), blockOf);
      writeFileSync(join(source, CONTAINER), "another prepared transaction", { mode: 0o600 });

      const kept = join(temporaryPath("kept"), "file");
      let isReached = false;
      const keyCount = name === "rotate" ? 2 : 1;
      const damaging = engineThat(
        () => {
          isReached = true;
          copyFileSync(join(datadir, path), kept);
          act(join(datadir, path));
        },
        keyCount,
        memory,
      );
      await assert.rejects(operation(damaging, datadir, source), TdeError);
      assert.ok(isReached);
      const sound = new SmallEngine({ keys: testKeys(keyCount), memory });
      await assert.rejects(sound.verify(datadir), TdeError);

      // Once the file is as it was written, the run comes to its end.
      rmSync(join(datadir, path), { force: true });
      copyFileSync(kept, join(datadir, path));
      await operation(sound, datadir, source);
      assert.deepEqual((await sound.verify(datadir)).problems, []);
    });
  }
}

/** More than two chunks of pages. */
const BLOCKS = 300;

/** LARGE, with as many pages that no other file has. */
function enlarge(datadir: string): void {
  const page = readFileSync(join(datadir, LARGE)).subarray(0, BLOCK_SIZE);
  const pages = Array.from({ length: BLOCKS }, (_, i) => {
    const copy = Buffer.from(page);
    return copy.fill(i & 0xff, 5000, 5100);
  });
  writeFileSync(join(datadir, LARGE), Buffer.concat(pages), { mode: 0o600 });
}

/** What a run carries over as an earlier one has sealed it: it reads that for the first time when it proves. */
const CARRIED: readonly Damage[] = [
  ["a page", ORDINARY, flip(2 * BLOCK_SIZE + 5000)],
  ["a page far behind in a large file", LARGE, flip(290 * BLOCK_SIZE + 5000)],
  ["one in the middle of a chunk", LARGE, flip(200 * BLOCK_SIZE + 8191)],
  ["a page whose checksum was put right", LARGE, (path) => forgePage(path, 200)],
  ["an odd tail", ODD, flip(5 * BLOCK_SIZE + 3)],
  ["a slot", sidecarOf(LARGE), flip(slotAt(200) + 60)],
  ["the content of a container", CONTAINER, flip(140)],
  ["the last byte of a container of several chunks", WAL_FILE, (path) => flipLast(path)],
  ["the original behind the guard", "tde.postgresql.auto.conf", (path) => flipLast(path)],
  ["a block of a WAL segment", SEGMENT, flip(3 * BLOCK_SIZE + 4000)],
  ["the last block of a WAL segment that is used", SEGMENT, flip(90 * BLOCK_SIZE + 100)],
];

function flipLast(path: string): void {
  flipBit(path, (readFileSync(path).length - 1) * 8);
}

function forgePage(path: string, block: number): void {
  const bytes = readFileSync(path);
  const page = bytes.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
  page[5000] = (page[5000] ?? 0) ^ 1;
  page.writeUInt16LE(pageChecksum(page, block), PAGE_HEADER.checksum);
  writeFileSync(path, bytes);
}

for (const [what, path, act] of CARRIED) {
  test(`a wider scope: what was sealed before is read to its last tag: ${what}`, async () => {
    const datadir = makeSmallCluster();
    addSegments(datadir);
    enlarge(datadir);
    writeFileSync(join(datadir, CONTAINER), "a prepared transaction", { mode: 0o600 });
    const memory = new TestMemory();
    const relations = [LARGE, ORDINARY, ODD].map(bytePath);
    const scope = { ...NOTHING_SELECTED, relations };
    await new SmallEngine({ memory }).encrypt(datadir, { wal: "readable", scope });
    const before = copyOf(datadir);
    let isReached = false;
    const damaging = engineThat(
      () => {
        isReached = true;
        act(join(datadir, path));
      },
      1,
      memory,
    );
    await assert.rejects(damaging.encrypt(datadir, { wal: "readable" }), TdeError);
    assert.ok(isReached);

    copyFileSync(join(before, path), join(datadir, path));
    const sound = new SmallEngine({ memory });
    await sound.encrypt(datadir, { wal: "readable" });
    assert.deepEqual((await sound.verify(datadir)).problems, []);
  });
}

/** Counts what is read of one file. */
class CountingFileSystem extends NodeFileSystem {
  bytes = 0;
  private readonly of: string;

  constructor(of: string) {
    super();
    this.of = of;
  }

  override open(path: BytePath): OpenFile {
    const file = super.open(path);
    if (path !== this.of) return file;
    const read = file.read.bind(file);
    file.read = (...how): number => {
      const count = read(...how);
      this.bytes += count;
      return count;
    };
    return file;
  }
}

/** @returns how many bytes of LARGE a proof reads. */
async function readByProof(keyCount: number, memory: TestMemory, datadir: string, run: Operation) {
  const fs = new CountingFileSystem(join(datadir, LARGE));
  let before = 0;
  const progress = {
    ...silentProgress,
    begin: (label: string): void => void (label === "proving" && (before = fs.bytes)),
  };
  await run(new SmallEngine({ fs, progress, keys: testKeys(keyCount), memory }), datadir, "");
  return fs.bytes - before;
}

test("what a run has written and read back, its proof reads a sample of; what it found sealed, whole", async () => {
  const datadir = makeSmallCluster();
  enlarge(datadir);
  const memory = new TestMemory();
  const first: Operation = (small, at) =>
    small.encrypt(at, { scope: { ...NOTHING_SELECTED, relations: [bytePath(LARGE)] } });
  // The first chunk, and a page of each of the two others.
  const sample = 128 * BLOCK_SIZE;
  assert.equal(await readByProof(1, memory, datadir, first), sample);
  const wider: Operation = (small, at) => small.encrypt(at);
  assert.equal(await readByProof(1, memory, datadir, wider), BLOCKS * BLOCK_SIZE);
  const rotation: Operation = (small, at) => small.rotate(at);
  assert.equal(await readByProof(2, memory, datadir, rotation), sample);
  const sound = new SmallEngine({ keys: testKeys(2), memory });
  assert.deepEqual((await sound.verify(datadir)).problems, []);
});

test("what a sync writes in place its proof reads whole, and of the rest no page", async () => {
  const source = makeSmallCluster();
  enlarge(source);
  const copy = copyOf(source);
  const memory = new TestMemory();
  await new SmallEngine({ memory }).encrypt(copy);
  const sync: Operation = (small) => small.sync(source, copy);
  writeFileSync(join(source, CONTAINER), "a prepared transaction", { mode: 0o600 });
  assert.equal(await readByProof(1, memory, copy, sync), 0);
  flipBit(join(source, LARGE), (200 * BLOCK_SIZE + 6000) * 8);
  assert.equal(await readByProof(1, memory, copy, sync), BLOCKS * BLOCK_SIZE);
  // Wherever a write to the patched file went wrong, while nothing else tells.
  for (const act of [flip(290 * BLOCK_SIZE + 5000), (path: string): void => forgePage(path, 100)]) {
    flipBit(join(source, LARGE), (200 * BLOCK_SIZE + 6000) * 8);
    const kept = join(temporaryPath("kept"), "file");
    const damaging = engineThat(
      () => {
        copyFileSync(join(copy, LARGE), kept);
        act(join(copy, LARGE));
      },
      1,
      memory,
    );
    await assert.rejects(damaging.sync(source, copy), IntegrityError);
    copyFileSync(kept, join(copy, LARGE));
    await new SmallEngine({ memory }).sync(source, copy);
  }
  assert.deepEqual((await new SmallEngine({ memory }).verify(copy)).problems, []);
});
