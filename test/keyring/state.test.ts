import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, StateError, TdeError } from "../../src/errors.ts";
import {
  closeRun,
  directoriesUsing,
  type DirectoryMemory,
  endRun,
  forgetDirectory,
  highestOpenEpoch,
  judgeEpoch,
  loadState,
  type OpenRun,
  registerRun,
  releaseDirectory,
  rememberDirectory,
  type StateContent,
  requireNotRolledBack,
  type StatePlace,
  updateState,
  whyIncomplete,
} from "../../src/keyring/state.ts";
import { formatTime } from "../../src/keyring/keyring-file.ts";
import type { KeyLoads } from "../../src/keyring/key-load.ts";
import {
  OTHER_PLACES,
  parseStateFile,
  serializeStateFile,
  STATE_VERSION,
} from "../../src/keyring/state-file.ts";
import { JOURNAL_OPERATION, type JournalOperation } from "../../src/storage/journal.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";

const fs = new NodeFileSystem();
const OPERATIONS = Object.keys(JOURNAL_OPERATION) as JournalOperation[];
const ID = "ab".repeat(16);
const ROOT = "cd".repeat(32);

const memory: DirectoryMemory = {
  id: ID,
  epoch: 6n,
  root: ROOT,
  time: "2026-11-12T08:00:00Z",
  path: "/srv/pg \xff" as BytePath,
  others: [],
  load: new Map([
    [1, { pages: 100, bytes: 819200 }],
    [2, { pages: 0, bytes: 0 }],
  ]),
};

const NO_CONTENT: StateContent = {
  keyringId: "7f3a000000000001",
  highestGeneration: 1,
  since: undefined,
  directories: new Map(),
  runs: new Map(),
  keyLoad: new Map(),
  keyLimitPages: undefined,
};

function placeIn(t: TestContext): StatePlace {
  return { fs, path: bytePath(join(temporaryDirectory(t), "k.state")), command: "tde test" };
}

const hex = (bytes: number): fc.Arbitrary<string> =>
  fc
    .uint8Array({ minLength: bytes, maxLength: bytes })
    .map((array) => Buffer.from(array).toString("hex"));
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const counts = fc
  .array(
    fc.tuple(
      fc.integer({ min: 1, max: 0xffffffff }),
      fc.record({ pages: count, bytes: count }, { noNullPrototype: true }),
    ),
    { maxLength: 4 },
  )
  .map((pairs) => new Map([...pairs].sort(([a], [b]) => a - b)));
const somePath = fc
  .uint8Array({ maxLength: 30 })
  .map((bytes) => Buffer.from(bytes).toString("latin1") as BytePath);
const directory: fc.Arbitrary<DirectoryMemory> = fc
  .tuple(hex(16), count, hex(32), fc.array(somePath, { maxLength: OTHER_PLACES + 1 }), counts)
  .map(([id, epoch, root, [path = "" as BytePath, ...others], load]) => ({
    id,
    epoch: BigInt(epoch),
    root,
    time: formatTime(new Date(epoch % 4e12)),
    path,
    others,
    load,
  }));
const run: fc.Arbitrary<OpenRun> = fc
  .tuple(hex(16), hex(16), count, fc.boolean(), fc.constantFrom(...OPERATIONS))
  .map(([runId, directoryId, epoch, ended, operation]) => ({
    runId,
    directoryId,
    operation,
    epoch: BigInt(epoch),
    time: formatTime(new Date(epoch % 4e12)),
    place: "/srv/pg \xff" as BytePath,
    ended,
  }));

test("what is written reads back the same", () => {
  const file = fc.tuple(
    fc.integer({ min: 1, max: 0xffffffff }),
    hex(8),
    count,
    fc.array(directory, { maxLength: 4 }),
    fc.array(run, { maxLength: 3 }),
    fc.option(fc.constant("2026-11-12T08:00:00Z"), { nil: undefined }),
    counts,
    fc.option(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), { nil: undefined }),
    hex(32),
  );
  assertProperty(
    fc.property(
      file,
      ([keyId, keyringId, highestGeneration, list, open, since, keyLoad, keyLimitPages, mac]) => {
        const sorted = [...list].sort((a, b) => (a.id < b.id ? -1 : 1));
        const directories = new Map(sorted.map((one) => [one.id, one]));
        const runs = new Map(
          [...open].sort((a, b) => (a.runId < b.runId ? -1 : 1)).map((one) => [one.runId, one]),
        );
        const content = {
          keyringId,
          highestGeneration,
          since,
          directories,
          runs,
          keyLoad,
          keyLimitPages,
        };
        const state = { version: STATE_VERSION, keyId, content, mac: Buffer.from(mac, "hex") };
        const bytes = serializeStateFile(state);
        assert.deepEqual(parseStateFile(bytes), state);
      },
    ),
  );
});

test("what was remembered is there in the next run, under another current key too", (t) => {
  const place = placeIn(t);
  updateState(place, testKeys(2), 3, (content) => ({
    ...rememberDirectory(content, memory),
    keyLimitPages: 500,
  }));
  const state = loadState(fs, place.path, testKeys(3));
  assert.equal(state.status, "verified");
  assert.deepEqual(state.directories.get(ID), memory);
  assert.equal(state.keyLimitPages, 500);
  assert.equal(state.highestGeneration, 3);
  updateState(place, testKeys(3), 2, (content) => content);
  assert.match(readFileSync(place.path, "utf8"), /^tde-state 2\nkey 3\n/);
  assert.equal(loadState(fs, place.path, testKeys(3)).highestGeneration, 3);
});

test("what was written under a key adds up, and what is told twice counts once", () => {
  const pages = (count: number): KeyLoads => new Map([[1, { pages: count, bytes: 10 * count }]]);
  const first = rememberDirectory(NO_CONTENT, { ...memory, epoch: 1n, load: pages(100) });
  assert.deepEqual(first.keyLoad, pages(100));
  // Written anew under the same key: as many pages are there as before.
  const rotated = { ...memory, epoch: 2n, load: pages(100) };
  const second = rememberDirectory(first, rotated, pages(60));
  assert.deepEqual(second.keyLoad, pages(160));
  assert.deepEqual(rememberDirectory(second, rotated, pages(60)).keyLoad, pages(160));
  // Nobody counted: what is there now and was not.
  const third = rememberDirectory(second, { ...memory, epoch: 3n, load: pages(130) });
  assert.deepEqual(third.keyLoad, pages(190));
  // What a key protects no more was written all the same.
  const released = releaseDirectory(third, memory.id, memory.path);
  assert.deepEqual(released.keyLoad, pages(190));
  assert.deepEqual(directoriesUsing(released, 1), []);
  // A copy was decrypted: the directory itself is as it was.
  const tried = releaseDirectory(third, memory.id, "/scratch" as BytePath);
  assert.equal(directoriesUsing(tried, 1).length, 1);
});

test("of a directory that is written to in other places those of before stay known, the newest first", () => {
  const at = (path: string, epoch: bigint): DirectoryMemory => ({
    ...memory,
    epoch,
    path: path as BytePath,
  });
  let content = NO_CONTENT;
  for (const [i, path] of ["/a", "/b", "/a", "/c"].entries())
    content = rememberDirectory(content, at(path, BigInt(i + 1)));
  assert.deepEqual(content.directories.get(memory.id)?.others, ["/a", "/b"]);
  for (let i = 0; i < 2 * OTHER_PLACES; i++)
    content = rememberDirectory(content, at(`/${i}`, BigInt(i + 10)));
  assert.equal(content.directories.get(memory.id)?.others.length, OTHER_PLACES);
});

test("without a file there is an empty state and no warning", (t) => {
  const { status, warning, directories } = loadState(fs, placeIn(t).path, testKeys());
  assert.deepEqual([status, warning, directories.size], ["absent", undefined, 0]);
});

test("every flipped bit and truncation leaves the state unused, with a warning", (t) => {
  const place = placeIn(t);
  updateState(place, testKeys(2), 3, (content) => rememberDirectory(content, memory));
  const whole = readFileSync(place.path);
  const check = (bytes: Buffer, what: string): void => {
    writeFileSync(place.path, bytes);
    const state = loadState(fs, place.path, testKeys(2));
    assert.notEqual(state.status, "verified", what);
    assert.equal(state.directories.size, 0);
    assert.ok(state.warning);
  };
  for (let length = 0; length < whole.length; length++)
    check(whole.subarray(0, length), `${length}`);
  // A prime step meets every bit of a byte, and every second or third byte.
  for (let bit = 0; bit < whole.length * 8; bit += 19) {
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    check(damaged, `bit ${bit}`);
    const sumStart = whole.length - 69;
    if (bit >= sumStart * 8) continue;
    damaged.write(sha256(damaged.subarray(0, sumStart)).toString("hex"), sumStart + 4);
    check(damaged, `bit ${bit} with a new sum`);
  }
});

test("nonsense between the heading and the sum is a FormatError", () => {
  assertProperty(
    fc.property(fc.string({ unit: "binary-ascii" }), fc.json(), (text, json) => {
      for (const line of [text, json, `{"directory":${json}}`, `{"keyring":${json}}`]) {
        const body = Buffer.from(`tde-state 1\nkey 1\n${line}\nmac ${"00".repeat(32)}\n`);
        const bytes = Buffer.concat([body, Buffer.from(`sum ${sha256(body).toString("hex")}\n`)]);
        assert.throws(
          () => parseStateFile(bytes),
          (error) => error instanceof TdeError,
        );
      }
    }),
  );
});

test("another keyring's state, and one under a retired or destroyed key, is not used", (t) => {
  const place = placeIn(t);
  updateState(place, testKeys(1), 1, (content) => rememberDirectory(content, memory));
  const others = [
    testKeys(1, { keyringId: "00000000000000ff" }),
    testKeys(1, { fill: 9 }),
    testKeys(2, {}, { 1: "retired" }),
    testKeys(2, {}, { 1: "destroyed" }),
  ];
  for (const keys of others) {
    const state = loadState(fs, place.path, keys);
    assert.equal(state.status, "unusable");
    assert.equal(state.directories.size, 0);
  }
});

test("a damaged file stays as it is unless it may be put aside; one of a newer keyring stays in any case", (t) => {
  const place = placeIn(t);
  const same = (content: StateContent): StateContent => content;
  writeFileSync(place.path, "garbage");
  assert.throws(() => updateState(place, testKeys(1), 1, same), IntegrityError);
  assert.equal(readFileSync(place.path, "utf8"), "garbage");
  const begun = updateState({ ...place, replaceUnusable: true }, testKeys(1), 1, same);
  assert.equal(readFileSync(`${place.path}.damaged`, "utf8"), "garbage");
  assert.match(whyIncomplete(begun, 1, "the keyring") ?? "", /was begun on/);
  const changed = { ...place, keyring: "changed" } as const;
  updateState(changed, testKeys(2), 2, (content) => rememberDirectory(content, memory));
  const before = readFileSync(place.path);
  const old = { ...place, replaceUnusable: true };
  assert.throws(() => updateState(old, testKeys(1), 1, same), StateError);
  assert.deepEqual(readFileSync(place.path), before);
});

test("a state knows all there is only if it was begun with the keyring and missed no change of it", (t) => {
  const same = (content: StateContent): StateContent => content;
  const why = (place: StatePlace, generation: number): string | undefined =>
    whyIncomplete(loadState(fs, place.path, testKeys(1)), generation, "the keyring");
  const whole = placeIn(t);
  assert.match(why(whole, 1) ?? "", /there is no state file/);
  updateState({ ...whole, keyring: "created" }, testKeys(1), 1, same);
  updateState(whole, testKeys(1), 1, (content) => rememberDirectory(content, memory));
  updateState({ ...whole, keyring: "changed" }, testKeys(1), 2, same);
  assert.equal(why(whole, 2), undefined);
  // An older one that is brought back stays suspect, whatever is written to it then.
  assert.match(why(whole, 3) ?? "", /is older than/);
  updateState(whole, testKeys(1), 3, same);
  assert.match(why(whole, 3) ?? "", /was begun on/);
  const late = placeIn(t);
  updateState(late, testKeys(1), 1, same);
  assert.match(why(late, 1) ?? "", /was begun on/);
});

test("what is remembered only grows", () => {
  const seen = rememberDirectory(NO_CONTENT, memory);
  for (const other of [
    { ...memory, epoch: 5n },
    { ...memory, root: "ef".repeat(32) },
    { ...memory, epoch: 1n, root: "ef".repeat(32) },
  ])
    assert.deepEqual(rememberDirectory(seen, other, new Map()).directories.get(ID), memory);
  const newer = { ...memory, epoch: 7n, root: "ef".repeat(32) };
  assert.deepEqual(rememberDirectory(seen, newer, new Map()).directories.get(ID), newer);
});

test("a run is known from its beginning to its end, and one place has one", () => {
  const run = {
    runId: "01".repeat(16),
    directoryId: ID,
    operation: "rotate",
    epoch: 7n,
    time: "2026-11-12T08:00:00Z",
    place: "/srv/pg" as BytePath,
    ended: false,
  } as const;
  const open = registerRun(NO_CONTENT, run);
  assert.deepEqual([...open.runs.values()], [run]);
  assert.equal(highestOpenEpoch(open, ID), 7n);
  assert.deepEqual([...endRun(open, run.runId).runs.values()], [{ ...run, ended: true }]);
  assert.equal(closeRun(open, run.runId).runs.size, 0);
  const next = { ...run, runId: "02".repeat(16), epoch: 8n };
  assert.deepEqual([...registerRun(open, next).runs.keys()], [next.runId]);
  const elsewhere = { ...next, place: "/srv/copy" as BytePath };
  assert.equal(registerRun(open, elsewhere).runs.size, 2);
  assert.equal(forgetDirectory(open, ID).runs.size, 0);
});

test("an epoch is judged against the newest one seen", (t) => {
  const state = updateState(placeIn(t), testKeys(), 1, (content) =>
    rememberDirectory(content, memory),
  );
  const other = "ef".repeat(32);
  const verdicts = [
    judgeEpoch(state, "00".repeat(16), 1n, ROOT),
    judgeEpoch(state, ID, 7n, other),
    judgeEpoch(state, ID, 6n, ROOT),
    judgeEpoch(state, ID, 5n, ROOT),
    judgeEpoch(state, ID, 6n, other),
  ];
  assert.deepEqual(
    verdicts.map(({ verdict }) => verdict),
    ["unknown", "newer", "same", "older", "forked"],
  );
  for (const [i, judgement] of verdicts.entries()) {
    const judge = (): void => requireNotRolledBack(judgement, "data directory");
    if (i < 3) judge();
    else assert.throws(judge, IntegrityError);
  }
  const older = judgeEpoch(state, ID, 5n, ROOT);
  assert.throws(
    () => requireNotRolledBack(older, "data directory"),
    /at epoch 5, older than epoch 6 of 2026-11-12T08:00:00Z/,
  );
});

test("a key that only authenticates a sidecar counts as used", (t) => {
  const state = updateState(placeIn(t), testKeys(), 1, (content) =>
    rememberDirectory(content, memory),
  );
  assert.deepEqual(
    [1, 2, 3].map((keyId) => directoriesUsing(state, keyId).length),
    [1, 1, 0],
  );
});

test("an epoch that JSON cannot hold is refused", (t) => {
  const change = { ...memory, epoch: 2n ** 53n };
  const place = placeIn(t);
  assert.throws(
    () => updateState(place, testKeys(), 1, (content) => rememberDirectory(content, change)),
    FormatError,
  );
  assert.ok(!existsSync(`${place.path}.lock`));
});

test("an update stopped anywhere leaves the old state or the new one", (t) => {
  const place = placeIn(t);
  updateState(place, testKeys(), 1, (content) => content);
  const before = readFileSync(place.path);
  for (let stopAt = 1, done = false; !done; stopAt++) {
    writeFileSync(place.path, before);
    // Taking over what the stop before left has its own tests.
    rmSync(`${place.path}.lock`, { force: true });
    try {
      const stopping = { ...place, fs: new StoppingFileSystem(stopAt) };
      updateState(stopping, testKeys(), 2, (content) => content);
      done = true;
    } catch (error) {
      assert.ok(error instanceof Stopped);
    }
    const { status, highestGeneration } = loadState(fs, place.path, testKeys());
    assert.equal(status, "verified");
    assert.ok(highestGeneration === 2 || (!done && highestGeneration === 1));
  }
});
