/**
 * What docs/FORMAT.md says that a reader of WAL segments must reject, one by one, where everything else was made anew
 * by someone who has the keys: MACs, checksums and the CRCs of records hold, and where it says so tags do, too.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { secretKey } from "../../src/crypto/primitives.ts";
import { walIdentity } from "../../src/datadir/wal-segment.ts";
import { derivePageKey, deriveSidecarMacKey } from "../../src/format/file-keys.ts";
import type { Problem } from "../../src/format/problem.ts";
import type { SidecarHead } from "../../src/format/sidecar-page.ts";
import { openSegment } from "../../src/format/wal/open-segment.ts";
import { parseWalFileName } from "../../src/wal/wal-file-name.ts";
import { KEYRING_ID, testDek } from "../support/keys.ts";
import {
  assembleSidecar,
  type BookFile,
  type BookIdentity,
  type SidecarChange,
} from "../support/sealed-by-the-book.ts";
import { type BookSegment, type BookStored, storeRun } from "../support/wal-by-the-book.ts";
import {
  commitWithMessages,
  filler,
  message,
  PAGE,
  SEGMENT,
  WalWriter,
  WRITTEN_SYSTEM,
} from "../support/written-wal.ts";

const BLOCKS = SEGMENT / PAGE;
const MAJOR = 17;
const SLOTS_PER_PAGE = 63;

function fileOf(number: number): BookFile {
  const identity: BookIdentity = {
    systemIdentifier: String(WRITTEN_SYSTEM),
    tablespace: 1,
    database: 0,
    relfilenumber: String(number),
    fork: "wal",
    segment: SEGMENT,
    firstBlock: 0,
    backend: 0xffffffff,
  };
  return {
    blockSize: PAGE,
    dataChecksums: false,
    keyringId: KEYRING_ID,
    identity,
    fileSalt: Buffer.alloc(16, number),
    macKeyId: 1,
    deks: new Map([[1, testDek(1)]]),
  };
}

interface Stored extends BookStored {
  readonly name: string;
  readonly original: Buffer;
  readonly file: BookFile;
}

/** @param write - from the beginning of segment 5 on. */
function stored(write: (writer: WalWriter) => void): Stored[] {
  const writer = new WalWriter(MAJOR);
  write(writer);
  const run = writer.segments.map((original, i): BookSegment => {
    const file = fileOf(writer.firstSegment + i);
    return { original, file, nonceEnd: Buffer.alloc(8, 0x40 + i) };
  });
  return storeRun(run, MAJOR).map((one, i) => {
    const { original, file } = run[i] ?? assert.fail();
    return { ...one, name: writer.name(i), original, file };
  });
}

/** A record goes from the first into the second segment, with 16 bytes of its header in the first. */
const [first, second] = stored((writer) => {
  writer.append(message("first", Buffer.from("in the first")));
  writer.append(commitWithMessages(40));
  writer.fillTo(16);
  writer.append(commitWithMessages(41));
  writer.append(filler(9000));
  writer.leave(writer.position + 100, Buffer.alloc(100, "left over"));
});
assert.ok(first !== undefined && second !== undefined);

function problemsOf(
  { name, file }: Stored,
  segment: Buffer,
  sidecar: Buffer,
  maxEpoch = 0n,
): { readonly kinds: string[]; readonly messages: string; readonly bytes: Buffer } {
  const place = parseWalFileName(name, SEGMENT) ?? assert.fail();
  const identity = walIdentity(WRITTEN_SYSTEM, place, SEGMENT);
  const { fileSalt } = file;
  const head: SidecarHead = { identity, keyringId: KEYRING_ID, fileSalt };
  const keys = {
    pageKey: (keyId: number) => derivePageKey(testDek(keyId), fileSalt, keyId, identity),
    macKey: (keyId: number) => deriveSidecarMacKey(testDek(keyId), fileSalt, identity),
  };
  const problems: Problem[] = [];
  const report = (problem: Problem): void => void problems.push(problem);
  const bytes = Buffer.from(segment);
  openSegment(bytes, sidecar, { head, keys, maxEpoch, path: "segment", report }, "decrypt");
  return {
    kinds: problems.map(({ kind, block }) => (block === undefined ? kind : `${kind} ${block}`)),
    messages: problems.map(({ message: text }) => text).join("; "),
    bytes,
  };
}

function slotsOf(one: Stored): Buffer[] {
  return [...one.slots.map(({ slot }) => slot), ...one.carrySlots].map((slot) => Buffer.from(slot));
}

function sidecarWith(one: Stored, slots: readonly Buffer[], change: SidecarChange = {}): Buffer {
  return assembleSidecar(one.file, slots, change);
}

test("what the book stores opens without a problem, and comes back", () => {
  for (const one of [first, second]) {
    const { kinds, bytes } = problemsOf(one, one.stored, sidecarWith(one, slotsOf(one)));
    assert.deepEqual(kinds, []);
    assert.ok(bytes.equals(one.original));
  }
});

interface SlotForgery {
  readonly what: string;
  readonly block: number;
  /** Offset in the slot, and bytes to be put there; none: a number 3 below zerosFrom. */
  readonly at: number;
  readonly bytes: readonly number[];
  readonly says: RegExp;
}

/** In the second segment: block 0 has a sealed CRC, records end in block 1, before something left over; block 3 is zero. */
const SLOT_FORGERIES: readonly SlotForgery[] = [
  { what: "the kind of a page", block: 0, at: 0, bytes: [1], says: /kind 1/ },
  { what: "the kind of a carry slot", block: 0, at: 0, bytes: [6], says: /kind 6/ },
  { what: "an unknown kind", block: 0, at: 0, bytes: [7], says: /kind 7/ },
  { what: "suite 0", block: 0, at: 1, bytes: [0], says: /suite 0/ },
  { what: "an unknown suite", block: 0, at: 1, bytes: [2], says: /suite 2/ },
  { what: "an unknown flag", block: 0, at: 2, bytes: [5], says: /flags 0x5/ },
  { what: "a high unknown flag", block: 0, at: 3, bytes: [128], says: /flags 0x8001/ },
  { what: "key id 0", block: 0, at: 4, bytes: [0, 0, 0, 0], says: /key id 0/ },
  { what: "an epoch above 0", block: 0, at: 8, bytes: [1], says: /epoch 1/ },
  { what: "another length", block: 0, at: 16, bytes: [0, 16], says: /length/ },
  { what: "an end before the start", block: 0, at: 24, bytes: [8, 0], says: /bounds/ },
  { what: "zeros from before the end", block: 1, at: 28, bytes: [41, 0], says: /bounds/ },
  { what: "zeros from behind the block", block: 0, at: 28, bytes: [1, 32], says: /bounds/ },
  { what: "no room for sealed bytes", block: 1, at: 24, bytes: [], says: /bounds/ },
  { what: "a start in a zero block", block: 3, at: 20, bytes: [1], says: /bounds/ },
  { what: "an end in a zero block", block: 3, at: 24, bytes: [1], says: /bounds/ },
  { what: "content in a zero block", block: 3, at: 28, bytes: [1], says: /zero block/ },
  { what: "a flag on a zero block", block: 3, at: 2, bytes: [1], says: /zero block/ },
  { what: "a longer nonce", block: 0, at: 44, bytes: [1], says: /reserved/ },
  { what: "sealed bytes of nothing", block: 3, at: 104, bytes: [1], says: /reserved/ },
  { what: "sealed bytes in a full block", block: 0, at: 104, bytes: [1], says: /reserved/ },
  { what: "a sealed CRC of nothing", block: 1, at: 108, bytes: [1], says: /reserved/ },
  { what: "reserved bytes", block: 0, at: 112, bytes: [1], says: /reserved/ },
  { what: "a last reserved byte", block: 0, at: 127, bytes: [1], says: /reserved/ },
];

for (const { what, block, at, bytes, says } of SLOT_FORGERIES) {
  test(`a slot of WAL with ${what} is refused before its tag is looked at`, () => {
    const slots = slotsOf(second);
    const slot = slots[block] ?? assert.fail();
    if (bytes.length > 0) Buffer.from(bytes).copy(slot, at);
    else slot.writeUInt32LE(slot.readUInt32LE(28) - 3, at);
    const { kinds, messages } = problemsOf(second, second.stored, sidecarWith(second, slots));
    assert.deepEqual(kinds, [`slot ${block}`], messages);
    assert.match(messages, says);
  });
}

interface CarryForgery {
  readonly what: string;
  /** Gets the carry slots of the second segment, all of side 0, and gives others. */
  readonly change: (carry: readonly Buffer[]) => readonly Buffer[];
  readonly says: RegExp;
}

function edited(slot: Buffer | undefined, at: number, ...bytes: readonly number[]): Buffer {
  const copy = Buffer.from(slot ?? assert.fail());
  Buffer.from(bytes).copy(copy, at);
  return copy;
}

/** With as many rising boundaries. */
function carrySlot(side: number, count: number, from: number): Buffer {
  const slot = Buffer.alloc(128);
  slot[0] = 6;
  slot.writeUInt16LE(count, 2);
  slot.writeUInt32LE(side, 4);
  for (let i = 0; i < count; i++) slot.writeUInt32LE(from + 8 * i, 8 + 4 * i);
  return slot;
}

const FORM = /carry slot of wrong form/;
const CARRY_FORGERIES: readonly CarryForgery[] = [
  {
    what: "another kind",
    change: ([a, ...rest]) => [edited(a, 0, 5), ...rest],
    says: /a slot for a block too many/,
  },
  { what: "4 bytes before", change: ([a, ...rest]) => [edited(a, 1, 4), ...rest], says: FORM },
  { what: "24 bytes before", change: ([a, ...rest]) => [edited(a, 1, 24), ...rest], says: FORM },
  {
    what: "other bytes before in the second slot",
    change: ([a, b, ...rest]) => [a ?? assert.fail(), edited(b, 1, 8), ...rest],
    says: FORM,
  },
  { what: "no boundary", change: () => [carrySlot(0, 0, 8)], says: FORM },
  { what: "31 boundaries", change: () => [edited(carrySlot(0, 30, 8), 2, 31)], says: FORM },
  {
    what: "room for more boundaries before another one",
    change: () => [carrySlot(0, 29, 8), carrySlot(0, 2, 400)],
    says: FORM,
  },
  { what: "side 2", change: ([a]) => [edited(a, 4, 2)], says: FORM },
  {
    what: "side 0 behind side 1",
    change: (carry) => [carrySlot(1, 2, 8), ...carry],
    says: FORM,
  },
  {
    what: "bytes before on side 1",
    change: (carry) => [...carry, edited(carrySlot(1, 2, 8), 1, 8)],
    says: FORM,
  },
  {
    what: "something behind its boundaries",
    change: (carry) => [...carry.slice(0, -1), edited(carry.at(-1), 127, 1)],
    says: FORM,
  },
  {
    what: "boundaries that do not rise",
    change: ([a, ...rest]) => [edited(a, 12, ...(a ?? assert.fail()).subarray(8, 12)), ...rest],
    says: /do not rise/,
  },
  {
    what: "boundaries that do not rise from slot to slot",
    change: ([a, b, ...rest]) => [a ?? assert.fail(), edited(b, 8, 1, 0), ...rest],
    says: /do not rise/,
  },
  {
    what: "an unused slot before it",
    change: (carry) => [Buffer.alloc(128), ...carry],
    says: /behind an unused one/,
  },
];

for (const { what, change, says } of CARRY_FORGERIES) {
  test(`a carry slot with ${what} is refused`, () => {
    assert.ok(second.carrySlots.length > 2);
    const slots = [...slotsOf(second).slice(0, BLOCKS), ...change(second.carrySlots)];
    const { kinds, messages } = problemsOf(second, second.stored, sidecarWith(second, slots));
    assert.deepEqual(kinds, ["sidecar"], messages);
    assert.match(messages, says);
  });
}

test("a sidecar with a page that has no slot, with too few slots, or of no whole pages is refused", () => {
  const slots = slotsOf(second);
  const padded = [...slots, ...Array.from({ length: SLOTS_PER_PAGE }, () => Buffer.alloc(128))];
  const few = slots.slice(0, BLOCKS - 2);
  for (const [sidecar, says] of [
    [sidecarWith(second, padded), /a page without slots/],
    [sidecarWith(second, few), /slots for 128 blocks/],
    [sidecarWith(second, slots).subarray(1), /a sidecar of \d+ bytes/],
    [Buffer.alloc(0), /a sidecar of 0 bytes/],
  ] as const) {
    const { kinds, messages } = problemsOf(second, second.stored, sidecar);
    assert.ok(kinds.length > 0);
    assert.match(messages, says);
  }
});

test("carry slots without a record, and a record without carry slots, are refused", () => {
  const lone = (one: Stored, carry: readonly Buffer[]): string => {
    const slots = [...slotsOf(one).slice(0, BLOCKS), ...carry];
    const { kinds, messages } = problemsOf(one, one.stored, sidecarWith(one, slots));
    assert.ok(kinds.length > 0);
    return messages;
  };
  const changed = /^the block was changed: /;
  assert.match(lone(first, []), /^the block was changed: a record goes on behind the segment/);
  assert.match(lone(second, []), changed);
  assert.match(
    lone(second, [...second.carrySlots, carrySlot(1, 1, 8)]),
    /^the block was changed: no record goes on behind the segment/,
  );
  assert.match(lone(first, [carrySlot(0, 1, 64), ...first.carrySlots]), changed);
});

test("a flag for a sealed CRC that no record gives, and one that is missing, are refused", () => {
  const flagged = (one: Stored, block: number, flags: number): string[] => {
    const slots = slotsOf(one);
    slots[block]?.writeUInt16LE(flags, 2);
    if (flags === 0) slots[block]?.fill(0, 108, 112);
    return problemsOf(one, one.stored, sidecarWith(one, slots)).kinds;
  };
  assert.deepEqual(flagged(second, 0, 0), ["slot 0"]);
  assert.deepEqual(flagged(second, 1, 1), ["slot 1"]);
  assert.deepEqual(flagged(second, BLOCKS - 1, 1), [`slot ${BLOCKS - 1}`]);
});

test("bytes that must be zero are looked at before the tag, and a first page without the guard is named", () => {
  const changed = (one: Stored, at: number, value: number): string[] => {
    const segment = Buffer.from(one.stored);
    segment[at] = value;
    return problemsOf(one, segment, one.sidecar).kinds;
  };
  const slot = second.slots[1]?.slot ?? assert.fail();
  const [end, zerosFrom] = [slot.readUInt32LE(24), slot.readUInt32LE(28)];
  assert.ok(end + 4 < zerosFrom && zerosFrom < PAGE);
  assert.deepEqual(changed(second, PAGE + end, 1), ["mark 1"]);
  assert.deepEqual(changed(second, PAGE + end + 3, 1), ["mark 1"]);
  assert.deepEqual(changed(second, PAGE + zerosFrom, 1), ["mark 1"]);
  assert.deepEqual(changed(second, 2 * PAGE - 1, 1), ["mark 1"]);
  assert.deepEqual(changed(second, 3 * PAGE, 1), ["mark 3"]);
  assert.deepEqual(changed(second, 24, (second.stored[24] ?? 0) ^ 1), ["mark 0", "tag 0"]);
  const unguarded = Buffer.from(second.stored);
  unguarded.fill(0, 20, 24);
  second.original.copy(unguarded, 24, 24, 32);
  assert.deepEqual(problemsOf(second, unguarded, second.sidecar).kinds, ["mark 0", "tag 0"]);
});

test("the stored CRC of a record that is whole in its segment is checked, although all tags hold", () => {
  const crcAt = 40 + 20;
  const segment = Buffer.from(first.stored);
  segment[crcAt] = (segment[crcAt] ?? 0) ^ 1;
  const { kinds, bytes } = problemsOf(first, segment, first.sidecar);
  assert.deepEqual(kinds, ["checksum 0"]);
  assert.ok(bytes.equals(segment), "nothing is decrypted");
});

test("a length that the segment cannot hold is no reason to take memory for it", () => {
  for (const total of [0xffffffff, 0x7ffffff8, 23, 0]) {
    const segment = Buffer.from(first.stored);
    segment.writeUInt32LE(total, 40);
    const { kinds } = problemsOf(first, segment, first.sidecar);
    assert.ok(kinds.length > 0);
  }
});

test("a sidecar page of another segment, cluster or fork is refused, though its MAC holds", () => {
  const { identity } = second.file;
  for (const other of [
    { relfilenumber: "7" },
    { tablespace: 2 },
    { segment: 2 * SEGMENT },
    { systemIdentifier: "7391234567890123457" },
    { fork: "main" as const },
  ]) {
    const file: BookFile = { ...second.file, identity: { ...identity, ...other } };
    const { messages } = problemsOf(
      second,
      second.stored,
      assembleSidecar(file, slotsOf(second), {}),
    );
    assert.match(messages, /belongs to another segment/);
  }
});

test("another key of the same id is a key error, and no block is decrypted under it", () => {
  const place = parseWalFileName(second.name, SEGMENT) ?? assert.fail();
  const identity = walIdentity(WRITTEN_SYSTEM, place, SEGMENT);
  const { fileSalt } = second.file;
  const dek = secretKey(Buffer.alloc(32, 0x77));
  const problems: Problem[] = [];
  const bytes = Buffer.from(second.stored);
  const keys = {
    pageKey: (keyId: number) => derivePageKey(dek, fileSalt, keyId, identity),
    macKey: () => deriveSidecarMacKey(dek, fileSalt, identity),
  };
  const head: SidecarHead = { identity, keyringId: KEYRING_ID, fileSalt };
  const report = (problem: Problem): void => void problems.push(problem);
  const context = { head, keys, maxEpoch: 0n, path: "segment", report };
  openSegment(bytes, second.sidecar, context, "decrypt");
  assert.deepEqual([...new Set(problems.map(({ kind }) => kind))], ["key"]);
  assert.ok(bytes.equals(second.stored));
});
