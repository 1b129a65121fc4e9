/**
 * Every bit counts: whatever single bit of an encrypted directory is flipped, verify says so and names the file.
 * TDE_TEST_RUNS sets the number of flips, TDE_TEST_SEED which ones.
 */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TdeError } from "../../src/errors.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import { makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";

const FLIPS = Number(process.env["TDE_TEST_RUNS"] ?? 400);
const SEED = Number(process.env["TDE_TEST_SEED"] ?? 20_241_112);

const engine = new SmallEngine();
let datadir = "";
before(async () => {
  datadir = makeSmallCluster();
  await engine.encrypt(datadir);
});
after(() => console.log(`# ${FLIPS} flips, seed ${SEED}`));

test("every flipped bit in a page file, sidecar, container or readable file is found in that file", async () => {
  const random = generator(SEED);
  const files = filesOf(datadir).filter((path) => !READ_BEFORE_ALL_ELSE.includes(path));
  const relations = files.filter((path) => files.includes(sidecarOf(path)));
  const others = files.filter(
    (path) => !relations.includes(path) && !relations.some((of) => sidecarOf(of) === path),
  );
  for (let done = 0; done < FLIPS;) {
    // Verify goes on to the end, so that one run tells of one flip in each relation and in each other file.
    const flipped = new Map<string, Flip>();
    for (const path of relations)
      flipped.set(path, flipIn(random() < 0.5 ? path : sidecarOf(path), random));
    for (const path of others) flipped.set(path, flipIn(path, random));
    const { ok, problems } = await engine.verify(datadir);
    assert.equal(ok, false);
    const named = new Set(problems.map(({ path }) => path));
    const missed = [...flipped].filter(([path]) => !named.has(path));
    assert.deepEqual(missed, [], `not found (seed ${SEED})`);
    for (const { path, bit } of flipped.values()) flipBit(join(datadir, path), bit);
    done += flipped.size;
  }
  assert.deepEqual((await engine.verify(datadir)).problems, []);
});

test("every flipped bit in the large relation is found in its block, or in its sidecar page", async () => {
  const random = generator(SEED + 1);
  const large: string | undefined = filesOf(datadir)
    .filter((path) => filesOf(datadir).includes(sidecarOf(path)))
    .sort((a, b) => statSync(join(datadir, b)).size - statSync(join(datadir, a)).size)[0];
  assert.ok(large !== undefined);
  const blockCount = statSync(join(datadir, large)).size / 8192;
  for (let i = 0; i < FLIPS / 40; i++) {
    // One flip in every third block.
    const flips: Flip[] = [];
    for (let block = Math.floor(random() * 3); block < blockCount; block += 3) {
      const bit = block * 65536 + Math.floor(random() * 65536);
      flipBit(join(datadir, large), bit);
      flips.push({ path: large, bit });
    }
    const { problems } = await engine.verify(datadir);
    const found: ReadonlySet<number | undefined> = new Set(
      problems.filter(({ path }) => path === large).map(({ block }) => block),
    );
    assert.deepEqual(
      flips.filter(({ bit }) => !found.has(bit >> 16)),
      [],
      `not found (seed ${SEED})`,
    );
    for (const { bit } of flips) flipBit(join(datadir, large), bit);
  }
});

test("every flipped bit in the manifest, pg_control and PG_VERSION is found", async () => {
  const random = generator(SEED + 2);
  const paths = ["tde.manifest", "tde.manifest", ...READ_BEFORE_ALL_ELSE];
  for (let i = 0; i < FLIPS / 10; i++) {
    const { path, bit } = flipIn(paths[i % paths.length] ?? "", random);
    assert.ok(await isFound(path), `bit ${bit} of ${path} (seed ${SEED})`);
    flipBit(join(datadir, path), bit);
  }
});

/** What makes a directory one that verify can look at: changed, it refuses as a whole or names the file. */
const READ_BEFORE_ALL_ELSE = ["tde.manifest", "global/pg_control", "PG_VERSION"];

async function isFound(path: string): Promise<boolean> {
  try {
    const { problems } = await engine.verify(datadir);
    return problems.some((problem) => problem.path === path);
  } catch (error) {
    assert.ok(error instanceof TdeError, `${path}: ${String(error)}`);
    return error.message.includes(path);
  }
}

interface Flip {
  readonly path: string;
  readonly bit: number;
}

function flipIn(path: string, random: () => number): Flip {
  const bit = Math.floor(random() * statSync(join(datadir, path)).size * 8);
  flipBit(join(datadir, path), bit);
  return { path, bit };
}

/** Files that have a byte to flip. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter(
      (path) => statSync(join(folder, path)).isFile() && statSync(join(folder, path)).size > 0,
    )
    .sort();
}

/** Mulberry32: small, seeded, good enough to choose bits. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
