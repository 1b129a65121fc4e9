/**
 * One damaged file must not lock the rest: a decryption finds it before it writes anything, and where it is told to do without,
 * everything else comes back byte for byte, and of the damaged file every page whose own tag holds.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, beforeEach, test } from "node:test";
import { keptPlace } from "../../src/engine/damage.ts";
import type { DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import { IntegrityError, StateError, TdeError } from "../../src/errors.ts";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { SPECIAL, SPECIAL_BYTES } from "../../src/format/sidecar-page.ts";
import { SLOT } from "../../src/format/slot.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit, sidecarOf, slotAt } from "../support/forger.ts";
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
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

let plain = "";
let encrypted = "";
/** The same cluster in an older encryption, under the same keys. */
let older = "";
let memory: TestMemory;
let small: SmallEngine;

before(async () => {
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  older = copyOf(plain);
  await new SmallEngine().encrypt(older);
  memory = new TestMemory();
  await new SmallEngine({ memory }).encrypt(encrypted);
});

beforeEach(() => {
  small = new SmallEngine({ memory: memory.copy() });
});

const POLICIES = ["keep", "zero", "skip"] as const;

interface Case {
  readonly path: string;
  readonly damage: (datadir: string, path: string) => void;
  /** What is lost of it: blocks of a relation, bytes of another file. */
  readonly lost:
    | readonly (readonly [first: number, count: number])[]
    | "whole"
    | "from block 60"
    | "nothing opens";
}

const CASES: Readonly<Record<string, Case>> = {
  "a flipped bit in a page": {
    path: LARGE,
    damage: (datadir, path) => flipBit(join(datadir, path), (5 * BLOCK_SIZE + 4000) * 8),
    lost: [[5, 1]],
  },
  "flipped bits in pages far apart": {
    path: LARGE,
    damage: (datadir, path) => {
      for (const block of [0, 1, 63]) flipBit(join(datadir, path), (block * BLOCK_SIZE + 99) * 8);
    },
    lost: [
      [0, 2],
      [63, 1],
    ],
  },
  "a flipped bit in the tail of a file": {
    path: ODD,
    damage: (datadir, path) => flipBit(join(datadir, path), (5 * BLOCK_SIZE + 3) * 8),
    lost: [[5, 1]],
  },
  "a byte in a page that is zero": {
    path: ODD,
    damage: (datadir, path) => flipBit(join(datadir, path), (BLOCK_SIZE + 4000) * 8),
    lost: [],
  },
  "a flipped bit in a page's stored checksum": {
    path: ORDINARY,
    damage: (datadir, path) => flipBit(join(datadir, path), 8 * 8),
    lost: [],
  },
  "a flipped bit in a slot": {
    path: LARGE,
    damage: (datadir, path) => flipBit(sidecarOf(join(datadir, path)), (slotAt(3) + 20) * 8),
    lost: [[3, 1]],
  },
  "a flipped bit in the key id of a slot": {
    path: LARGE,
    damage: (datadir, path) =>
      flipBit(sidecarOf(join(datadir, path)), (slotAt(3) + SLOT.keyId) * 8),
    lost: [[3, 1]],
  },
  "a flipped bit in a sidecar's MAC": {
    path: LARGE,
    damage: (datadir, path) =>
      flipBit(sidecarOf(join(datadir, path)), (BLOCK_SIZE - SPECIAL_BYTES + SPECIAL.mac) * 8),
    lost: [],
  },
  "a flipped bit in the salt of a sidecar": {
    path: ORDINARY,
    damage: (datadir, path) =>
      flipBit(sidecarOf(join(datadir, path)), (BLOCK_SIZE - SPECIAL_BYTES + SPECIAL.fileSalt) * 8),
    lost: "whole",
  },
  "a sidecar that is gone": {
    path: ORDINARY,
    damage: (datadir, path) => rmSync(sidecarOf(join(datadir, path))),
    lost: "nothing opens",
  },
  "a sidecar of zeros": {
    path: ORDINARY,
    damage: (datadir, path) => {
      const sidecar = sidecarOf(join(datadir, path));
      writeFileSync(sidecar, Buffer.alloc(readFileSync(sidecar).length));
    },
    lost: "nothing opens",
  },
  "a file that was cut": {
    path: LARGE,
    damage: (datadir, path) => truncateSync(join(datadir, path), 60 * BLOCK_SIZE),
    lost: "from block 60",
  },
  "a file that has grown": {
    path: ORDINARY,
    damage: (datadir, path) => appendFileSync(join(datadir, path), Buffer.alloc(BLOCK_SIZE, 1)),
    lost: [],
  },
  "an older file with its sidecar": {
    path: ORDINARY,
    damage: (datadir, path) => {
      copyFileSync(join(older, path), join(datadir, path));
      copyFileSync(sidecarOf(join(older, path)), sidecarOf(join(datadir, path)));
    },
    lost: [],
  },
  "a flipped bit in a file that is sealed whole": {
    path: WAL_FILE,
    damage: (datadir, path) => flipBit(join(datadir, path), 70_000 * 8),
    lost: [[65_536, 65_536]],
  },
  "a cut file that is sealed whole": {
    path: WAL_FILE,
    damage: (datadir, path) => truncateSync(join(datadir, path), 140_000),
    lost: [[131_072, 150_000 - 131_072]],
  },
  "a flipped bit in the header of a file that is sealed whole": {
    path: WAL_FILE,
    damage: (datadir, path) => flipBit(join(datadir, path), 20 * 8),
    lost: "nothing opens",
  },
};

for (const [what, { path, damage, lost }] of Object.entries(CASES)) {
  test(`${what}: nothing is decrypted, unless it is told to do without`, async () => {
    const datadir = damagedCopy(path, damage);
    const before = treeOf(datadir);
    for (const options of [{}, { dryRun: true }, { damaged: "keep", dryRun: true }] as const) {
      const [result] = await Promise.allSettled([small.decrypt(datadir, options)]);
      if ("damaged" in options) {
        assert.ok(result.status === "fulfilled");
        assert.deepEqual(pathsOf(result.value), [path]);
      } else {
        assert.ok(result.status === "rejected" && result.reason instanceof TdeError);
        assert.match(`${result.reason.message} ${result.reason.hint}`, /--damaged=keep/);
        assert.ok(result.reason.message.startsWith(path));
      }
      assertSameTree(treeOf(datadir), before);
    }
  });

  for (const policy of POLICIES) {
    test(`${what}: all else comes back with --damaged=${policy}, in place and into a new directory`, async () => {
      const datadir = damagedCopy(path, damage);
      const sealed = [path, `${path}_tde`].map((one) => contentOf(join(datadir, one)));
      const output = join(temporaryPath("output"), "data");
      const intoOutput = await decryptIntoOutput(
        small.engine,
        small.keyContext,
        small.decryptOptions(datadir, { damaged: policy }),
        { output: bytePath(output), tablespaceMapping: new Map() },
      );
      const inPlace = await small.decrypt(datadir, { damaged: policy });
      for (const [at, report] of [
        [output, intoOutput],
        [datadir, inPlace],
      ] as const) {
        assert.deepEqual(pathsOf(report), [path]);
        assertRest(at, path);
        assertSalvaged(join(at, path), path, report, policy === "skip" ? "nothing opens" : lost);
        const text = readFileSync(join(at, "tde.damaged/report.txt"), "utf8");
        assert.ok(text.startsWith(`${path}: `));
      }
      const isKept = policy !== "zero";
      assert.equal(inPlace.damaged[0]?.kept, isKept ? keptPlace(path as BytePath) : undefined);
      for (const [i, one] of [path, `${path}_tde`].entries()) {
        const kept = contentOf(join(datadir, keptPlace(one as BytePath)));
        assert.deepEqual(kept, isKept ? sealed[i] : undefined);
      }
      assert.equal(existsSync(join(datadir, "tde.journal")), false);
    });
  }
}

test("a file that is missing, and one that no line names, are done without", async () => {
  const datadir = copyOf(encrypted);
  rmSync(join(datadir, ORDINARY));
  writeFileSync(join(datadir, "base/1/99999"), Buffer.alloc(BLOCK_SIZE, 1));
  await assert.rejects(small.decrypt(datadir), IntegrityError);
  const { damaged } = await small.decrypt(datadir, { damaged: "zero" });
  assert.deepEqual(
    damaged.map(({ path, done, kept }) => [path, done, kept]),
    [
      [ORDINARY, "missing", undefined],
      ["base/1/1259_tde", "left-out", "tde.damaged/files/base/1/1259_tde"],
      ["base/1/99999", "left-out", "tde.damaged/files/base/1/99999"],
    ],
  );
  assertRest(datadir, ORDINARY);
});

test("a file that is not encrypted is taken as it is, into a new directory, too", async () => {
  const datadir = copyOf(encrypted);
  const path = "pg_xact/0000";
  flipBit(join(datadir, path), 100 * 8);
  const changed = readFileSync(join(datadir, path));
  const output = join(temporaryPath("output"), "data");
  const into = { output: bytePath(output), tablespaceMapping: new Map<BytePath, BytePath>() };
  const options = small.decryptOptions(datadir, { damaged: "keep" });
  for (const [at, { damaged }] of [
    [output, await decryptIntoOutput(small.engine, small.keyContext, options, into)],
    [datadir, await small.decrypt(datadir, { damaged: "keep" })],
  ] as const) {
    assert.deepEqual(
      damaged.map(({ path: damagedPath, done }) => [damagedPath, done]),
      [[path, "as-it-is"]],
    );
    assert.deepEqual(readFileSync(join(at, path)), changed);
    assertRest(at, path);
  }
});

test("an empty relation that got content comes back empty", async () => {
  const datadir = copyOf(encrypted);
  const path = "base/1/90002";
  writeFileSync(join(datadir, path), Buffer.alloc(BLOCK_SIZE, 1));
  const { damaged } = await small.decrypt(datadir, { damaged: "keep" });
  assert.deepEqual(
    damaged.map(({ path: damagedPath, done, kept }) => [damagedPath, done, kept]),
    [[path, "zeroed", `tde.damaged/files/${path}`]],
  );
  assert.equal(readFileSync(join(datadir, path)).length, 0);
  assert.equal(readFileSync(join(datadir, `tde.damaged/files/${path}`)).length, BLOCK_SIZE);
});

test("a dry run that finds nothing wrong remembers nothing", async () => {
  const own = new TestMemory();
  await new SmallEngine({ memory: own }).decrypt(copyOf(encrypted), { dryRun: true });
  assert.ok(own.isEmpty);
});

test("what cannot be done without is refused whatever is said", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, "pg_hba.conf"), "host all all all trust\n");
  const before = treeOf(datadir);
  await assert.rejects(small.decrypt(datadir, { damaged: "keep" }), (error) => {
    assert.ok(error instanceof IntegrityError);
    assert.match(error.hint ?? "", /--accept-changed pg_hba\.conf/);
    return true;
  });
  assertSameTree(treeOf(datadir), before);
});

test("what an earlier decryption put aside is never written over", async () => {
  const datadir = damagedCopy(LARGE, CASES["a flipped bit in a page"]?.damage);
  mkdirSync(join(datadir, "tde.damaged/files/base/1"), { recursive: true });
  writeFileSync(join(datadir, "tde.damaged/files", LARGE), "kept");
  const before = treeOf(datadir);
  await assert.rejects(small.decrypt(datadir, { damaged: "keep" }), StateError);
  assertSameTree(treeOf(datadir), before);
});

for (const policy of POLICIES) {
  test(`a decryption with --damaged=${policy} goes on wherever it was stopped`, async () => {
    const damaged = copyOf(encrypted);
    for (const one of ["a flipped bit in a page", "a flipped bit in a file that is sealed whole"])
      CASES[one]?.damage(damaged, CASES[one].path);
    rmSync(join(damaged, OTHER));
    flipBit(join(damaged, "tde.postgresql.auto.conf"), 200 * 8);
    const rehearsal = new StoppingFileSystem();
    const whole = copyOf(damaged);
    await new SmallEngine({ fs: rehearsal, memory: memory.copy() }).decrypt(whole, {
      damaged: policy,
    });
    const expected = treeOf(whole);
    const stride = policy === "keep" ? 2 : 7;
    const first = rehearsal.paths.findIndex((path) => path.includes("tde.damaged"));
    assert.ok(first > 0);
    for (let stopAt = first - 3; stopAt <= rehearsal.operations; stopAt += stride) {
      const datadir = copyOf(damaged);
      const own = memory.copy();
      const fs = new StoppingFileSystem(stopAt);
      const stopped = new SmallEngine({ fs, memory: own });
      await assert.rejects(stopped.decrypt(datadir, { damaged: policy }), Stopped);
      const hasEnded = !existsSync(join(datadir, "tde.journal"));
      const outcome = await new SmallEngine({ memory: own }).recover(datadir);
      assert.equal(
        outcome,
        hasEnded ? "nothing-to-do" : "decryption-damaged",
        `stopped at ${stopAt}`,
      );
      assertSameTree(treeOf(datadir), expected, { except: isReport });
    }
  });
}

/** Its times are its own. */
function isReport(path: string): boolean {
  return /tde\.damaged|^\.$/.test(path);
}

function damagedCopy(path: string, damage: Case["damage"] | undefined): string {
  const datadir = copyOf(encrypted);
  damage?.(datadir, path);
  return datadir;
}

function pathsOf({ damaged }: DecryptReport): string[] {
  return damaged.map(({ path }) => path);
}

function contentOf(path: string): Buffer | undefined {
  return existsSync(path) ? readFileSync(path) : undefined;
}

/** All but the damaged file is as it was before encryption. */
function assertRest(datadir: string, path: string): void {
  const isOther = (one: string): boolean =>
    one === `./${path}` || /^\.\/tde\.damaged|^\.\/pg_wal\/tde\.damaged|^\.$/.test(one);
  const isFolder = (one: string): boolean => path.startsWith(`${one.slice(2)}/`);
  assertSameTree(treeOf(datadir), treeOf(plain), {
    except: (one) => isOther(one) || isFolder(one),
  });
}

/** What is lost is zeros, and as much as is expected; everything else is the original. */
function assertSalvaged(at: string, path: string, report: DecryptReport, lost: Case["lost"]): void {
  const [done] = report.damaged;
  if (lost === "nothing opens") {
    assert.equal(done?.done, "left-out");
    assert.equal(existsSync(at), false);
    return;
  }
  const original = readFileSync(join(plain, path));
  const unit = done?.unit === "block" ? BLOCK_SIZE : 1;
  const blocks = Math.ceil(original.length / unit);
  const expected: Case["lost"] =
    lost === "whole" ? [[0, blocks]] : lost === "from block 60" ? [[60, blocks - 60]] : lost;
  assert.equal(done?.done, "zeroed");
  assert.deepEqual(
    done.lost.map(({ first, count }) => [first, count]),
    expected,
  );
  for (const [first, count] of expected)
    original.fill(0, first * unit, Math.min((first + count) * unit, original.length));
  assert.ok(readFileSync(at).equals(original), path);
}
