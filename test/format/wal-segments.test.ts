/**
 * WAL segments in readable mode, in memory: what real servers wrote and what they never had the occasion to write is
 * encrypted and comes back bit for bit, each segment alone; nothing that is changed on the way is taken for genuine.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { randomBytes } from "../../src/crypto/primitives.ts";
import { walIdentity } from "../../src/datadir/wal-segment.ts";
import { derivePageKey, deriveSidecarMacKey } from "../../src/format/file-keys.ts";
import type { Problem } from "../../src/format/problem.ts";
import type { SidecarHead } from "../../src/format/sidecar-page.ts";
import { openSegment, type WalDepth } from "../../src/format/wal/open-segment.ts";
import { bytesOf, mapPlainSegment, NO_NEIGHBOURS } from "../../src/format/wal/plain-map.ts";
import { closeCrc } from "../../src/format/wal/record-checksum.ts";
import { sealSegment, walSlotAt } from "../../src/format/wal/seal-segment.ts";
import { MapMemory, type SegmentMap } from "../../src/format/wal/segment-map.ts";
import { hasSealedEnd, readWalSlotFields } from "../../src/format/wal/wal-slot.ts";
import { Outcome } from "../../src/wal/read-outcome.ts";
import { WalReader } from "../../src/wal/reader.ts";
import { RecordText } from "../../src/wal/record-text.ts";
import { TextBuffer } from "../../src/wal/text-buffer.ts";
import { parseWalFileName } from "../../src/wal/wal-file-name.ts";
import { walFormatOfMagic } from "../../src/wal/wal-format.ts";
import { KEYRING_ID, testDek } from "../support/keys.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { SMALL_SET_MAJORS, unpackSmallSet } from "../support/waldump-cases.ts";
import {
  commitWithMessages,
  filler,
  message,
  PAGE,
  SEGMENT,
  WalWriter,
  type WrittenRecord,
} from "../support/written-wal.ts";

interface Stored {
  readonly name: string;
  readonly original: Buffer;
  readonly segment: Buffer;
  readonly sidecar: Buffer;
  readonly head: SidecarHead;
  readonly map: SegmentMap;
}

const DEK = testDek(1);

/** Encrypts a run of segments, the last one first. */
function store(run: readonly { readonly name: string; readonly bytes: Buffer }[]): Stored[] {
  const stored: Stored[] = [];
  for (let i = run.length - 1; i >= 0; i--) {
    const { name, bytes } = run[i] ?? assert.fail();
    const place = parseWalFileName(name, bytes.length) ?? assert.fail();
    const systemIdentifier = bytes.readBigUInt64LE(24);
    const identity = walIdentity(systemIdentifier, place, bytes.length);
    const segment = Buffer.from(bytes);
    const at = (distance: number): ReturnType<typeof bytesOf> | undefined => {
      const neighbour = run[i + distance];
      return neighbour && bytesOf(neighbour.bytes);
    };
    const map = mapPlainSegment(segment, place, { at });
    const fileSalt = randomBytes(16);
    const head = { identity, keyringId: KEYRING_ID, fileSalt };
    const { sidecar, openCrc } = sealSegment(map, {
      head,
      keyId: 1,
      pageKey: derivePageKey(DEK, fileSalt, 1, identity),
      macKey: deriveSidecarMacKey(DEK, fileSalt, identity),
      epoch: 0n,
    });
    if (openCrc !== undefined) {
      const rest = continuationIn(stored.map(({ segment: next }) => next));
      segment.writeUInt32LE(closeCrc(openCrc, rest), openCrc.crcAt);
    }
    stored.unshift({ name, original: bytes, segment, sidecar, head, map });
  }
  return stored;
}

/** What the segments begin with of a record that began before them, page by page. */
function continuationIn(segments: readonly Buffer[]): Buffer[] {
  const parts: Buffer[] = [];
  let left = segments[0]?.readUInt32LE(16) ?? 0;
  for (const segment of segments) {
    for (let page = 0; page < segment.length && left > 0; page += PAGE) {
      const start = page + (page === 0 ? 40 : 24);
      const part = segment.subarray(start, Math.min(start + left, page + PAGE));
      parts.push(part);
      left -= part.length;
    }
  }
  return parts;
}

interface Opened {
  readonly bytes: Buffer;
  readonly problems: readonly Problem[];
}

function open({ segment, sidecar, head }: Stored, dek = DEK, depth: WalDepth = "decrypt"): Opened {
  const bytes = Buffer.from(segment);
  const problems: Problem[] = [];
  openSegment(
    bytes,
    sidecar,
    {
      head,
      keys: {
        pageKey: (keyId) => derivePageKey(dek, head.fileSalt, keyId, head.identity),
        macKey: () => deriveSidecarMacKey(dek, head.fileSalt, head.identity),
      },
      maxEpoch: 0n,
      path: "segment",
      report: (problem) => problems.push(problem),
    },
    depth,
  );
  return { bytes, problems };
}

function assertComesBack(stored: readonly Stored[]): void {
  for (const each of stored) {
    const { bytes, problems } = open(each);
    assert.deepEqual(problems, []);
    assert.ok(bytes.equals(each.original), each.name);
  }
}

/** The lines that a reader of the run prints, without the payload of messages. */
function linesOf(run: readonly Buffer[], name: string): string[] {
  const [first = Buffer.alloc(0)] = run;
  const format = walFormatOfMagic(first.readUInt16LE(0)) ?? assert.fail();
  const { high, low, timeline } = parseWalFileName(name, first.length) ?? assert.fail();
  const reader = new WalReader({
    format,
    segmentBytes: first.length,
    timeline,
    source: {
      segment: (atHigh, atLow) => {
        const index = ((atHigh - high) * 2 ** 32 + atLow - low) / first.length;
        const segment = run[index];
        return segment && bytesOf(segment);
      },
    },
  });
  const out = new TextBuffer(format.lsnLowDigits);
  if (reader.find(high, low) !== Outcome.record) return [];
  const text = new RecordText(format, true);
  while (reader.next() === Outcome.record) text.write(out, reader.record);
  return out.bytes
    .toString("latin1", 0, out.length)
    .replace(/( payload \(\d+ bytes\): ).*/g, "$1")
    .split("\n");
}

function assertReadsTheSame(stored: readonly Stored[]): void {
  const name = stored[0]?.name ?? "";
  const originals = linesOf(
    stored.map(({ original }) => original),
    name,
  );
  const lines = linesOf(
    stored.map(({ segment }) => segment),
    name,
  );
  // The first that differs; a comparison of thousands of lines takes minutes to print.
  const at = originals.findIndex((line, i) => line !== lines[i]);
  assert.equal(lines[at], originals[at]);
  assert.equal(lines.length, originals.length);
  assert.ok(originals.length > 2);
}

function written(records: readonly (WrittenRecord | ((writer: WalWriter) => void))[]): WalWriter {
  const writer = new WalWriter(17);
  for (const record of records) {
    if (typeof record === "function") record(writer);
    else writer.append(record);
  }
  return writer;
}

function runOf(writer: WalWriter): { name: string; bytes: Buffer }[] {
  return writer.segments.map((bytes, i) => ({ name: writer.name(i), bytes }));
}

for (const major of SMALL_SET_MAJORS) {
  test(`segments that ${major} wrote come back bit for bit, each from itself and its sidecar alone`, (t) => {
    const { folder } = unpackSmallSet(major, temporaryDirectory(t));
    for (const set of ["tl2", "contrecord"]) {
      const names = readdirSync(join(folder, set)).filter((name) =>
        /^0000000\d[0-9A-F]{16}$/.test(name),
      );
      const run = names
        .sort()
        .map((name) => ({ name, bytes: readFileSync(join(folder, set, name)) }));
      const timeline1 = run.filter(({ name }) => name.startsWith("00000001"));
      const stored = store(timeline1);
      assertComesBack(stored);
      assertReadsTheSame(stored);
      assertComesBack(store(run.filter((each) => !timeline1.includes(each))));
    }
  });
}

/** What crosses from the first into the second segment, by how much of it is in the first. */
const CROSSINGS: readonly (readonly [string, number, WrittenRecord])[] = [
  [
    "a message whose main data begins in the first",
    400,
    message("prefix", Buffer.alloc(900, "text")),
  ],
  [
    "a header of which only 8 bytes are in the first",
    8,
    message("prefix", Buffer.alloc(300, "text")),
  ],
  ["a header of which only 16 bytes are in the first", 16, commitWithMessages(3)],
  ["a header alone", 24, message("prefix", Buffer.alloc(300, "text"))],
  ["hundreds of boundaries on both sides", 4000, commitWithMessages(700)],
  [
    "an image, and main data that is in the second alone",
    200,
    { rmid: 13, info: 0x20, image: Buffer.alloc(PAGE, "image"), main: Buffer.from("0200", "hex") },
  ],
  [
    "data that only the main data behind it explains",
    100,
    { rmid: 13, info: 0x20, data: Buffer.alloc(300, "key"), main: Buffer.from("0200", "hex") },
  ],
];

for (const [what, left, record] of CROSSINGS) {
  test(`a record that crosses into the next segment: ${what}`, () => {
    const writer = written([
      message("first", Buffer.from("in the first")),
      (w) => w.fillTo(left),
      record,
      message("last", Buffer.from("in the second")),
    ]);
    const stored = store(runOf(writer));
    assert.equal(stored.length, 2);
    assert.ok(stored[0]?.map.trailing !== undefined && stored[1]?.map.leading !== undefined);
    assertComesBack(stored);
    assertReadsTheSame(stored);
  });
}

test("a record that goes through a whole segment is taken apart in all three", () => {
  for (const left of [8, 16, 300]) {
    const writer = written([
      filler(100),
      (w) => w.fillTo(left),
      message("long", Buffer.alloc(SEGMENT + 5000, "text of a long message ")),
      filler(200),
    ]);
    const stored = store(runOf(writer));
    assert.equal(stored.length, 3);
    assertComesBack(stored);
    assertReadsTheSame(stored);
  }
});

test("a record that begins in the first block and goes on in the next segment, after one that ends there", () => {
  const writer = written([
    filler(100),
    (w) => w.fillTo(16),
    message("one", Buffer.alloc(100, "text")),
    message("two", Buffer.alloc(SEGMENT, "text")),
    filler(100),
  ]);
  const stored = store(runOf(writer));
  assertComesBack(stored);
  assertReadsTheSame(stored);
});

test("the rest of a record whose beginning is not at hand is encrypted whole", () => {
  const secret = "the rest of a long message";
  const writer = written([
    filler(100),
    (w) => w.fillTo(500),
    message("prefix", Buffer.alloc(20_000, secret)),
    filler(100),
    message("prefix", Buffer.from("text")),
  ]);
  const [, second] = runOf(writer);
  const stored = store(second === undefined ? [] : [second]);
  assertComesBack(stored);
  assertReadsTheSame(stored);
  assert.ok(!stored[0]?.segment.includes(secret));
});

test("what recycling left behind the end of WAL is encrypted, and stock tools find the end", () => {
  const secret = "a row of an older life of this segment ";
  const writer = written([filler(300), message("prefix", Buffer.from("text"))]);
  const end = writer.position;
  writer.leave(end, Buffer.alloc(20_000, secret));
  const [stored] = store(runOf(writer));
  assert.ok(stored !== undefined);
  assertComesBack([stored]);
  assertReadsTheSame([stored]);
  assert.ok(!stored.segment.includes(secret.slice(0, 12)));
  assert.equal(stored.segment.readUInt32LE(end), 0);
});

test("the pages of an older life keep their headers and nothing else", () => {
  const older = written([filler(100), (w) => w.fillTo(0)]);
  const bytes = older.segments[0] ?? assert.fail();
  const [stored] = store([{ name: "000000010000000000000009", bytes }]);
  assert.ok(stored !== undefined);
  assertComesBack([stored]);
  assert.ok(!stored.segment.includes("secret"));
  for (let page = PAGE; page < SEGMENT; page += PAGE) {
    assert.ok(stored.segment.subarray(page, page + 24).equals(bytes.subarray(page, page + 24)));
  }
});

test("a record that was cut off by the end of the run keeps its header, and its content is encrypted", () => {
  const writer = written([
    filler(100),
    (w) => w.fillTo(600),
    message("prefix", Buffer.alloc(900, "text of it ")),
  ]);
  const [first] = runOf(writer);
  const [stored] = store(first === undefined ? [] : [first]);
  assert.ok(stored !== undefined);
  const at = SEGMENT - 600;
  assert.ok(stored.segment.subarray(at, at + 20).equals(stored.original.subarray(at, at + 20)));
  assert.ok(!stored.segment.includes("text of it"));
  assert.ok(!stored.segment.includes("prefix"));
  assertComesBack([stored]);
});

test("more records than a segment usually has come back, and memory that held them serves the next segment", () => {
  const records = Array.from({ length: 20_000 }, () => filler(40));
  const stored = store(runOf(written(records)));
  assert.ok(stored.some(({ map }) => map.wholeCount > SEGMENT / 64));
  assertComesBack(stored);
  const memory = new MapMemory();
  for (const { original, name, map } of stored) {
    const place = parseWalFileName(name, SEGMENT) ?? assert.fail();
    const again = mapPlainSegment(Buffer.from(original), place, NO_NEIGHBOURS, memory);
    const { wholeCount, secretCount } = again;
    // The record that begins in the segment before is not at hand.
    assert.ok(wholeCount > 0 && wholeCount <= map.wholeCount);
    const found = again.wholeRecords.subarray(0, wholeCount);
    const from = map.wholeRecords.indexOf(found[0] ?? -1);
    assert.deepEqual(found, map.wholeRecords.subarray(from, from + wholeCount));
    const secrets = again.secrets.subarray(0, secretCount);
    const first = map.secrets.indexOf(secrets[0] ?? -1);
    assert.deepEqual(secrets, map.secrets.subarray(first, first + secretCount));
  }
});

test("a block that holds nothing stays zero, and its end stays zero", () => {
  const [stored] = store(runOf(written([filler(100)])));
  assert.ok(stored !== undefined);
  assert.ok(stored.segment.subarray(PAGE).every((byte) => byte === 0));
  assert.ok(stored.segment.subarray(300, PAGE).every((byte) => byte === 0));
});

test("the system identifier of the first page is stored as its complement", () => {
  const [stored] = store(runOf(written([filler(100)])));
  assert.equal(
    stored?.segment.readBigUInt64LE(24),
    BigInt.asUintN(64, ~(stored?.original.readBigUInt64LE(24) ?? 0n)),
  );
});

/** A small run with everything in it. */
function rich(): Stored[] {
  const writer = written([
    message("first", Buffer.from("in the first")),
    commitWithMessages(40),
    { rmid: 10, data: Buffer.alloc(500, "row"), main: Buffer.from("010000", "hex") },
    (w) => w.fillTo(400),
    message("prefix", Buffer.alloc(900, "text")),
    filler(500),
  ]);
  writer.leave(SEGMENT + 6000, Buffer.alloc(100, "left over"));
  return store(runOf(writer));
}

test("every byte of a stored segment is authenticated, but zeros are no exception", () => {
  const [, stored] = rich();
  assert.ok(stored !== undefined);
  // The block that records end in, around their end, and one that is zero.
  const places = [...Array.from({ length: 120 }, (_, i) => 53 * i), 3 * PAGE, SEGMENT - 1];
  for (const at of places) {
    const segment = Buffer.from(stored.segment);
    segment[at] = (segment[at] ?? 0) ^ 0x10;
    const { problems } = open({ ...stored, segment });
    assert.ok(problems.length > 0, `byte ${at}`);
  }
});

/**
 * The places in each block of a stored segment where one kind of byte ends and another begins, by what its slot says:
 * page header, structure, the four bytes behind it, secrets, the zeros at the end. And the CRCs of its records.
 */
function placesIn({ sidecar, map }: Stored): Map<number, number[]> {
  const places = new Map<number, number[]>();
  const { wholeCrcs, wholeCount, leading, trailing } = map;
  const crcs = [...wholeCrcs.subarray(0, wholeCount), leading?.crcAt ?? -4];
  // That of a record which goes on counts bytes of the next segment: only the whole run tells (crossing-record.ts).
  const openCrc = trailing?.crcAt ?? -4;
  for (let block = 0; block < SEGMENT / PAGE; block++) {
    const base = block * PAGE;
    const { structureStart, structureEnd, zerosFrom } = readWalSlotFields(
      sidecar,
      walSlotAt(block),
    );
    if (zerosFrom === 0) continue;
    const bounds = [0, map.headerOf(block), structureStart, structureEnd, zerosFrom, PAGE];
    const own = new Set(bounds.flatMap((bound) => range(bound - 4, bound + 8)));
    for (const crcAt of crcs.filter((at) => at >= base && at < base + PAGE).slice(0, 3))
      for (const at of range(crcAt - base, crcAt - base + 4)) own.add(at);
    const isOpenCrc = (at: number): boolean => base + at >= openCrc && base + at < openCrc + 4;
    places.set(
      block,
      [...own].filter((at) => at >= 0 && at < PAGE && !isOpenCrc(at)),
    );
  }
  return places;
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

/** Flips one bit in some blocks. @returns those of them in which a problem is found. */
function noticed(
  stored: Stored,
  flips: readonly { readonly block: number; readonly at: number }[],
  turn: number,
): Set<number | undefined> {
  const segment = Buffer.from(stored.segment);
  for (const { block, at } of flips)
    segment[block * PAGE + at] = (segment[block * PAGE + at] ?? 0) ^ (1 << (turn % 8));
  const depth = turn % 2 === 0 ? "tags" : "decrypt";
  return new Set(open({ ...stored, segment }, DEK, depth).problems.map(({ block }) => block));
}

test("every byte where structure ends and secrets or zeros begin is authenticated, as the slots say where", () => {
  let [sealedEnds, tried] = [0, 0];
  for (const stored of [...rich(), ...recycled()]) {
    const places = placesIn(stored);
    const most = Math.max(...[...places.values()].map(({ length }) => length));
    for (let turn = 0; turn < most; turn++) {
      // In every second block at a time: a record that was changed may be missed in the next one, too.
      for (const parity of [0, 1]) {
        const flips = [...places].flatMap(([block, own]) => {
          const at = own[turn];
          return block % 2 === parity && at !== undefined ? [{ block, at }] : [];
        });
        const found = flips.length === 0 ? new Set() : noticed(stored, flips, turn);
        for (const flip of flips) {
          tried++;
          // Where a segment cannot be taken apart any more, one of them alone has been named.
          const isNoticed = found.has(flip.block) || noticed(stored, [flip], turn).size > 0;
          assert.ok(isNoticed, `${stored.name} block ${flip.block} byte ${flip.at}`);
        }
      }
    }
    for (const [block, own] of places) {
      const fields = readWalSlotFields(stored.sidecar, walSlotAt(block));
      if (!hasSealedEnd(fields)) continue;
      sealedEnds++;
      assert.equal(stored.segment.readUInt32LE(block * PAGE + fields.structureEnd), 0);
      assert.ok(range(0, 4).every((i) => own.includes(fields.structureEnd + i)));
    }
  }
  assert.ok(sealedEnds >= 2, `${sealedEnds} blocks whose structure ends before they do`);
  assert.ok(tried > 200, `${tried} places`);
});

/** Records that end in the middle of what an older life of the segment left, so that no zeros follow. */
function recycled(): Stored[] {
  const writer = written([filler(300), message("prefix", Buffer.from("text"))]);
  writer.leave(writer.position, Buffer.alloc(20_000, "a row of an older life of this segment "));
  return store(runOf(writer));
}

test("every byte of a sidecar is authenticated", () => {
  const [stored] = rich();
  assert.ok(stored !== undefined);
  for (
    let at = 0;
    at < stored.sidecar.length;
    at += at < 3 * 128 || at > stored.sidecar.length - 104 ? 7 : 797
  ) {
    const sidecar = Buffer.from(stored.sidecar);
    sidecar[at] = (sidecar[at] ?? 0) ^ 0x01;
    const { problems } = open({ ...stored, sidecar });
    assert.ok(problems.length > 0, `byte ${at}`);
  }
});

test("a first page without the guard is found, with keys for the sidecar alone, too", () => {
  const [stored] = rich();
  assert.ok(stored !== undefined);
  const segment = Buffer.from(stored.segment);
  stored.original.copy(segment, 24, 24, 32);
  for (const depth of ["macs", "tags", "decrypt"] as const) {
    assert.deepEqual(open(stored, DEK, depth).problems, []);
    const { problems } = open({ ...stored, segment }, DEK, depth);
    const found = problems.map(({ kind, block, message }) => `${kind} ${block} ${message}`);
    assert.ok(found.includes("mark 0 the first page lacks the guard"), found.join("\n"));
  }
});

test("blocks and sidecars that change places are found, and so is a sidecar that is cut", () => {
  const [first, second] = rich();
  assert.ok(first !== undefined && second !== undefined);
  const swapped = Buffer.from(first.segment);
  first.segment.copy(swapped, 2 * PAGE, 3 * PAGE, 4 * PAGE);
  first.segment.copy(swapped, 3 * PAGE, 2 * PAGE, 3 * PAGE);
  assert.ok(open({ ...first, segment: swapped }).problems.length > 0);
  assert.ok(open({ ...first, sidecar: second.sidecar }).problems.length > 0);
  for (const length of [0, 100, PAGE, first.sidecar.length - PAGE]) {
    assert.ok(open({ ...first, sidecar: first.sidecar.subarray(0, length) }).problems.length > 0);
  }
});

test("a wrong key is told apart from damage", () => {
  const [stored] = rich();
  assert.ok(stored !== undefined);
  const kinds = new Set(open(stored, testDek(2)).problems.map(({ kind }) => kind));
  assert.deepEqual([...kinds], ["key"]);
});

test("nothing is decrypted where a single tag does not hold", () => {
  const [stored] = rich();
  assert.ok(stored !== undefined);
  const segment = Buffer.from(stored.segment);
  segment[PAGE + 100] = (segment[PAGE + 100] ?? 0) ^ 1;
  const { bytes, problems } = open({ ...stored, segment });
  assert.ok(problems.length > 0);
  assert.equal(bytes.readBigUInt64LE(24), segment.readBigUInt64LE(24));
});
