/**
 * What verify remembers of a directory is what every later command trusts: the state of one that is whole and clean, and of
 * no other.
 */
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import type { SeenDirectory } from "../../src/engine/context.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  OTHER,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";

/** Tells what it is told. */
class ListeningMemory extends TestMemory {
  readonly told: SeenDirectory[] = [];

  constructor() {
    super();
    const { remember } = this;
    this.remember = (seen): void => {
      this.told.push(seen);
      remember(seen);
    };
  }
}

let memory = new ListeningMemory();
/** Has not seen the directory yet. */
let small = new SmallEngine({ memory });
let datadir = "";

beforeEach(async () => {
  datadir = makeSmallCluster();
  await new SmallEngine().encrypt(datadir);
  memory = new ListeningMemory();
  small = new SmallEngine({ memory });
});

test("a clean directory is remembered, once", async () => {
  const report = await small.verify(datadir);
  assert.deepEqual(
    memory.told.map(({ epoch, root }) => [epoch, root]),
    [[1n, report.root]],
  );
  await small.verify(datadir);
  assert.equal(memory.told.length, 1);
});

const DAMAGES: Readonly<Record<string, (datadir: string) => void>> = {
  "a page": (d) => flipBit(join(d, ORDINARY), 50_000),
  "a sidecar": (d) => flipBit(sidecarOf(join(d, ORDINARY)), 50_000),
  "a readable file": (d) => appendFileSync(join(d, "pg_hba.conf"), "host all all all trust\n"),
  "a file that was added": (d) => appendFileSync(join(d, "pg_xact/0009"), "x"),
};

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`a directory that is not clean is not remembered: ${what}`, async () => {
    damage(datadir);
    assert.equal((await small.verify(datadir)).ok, false);
    assert.deepEqual(memory.told, []);
  });
}

test("a newer state that is not clean does not become what older ones are judged by", async () => {
  await small.verify(datadir);
  const newer = copyOf(datadir);
  await new SmallEngine({ keys: testKeys(2) }).rotate(newer);
  flipBit(join(newer, OTHER), 50_000);
  const two = new SmallEngine({ keys: testKeys(2), memory });
  assert.equal((await two.verify(newer)).ok, false);
  assert.equal(memory.told.length, 1);
  assert.equal((await two.verify(datadir)).ok, true);
});

test("a directory of which only a part was looked at, or nothing with a key, is not remembered", async () => {
  const scope = { ...NOTHING_SELECTED, relations: [bytePath(ORDINARY)] };
  assert.equal((await small.verify(datadir, { scope })).ok, true);
  await small.verifyWithoutKey(datadir);
  assert.deepEqual(memory.told, []);
});

test("what was taken as changed on purpose is no reason to forget a directory", async () => {
  appendFileSync(join(datadir, "pg_hba.conf"), "# edited\n");
  const { ok } = await small.verify(datadir, { acceptChanged: [bytePath("pg_hba.conf")] });
  assert.deepEqual([ok, memory.told.length], [true, 1]);
});
