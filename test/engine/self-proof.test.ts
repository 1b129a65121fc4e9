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
import { silentProgress } from "../../src/engine/progress-sink.ts";
import { TdeError } from "../../src/errors.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit, sidecarOf, slotAt } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
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
