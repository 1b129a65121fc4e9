/**
 * That the oracle sees what must never be: each kind of it, made by hand on a disk that a command is said to have left.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import { IntegrityError, StateError } from "../../src/errors.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { SimulatedTde, STATE } from "../support/simulated-tde.ts";
import type { Composition } from "./attacker.ts";
import { type CompleteState, type History, KEYS_FOLDER, type Moment, PLACES } from "./history.ts";
import { contentAt, type Image, imageOf, inPlace, install, putFile, remove } from "./image.ts";
import { Oracle } from "./oracle.ts";
import { JOURNAL, manifestFacts, Reader } from "./reading.ts";
import { A, forgeTable, middleOf, plainDisk, put, spied } from "./stage.ts";
import { CONTROL, contentOf, firstTree, HBA } from "./tiny-cluster.ts";
import type { Command, Outcome } from "./victim.ts";

const TABLE = "base/5/1259";
const VERIFY: Command = { name: "verify", consents: {}, isAdvised: false };
const RECOVER: Command = { name: "recover", consents: {}, isAdvised: false };
const REFUSED: Outcome = { kind: "refused", error: new IntegrityError("it is not authentic") };

let disk: CrashDisk;
let journal: Buffer;
let older: Image;
let olderState: Buffer;
let verified: Outcome;
let oracle: () => Oracle;

before(async () => {
  disk = await plainDisk();
  const tde = new SimulatedTde(disk);
  const images = await spied(disk, "a", () => tde.encrypt(A));
  journal = middleOf(images).get(JOURNAL) as Buffer;
  const first = momentOf(0);
  older = imageOf(disk, A);
  olderState = contentAt(disk, STATE) ?? Buffer.alloc(0);
  await tde.rotate(A, undefined);
  const moments = [first, momentOf(1)];
  const report = await tde.verify(A);
  assert.ok(report.ok);
  verified = { kind: "verified", report };
  const keys = (await tde.openKeyring()).dataKeys();
  const history = historyOf(moments, keys);
  const composition: Composition = {
    present: 1,
    target: "a",
    base: { moment: 1, place: "a" },
    edits: [],
    state: { kind: "kept" },
  };
  oracle = () => new Oracle(history, keys, composition);
});

function momentOf(index: number): Moment {
  const images = new Map(
    (["plain", "a"] as const).map((name) => [name, imageOf(disk, PLACES[name].root)]),
  );
  const keys = imageOf(disk, KEYS_FOLDER);
  return { index, label: "", isRest: true, images, keys, open: undefined };
}

function historyOf(moments: readonly Moment[], keys: DataKeys): History {
  const states = moments.map(({ images, index }): CompleteState => {
    const facts = manifestFacts(images.get("a") ?? new Map());
    assert.ok(facts !== undefined);
    return { ...facts, tree: firstTree(), since: index };
  });
  const reader = new Reader(keys, contentOf(firstTree(), CONTROL).readBigUInt64LE(0));
  return { seed: 0, kind: "copied", moments, states, runs: new Map(), reader };
}

/** The kinds of what the oracle objects to, when `change` is all that the command did. */
function judged(
  command: Command,
  outcome: Outcome,
  change: (disk: CrashDisk) => void,
  attack: (disk: CrashDisk) => void = () => {},
): string[] {
  const judge = oracle();
  const victim = disk.copy();
  attack(victim);
  const view = judge.view(victim);
  change(victim);
  return judge.judge(command, outcome, view, judge.view(victim)).map(({ kind }) => kind);
}

/** As judged, for a command that changes nothing of what the attacker left. */
function judgedAsItLies(
  command: Command,
  outcome: Outcome,
  attack: (disk: CrashDisk) => void,
): string[] {
  return judged(command, outcome, () => {}, attack);
}

const putJournalBack = (victim: CrashDisk): void =>
  putFile(victim, inPlace(PLACES.a, JOURNAL), journal);

test("what a run completed is verified", () => {
  assert.deepEqual(
    judgedAsItLies(VERIFY, verified, () => {}),
    [],
  );
});

test("verified may not be said of a forged table, of changed configuration or of a missing file", () => {
  assert.deepEqual(
    judgedAsItLies(VERIFY, verified, (victim) => forgeTable(victim, TABLE)),
    ["forged"],
  );
  const forged = Buffer.from("host all all all trust\n");
  assert.deepEqual(
    judgedAsItLies(VERIFY, verified, (victim) => put(victim, HBA, forged)),
    ["forged"],
  );
  assert.deepEqual(
    judgedAsItLies(VERIFY, verified, (victim) => put(victim, HBA, undefined)),
    ["forged"],
  );
});

test("verified may not be said of a sealed file without its own sidecar", () => {
  const sidecar = sidecarName(TABLE as BytePath);
  const change = (victim: CrashDisk): void => put(victim, sidecar, older.get(sidecar) as Buffer);
  assert.deepEqual(judgedAsItLies(VERIFY, verified, change), ["forged"]);
});

test("an older state passes with consent alone", () => {
  const rollBack = (victim: CrashDisk): void => install(victim, PLACES.a, older);
  assert.deepEqual(judgedAsItLies(VERIFY, verified, rollBack), ["rolled back"]);
  const consenting = { ...VERIFY, consents: { acceptOlder: true } };
  assert.deepEqual(judgedAsItLies(consenting, verified, rollBack), []);
});

test("a remembered epoch may not fall, nor the memory be gone", () => {
  const fall = (victim: CrashDisk): void => putFile(victim, STATE, olderState);
  assert.deepEqual(judged(VERIFY, verified, fall), ["memory"]);
  const forget = (victim: CrashDisk): void => putFile(victim, STATE, undefined);
  assert.deepEqual(judged(VERIFY, verified, forget), ["memory"]);
});

test("a finished directory may not be emptied, whatever the command says", () => {
  const empty = (victim: CrashDisk): void => remove(victim, PLACES.a);
  const emptied: Outcome = { kind: "recovered", report: "output-emptied" };
  assert.deepEqual(judged(RECOVER, emptied, empty), ["emptied", "emptied"]);
  assert.deepEqual(judged(RECOVER, REFUSED, empty), ["emptied"]);
});

test("legitimate content may not be gone", () => {
  const lose = (victim: CrashDisk): void => put(victim, TABLE, undefined);
  assert.deepEqual(judged(RECOVER, REFUSED, lose), ["lost"]);
});

test("the journal of no open run may not be acted on, and not beside it either", () => {
  const finished: Outcome = { kind: "recovered", report: "nothing-to-do" };
  const end = (victim: CrashDisk): void => put(victim, JOURNAL, undefined);
  assert.deepEqual(judged(RECOVER, finished, end, putJournalBack), ["journal"]);
  const add = (victim: CrashDisk): void => put(victim, "base/5/1", Buffer.alloc(1));
  assert.deepEqual(judged(RECOVER, REFUSED, add, putJournalBack), ["changed by a refusal"]);
  assert.deepEqual(judgedAsItLies(RECOVER, REFUSED, putJournalBack), []);
});

test("no message advises a recovery beside the journal of no open run", () => {
  const hint = 'Run "tde recover" on it.';
  const advising: Outcome = {
    kind: "refused",
    error: new StateError("it is unfinished", { hint }),
  };
  assert.deepEqual(judgedAsItLies(VERIFY, advising, putJournalBack), ["advice"]);
});

test("a decryption gives the original and nothing else", () => {
  const command: Command = { name: "decrypt", consents: {}, isAdvised: false };
  const decrypted: Outcome = {
    kind: "decrypted",
    report: {
      outcome: "decrypted",
      files: 0,
      bytes: 0,
      checkedAgain: 0,
      unchecked: 0,
      controlRestored: false,
      recoverySettings: [],
      recoverySettingsKept: false,
      accepted: [],
      damaged: [],
    },
  };
  const right = (victim: CrashDisk): void => install(victim, PLACES.a, firstTree());
  assert.deepEqual(judged(command, decrypted, right), []);
  const wrong = (victim: CrashDisk): void => {
    right(victim);
    forgeTable(victim, TABLE);
  };
  assert.deepEqual(judged(command, decrypted, wrong), ["forged", "lost"]);
});

test("an error that nobody expects is one that must never be", () => {
  assert.deepEqual(
    judgedAsItLies(VERIFY, { kind: "broken", error: new RangeError("out of range") }, () => {}),
    ["broken"],
  );
});
