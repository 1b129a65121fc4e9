/** Single relations decrypted into a new directory: their plain files, byte for byte, and nothing else. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import {
  decryptRelationsInto,
  type DecryptRelationsReport,
} from "../../src/engine/decrypt-relations.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { serializeScope } from "../../src/format/scope.ts";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCatalogCluster } from "../support/fixture-catalog.ts";
import { flipBit } from "../support/forger.ts";
import { BLOCK_SIZE, copyOf, SmallEngine, TestMemory } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const PG_TYPE = "base/1/1247";
const FORKS = [PG_TYPE, `${PG_TYPE}_fsm`, `${PG_TYPE}_vm`];
let plain = "";
let encrypted = "";
/** With pg_type out of scope: its files are plain already. */
let partly = "";

before(async () => {
  plain = makeSmallCatalogCluster();
  encrypted = copyOf(plain);
  partly = copyOf(plain);
  await new SmallEngine().encrypt(encrypted);
  const exclude = [bytePath(PG_TYPE)];
  await new SmallEngine().encrypt(partly, { scope: { ...NOTHING_SELECTED, exclude } });
});

function newPlace(): string {
  return join(temporaryPath("single"), "types");
}

async function decryptTypes(
  datadir: string,
  output: string,
  { small = new SmallEngine(), dryRun = false } = {},
): Promise<DecryptRelationsReport> {
  return await decryptRelationsInto(small.engine, small.keyContext, {
    root: bytePath(datadir),
    named: { ...NOTHING_SELECTED, relations: [bytePath("template1.pg_catalog.pg_type")] },
    output: bytePath(output),
    acceptOlder: false,
    dryRun,
  });
}

function filesIn(folder: string): string[] {
  return [...treeOf(folder)]
    .filter(([, { kind }]) => kind === "file")
    .map(([path]) => path.slice(2));
}

function assertTypes(output: string): void {
  assert.deepEqual(filesIn(output).sort(), FORKS);
  for (const path of FORKS)
    assert.ok(readFileSync(join(output, path)).equals(readFileSync(join(plain, path))), path);
}

test("a relation's forks come out as they were, sealed or out of scope, and the source stays as it is", async () => {
  for (const datadir of [encrypted, partly]) {
    const before = treeOf(datadir);
    const output = newPlace();
    const report = await decryptTypes(datadir, output);
    assert.deepEqual([report.files, report.outcome], [3, "decrypted"]);
    assert.match(serializeScope(report.selected), /^relation:1663\/1\/1247(,|$)/);
    assertTypes(output);
    assertSameTree(treeOf(datadir), before);
  }
});

test("a dry run writes nothing, and a place that is not empty is refused", async () => {
  const output = newPlace();
  assert.equal((await decryptTypes(encrypted, output, { dryRun: true })).files, 3);
  assert.ok(!existsSync(output));
  mkdirSync(output);
  writeFileSync(join(output, "mine"), "");
  await assert.rejects(decryptTypes(encrypted, output), { code: "state" });
  assert.deepEqual(filesIn(output), ["mine"]);
});

test("a page that does not authenticate ends it, and tde recover empties the new directory", async () => {
  const datadir = copyOf(encrypted);
  flipBit(join(datadir, PG_TYPE), 8 * (BLOCK_SIZE + 5000));
  const output = newPlace();
  const small = new SmallEngine();
  await assert.rejects(decryptTypes(datadir, output, { small }), {
    code: "integrity",
    file: PG_TYPE,
  });
  assert.equal(await small.recover(output), "output-emptied");
  assert.deepEqual(filesIn(output), []);
});

test("stopped anywhere, the same call or a decryption of the whole never takes the rest for done", async () => {
  const rehearsal = new StoppingFileSystem();
  await decryptTypes(encrypted, newPlace(), { small: new SmallEngine({ fs: rehearsal }) });
  const outcomes = new Set<boolean>();
  for (let stopAt = rehearsal.operations; stopAt > 0; stopAt -= 5) {
    const output = newPlace();
    const memory = new TestMemory();
    const small = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory });
    await assert.rejects(decryptTypes(encrypted, output, { small }));
    const whole = new SmallEngine({ memory });
    const options = whole.decryptOptions(encrypted);
    const into = { output: bytePath(output), tablespaceMapping: new Map() };
    // It empties what is left of the other run, or refuses a directory that is not empty.
    const isWhole = await decryptIntoOutput(whole.engine, whole.keyContext, options, into).then(
      () => true,
      () => false,
    );
    outcomes.add(isWhole);
    if (isWhole) assertSameTree(treeOf(output), treeOf(plain));
    else assertTypes(output);
  }
  assert.equal(outcomes.size, 2);
});
