/**
 * Encryption of a part of the relations: what is named is sealed, what is not stays as it is and is authenticated all
 * the same, and every report says so first. A wider scope seals what is missing; a narrower one is refused.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import { IntegrityError, StateError } from "../../src/errors.ts";
import type { ProblemKind } from "../../src/format/problem.ts";
import { serializeScope } from "../../src/format/scope.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import {
  copyOf,
  makeSmallCluster,
  ODD,
  ORDINARY,
  OTHER,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const small = new SmallEngine();
let plain = "";
/** ORDINARY and ODD are sealed, with what is no relation; OTHER and all else are not. */
let partly = "";
const PARTLY = selection({ relations: [ORDINARY, ODD] });
const TEXT = "relation:1663/1/1259,relation:1663/1/90001";
const SEALED = [ORDINARY, `${ORDINARY}_fsm`, `${ORDINARY}_vm`, ODD];

before(async () => {
  plain = makeSmallCluster();
  partly = copyOf(plain);
  await small.encrypt(partly, { scope: PARTLY });
});

function selection(named: Partial<Record<keyof ScopeSelection, string[]>>): ScopeSelection {
  const parts = Object.entries(named).map(([kind, texts]) => [kind, texts.map(bytePath)]);
  return { ...NOTHING_SELECTED, ...(Object.fromEntries(parts) as Partial<ScopeSelection>) };
}

const RELATION = /^\.\/(?:base\/\d+|global)\/\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?$/;

/** Relation files that have a sidecar, relative to the directory. */
function sealedRelations(datadir: string): string[] {
  return [...treeOf(datadir).keys()]
    .filter((path) => RELATION.test(path) && existsSync(sidecarOf(join(datadir, path))))
    .map((path) => path.slice(2))
    .sort();
}

/** Relation files that are byte for byte as in the plain cluster, but for empty ones. */
function plainRelations(datadir: string): { files: number; bytes: number } {
  const original = treeOf(plain);
  let [files, bytes] = [0, 0];
  for (const [path, { sha256, sizeBytes }] of treeOf(datadir)) {
    if (!RELATION.test(path) || existsSync(sidecarOf(join(datadir, path)))) continue;
    assert.equal(sha256, original.get(path)?.sha256, path);
    files++;
    bytes += sizeBytes;
  }
  return { files, bytes };
}

test("a scope seals the relations in it with all their forks, and leaves the others as they are", () => {
  assert.deepEqual(sealedRelations(partly), SEALED.toSorted());
  assert.ok(plainRelations(partly).files > 20);
});

test("a scope seals everything that is no relation, as without one", () => {
  const original = readFileSync(join(plain, WAL_FILE));
  assert.notDeepEqual(readFileSync(join(partly, WAL_FILE)).subarray(0, 4), original.subarray(0, 4));
  assert.ok(existsSync(join(partly, "tde.postgresql.auto.conf")));
});

test("--seal-config seals configuration in every scope", async () => {
  const datadir = copyOf(plain);
  appendFileSync(join(datadir, "postgresql.conf"), "ssl_passphrase_command = 'echo secret'\n");
  const before = treeOf(datadir);
  const engine = new SmallEngine();
  await engine.encrypt(datadir, { scope: PARTLY, sealConfig: true });
  assert.doesNotMatch(readFileSync(join(datadir, "postgresql.conf"), "latin1"), /secret/);
  assert.ok((await engine.verify(datadir)).ok);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), before);
});

test("every report counts what is out of scope", async () => {
  const datadir = copyOf(plain);
  const engine = new SmallEngine();
  const dry = await engine.encrypt(datadir, { scope: PARTLY, dryRun: true });
  assertSameTree(treeOf(datadir), treeOf(plain), { directoryTimes: true });
  const done = await engine.encrypt(datadir, { scope: PARTLY });
  const again = await engine.encrypt(datadir, { scope: PARTLY });
  const verified = await engine.verify(datadir);
  const outOfScope = plainRelations(datadir);
  assert.deepEqual(dry.survey.outOfScope, outOfScope);
  assert.deepEqual(done.proof?.outOfScope, outOfScope);
  assert.deepEqual(again.survey.outOfScope, outOfScope);
  assert.deepEqual(verified.outOfScope, outOfScope);
  assert.equal(again.outcome, "already-encrypted");
  for (const scope of [dry.scope, done.scope, again.scope, verified.scope])
    assert.equal(scope && serializeScope(scope), TEXT);
  const group = done.proof?.plaintext.find(({ why }) => why === "relations out of scope");
  assert.deepEqual([group?.exposed, group?.bytes], [true, outOfScope.bytes]);
});

test("what is encrypted in part verifies and comes back byte for byte", async () => {
  const datadir = copyOf(partly);
  assert.deepEqual((await small.verify(datadir)).problems, []);
  await small.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

const ATTACKS: readonly (readonly [
  name: string,
  act: (datadir: string) => void,
  found: readonly [ProblemKind, string],
])[] = [
  ["a changed bit", (at) => flipBit(join(at, OTHER), 70_000), ["content", OTHER]],
  ["a cut", (at) => writeFileSync(join(at, OTHER), "cut"), ["size", OTHER]],
  [
    "a sidecar",
    (at) => copyFileSync(sidecarOf(join(at, ORDINARY)), sidecarOf(join(at, OTHER))),
    ["extra", sidecarOf(OTHER)],
  ],
  [
    "a relation that was added",
    (at) => copyFileSync(join(at, OTHER), join(at, "base/1/77777")),
    ["extra", "base/1/77777"],
  ],
];

for (const [name, act, [kind, path]] of ATTACKS) {
  test(`out of scope, ${name} is found by verify, and refused by decryption and by encrypting again`, async () => {
    const datadir = copyOf(partly);
    act(datadir);
    const report = await small.verify(datadir);
    assert.ok(report.problems.some((problem) => problem.kind === kind && problem.path === path));
    const tampered = treeOf(datadir);
    await assert.rejects(small.decrypt(datadir), IntegrityError);
    // Something to seal, or nothing would be looked at.
    writeFileSync(join(datadir, "server.log"), "a line", { mode: 0o600 });
    await assert.rejects(small.encrypt(datadir, { scope: PARTLY }), (error) => {
      return error instanceof IntegrityError || error instanceof StateError;
    });
    const except = (path: string): boolean => path === "./server.log";
    assertSameTree(treeOf(datadir), tampered, { except });
  });
}

test("a wider scope seals what is missing and leaves sealed pages as they are", async () => {
  const datadir = copyOf(partly);
  const engine = new SmallEngine();
  const before = treeOf(datadir);
  const wider = selection({ relations: [ORDINARY, ODD, OTHER] });
  const report = await engine.encrypt(datadir, { scope: wider });
  assert.equal(report.survey.relations, 3);
  assert.deepEqual(sealedRelations(datadir), [...SEALED, ...forksOf(OTHER)].toSorted());
  const after = treeOf(datadir);
  for (const path of SEALED) assert.deepEqual(after.get(`./${path}`), before.get(`./${path}`));

  const whole = await engine.encrypt(datadir);
  assert.deepEqual(whole.proof?.outOfScope, { files: 0, bytes: 0 });
  const verified = await engine.verify(datadir);
  assert.deepEqual(verified.problems, []);
  assert.equal(verified.scope && serializeScope(verified.scope), "all");
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("a wider scope in which nothing is to be sealed is remembered all the same", async () => {
  const datadir = copyOf(partly);
  const engine = new SmallEngine();
  // Empty: it has no sidecar in any scope.
  const scope = selection({ relations: [ORDINARY, ODD, "base/1/90002"] });
  assert.equal((await engine.encrypt(datadir, { scope })).outcome, "encrypted");
  assert.equal((await engine.encrypt(datadir, { scope })).outcome, "already-encrypted");
});

for (const [name, scope] of [
  ["another relation", selection({ relations: [OTHER] })],
  ["one of two relations", selection({ relations: [ODD] })],
  ["all but what is sealed", selection({ exclude: [ORDINARY] })],
] as const) {
  test(`a scope without what is sealed is refused: ${name}`, async () => {
    const datadir = copyOf(partly);
    const before = treeOf(datadir);
    await assert.rejects(
      small.encrypt(datadir, { scope }),
      (error) => error instanceof StateError && /not in the scope/.test(error.message),
    );
    assertSameTree(treeOf(datadir), before);
  });
}

test("an interrupted run ends with its own scope, whatever the next command names, and says so", async () => {
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal }).encrypt(copyOf(plain), { scope: PARTLY });
  const datadir = copyOf(plain);
  const fs = new StoppingFileSystem(Math.floor(rehearsal.operations / 2));
  const engine = new SmallEngine();
  const { memory } = engine.keyContext;
  await assert.rejects(new SmallEngine({ fs, memory }).encrypt(datadir, { scope: PARTLY }));

  const report = await engine.encrypt(datadir);
  assert.equal(serializeScope(report.scope), TEXT);
  assert.match(engine.notices.join(), /finished with its own scope, relation:1663/);
  assert.deepEqual(sealedRelations(datadir), SEALED.toSorted());
  assert.deepEqual((await engine.verify(datadir)).problems, []);
});

test("--exclude leaves out one relation of all", async () => {
  const datadir = copyOf(plain);
  const engine = new SmallEngine();
  await engine.encrypt(datadir, { scope: selection({ exclude: [OTHER] }) });
  assert.deepEqual(plainRelations(datadir).files, forksOf(OTHER).length + emptyRelations());
  assert.ok(existsSync(sidecarOf(join(datadir, "global/1260"))));
  assert.ok((await engine.verify(datadir)).ok);
});

test("a scope holds for a new directory, too", async () => {
  const output = join(dirname(copyOf(plain)), "output");
  const into = { output: bytePath(output), tablespaceMapping: new Map() };
  const options = small.encryptOptions(plain, { scope: PARTLY });
  const report = await encryptIntoOutput(small.engine, small.keyContext, options, into);
  assert.deepEqual(sealedRelations(output), SEALED.toSorted());
  assert.deepEqual(report.proof?.outOfScope, plainRelations(output));
  assert.ok((await small.verify(output)).ok);

  const back = { output: bytePath(`${output}.back`), tablespaceMapping: new Map() };
  const decryption = small.decryptOptions(output);
  await decryptIntoOutput(small.engine, small.keyContext, decryption, back);
  assertSameTree(treeOf(`${output}.back`), treeOf(plain));
});

test("verify of a part looks at nothing else, and says so", async () => {
  const datadir = copyOf(partly);
  flipBit(join(datadir, WAL_FILE), 100_000 * 8);
  flipBit(join(datadir, ODD), 100);
  const sound = await small.verify(datadir, { scope: selection({ relations: [ORDINARY] }) });
  assert.deepEqual([sound.problems, sound.files], [[], 3]);
  assert.equal(sound.selected && serializeScope(sound.selected), "relation:1663/1/1259");
  const damaged = await small.verify(datadir, { scope: selection({ relations: [ODD] }) });
  assert.deepEqual([...new Set(damaged.problems.map(({ path }) => path))], [ODD]);
});

test("verify of a part counts the plain relations in it as plain", async () => {
  const report = await small.verify(partly, { scope: selection({ relations: [OTHER] }) });
  assert.deepEqual([report.ok, report.pages, report.outOfScope.files], [true, 0, 3]);
});

test("a relation that is gone can still be asked for", async () => {
  const gone = copyOf(partly);
  for (const path of [ODD, sidecarOf(ODD)]) unlinkSync(join(gone, path));
  const report = await small.verify(gone, { scope: selection({ relations: [ODD] }) });
  assert.deepEqual(
    report.problems.map(({ kind, path }) => `${kind} ${path}`),
    [`missing ${ODD}`],
  );
});

test("verify of a part does not remember the directory: it has not seen all of it", async () => {
  const engine = new SmallEngine();
  const verdictAfter = async (scope: ScopeSelection): Promise<string> => {
    const { directoryId = "", epoch = 0n, root = "" } = await engine.verify(partly, { scope });
    return engine.keyContext.memory.judge(directoryId, epoch, root).verdict;
  };
  assert.equal(await verdictAfter(selection({ relations: [ODD] })), "unknown");
  assert.equal(await verdictAfter(NOTHING_SELECTED), "same");
});

test("a relation that no server of ours could read goes through like any other", async () => {
  const datadir = copyOf(plain);
  // Of a foreign table access method or an extension's index: pages without PostgreSQL's layout, no whole block at the end.
  const foreign = "base/1/80000";
  writeFileSync(join(datadir, foreign), randomBytes(20 * 8192 + 333), { mode: 0o600 });
  writeFileSync(join(datadir, `${foreign}.1`), Buffer.alloc(3 * 8192, 0xff), { mode: 0o600 });
  const before = treeOf(datadir);
  const engine = new SmallEngine();
  await engine.encrypt(datadir, { scope: selection({ relations: ["80000"] }) });
  assert.deepEqual(sealedRelations(datadir), [foreign, `${foreign}.1`]);
  assert.ok((await engine.verify(datadir)).ok);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), before);
});

function forksOf(path: string): string[] {
  return ["", "_fsm", "_vm"].map((fork) => path + fork);
}

function emptyRelations(): number {
  return [...treeOf(plain)].filter(
    ([path, { sizeBytes }]) => RELATION.test(path) && sizeBytes === 0,
  ).length;
}
