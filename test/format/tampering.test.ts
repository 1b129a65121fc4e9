/**
 * What someone can do to sealed relation files, and that each of it is reported: also by a forger who makes MACs,
 * commitments and checksums anew with the keys, whom only the pages' own tags stop.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type KeyObject, sha256 } from "../../src/crypto/primitives.ts";
import { DerivedFileKeys } from "../../src/datadir/open-relation.ts";
import type { RunFacts } from "../../src/datadir/relation-job.ts";
import { ChunkOpener } from "../../src/format/open-chunk.ts";
import type { Problem } from "../../src/format/problem.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { KEYRING_ID, testDek, testKeys } from "../support/keys.ts";
import {
  chunkOf,
  fileIdentity,
  openBytes,
  RELATION_PATH,
  type SealedBytes,
} from "../support/relation-bytes.ts";
import {
  assembleSidecar,
  type BookFile,
  type BookIdentity,
  bookKeys,
  type BookSlot,
  sealBlocks,
  type SidecarChange,
  withChecksum,
} from "../support/sealed-by-the-book.ts";

const BLOCK = 1024;

const IDENTITY: BookIdentity = {
  systemIdentifier: "7391234567890123456",
  tablespace: 1663,
  database: 5,
  relfilenumber: "16384",
  fork: "main",
  segment: 0,
  firstBlock: 0,
  backend: 0xffffffff,
};

const FILE: BookFile = {
  blockSize: BLOCK,
  dataChecksums: true,
  keyringId: KEYRING_ID,
  identity: IDENTITY,
  fileSalt: Buffer.alloc(16, 0x40),
  macKeyId: 2,
  deks: new Map<number, KeyObject>([
    [1, testDek(1)],
    [2, testDek(2)],
  ]),
};

function factsWith(keys: DataKeys | undefined = testKeys(2), epoch = 6n): RunFacts {
  const common = { blockSizeBytes: BLOCK, dataChecksums: true, keyringId: KEYRING_ID };
  return { ...common, keys, epoch };
}

/** Page i of a file, with a right checksum. */
function plainPage(block: number, salt = 0): Buffer {
  const page = Buffer.alloc(BLOCK);
  for (let i = 24; i < BLOCK; i++) page[i] = (i * 7 + block * 31 + salt) & 0xff;
  page.writeUInt32LE(0x1000 + block, 4);
  page.writeUInt16LE(40, 12);
  page.writeUInt16LE(900, 14);
  page.writeUInt16LE(BLOCK, 16);
  page.writeUInt16LE(BLOCK + 4, 18);
  return withChecksum(page, block);
}

interface Sealed {
  readonly file: BookFile;
  readonly blocks: readonly BookSlot[];
}

/** A sealed file of `count` pages, and a tail where asked for. */
function sealedFile(
  count: number,
  {
    file = FILE,
    tailBytes = 0,
    zero = [],
    keyOf = (): number => 2,
  }: {
    readonly file?: BookFile;
    readonly tailBytes?: number;
    readonly zero?: readonly number[];
    readonly keyOf?: (block: number) => number;
  } = {},
): Sealed {
  const originals = Array.from({ length: count }, (_, i) =>
    zero.includes(i) ? Buffer.alloc(BLOCK) : plainPage(file.identity.firstBlock + i),
  );
  if (tailBytes > 0) originals.push(Buffer.alloc(tailBytes, 0x61));
  const label = JSON.stringify(file.identity);
  const blocks = sealBlocks(
    file,
    originals.map((original, i) => ({
      original,
      keyId: keyOf(i),
      epoch: 6n,
      nonce: sha256(Buffer.from(`${label} ${i}`)).subarray(0, 12),
    })),
  );
  return { file, blocks };
}

function bytesOf({ file, blocks }: Sealed, change?: SidecarChange): SealedBytes {
  return {
    stored: Buffer.concat(blocks.map(({ stored }) => stored)),
    sidecar: assembleSidecar(
      file,
      blocks.map(({ slot }) => slot),
      change,
    ),
  };
}

/** The file with blocks put in other places: pages from one list, slots from another; checksums made anew. */
function rearranged(
  { file, blocks }: Sealed,
  pages: readonly number[],
  slots: readonly number[],
): Sealed {
  return {
    file,
    blocks: blocks.map((block, i) => {
      const page = blocks[pages[i] ?? i] ?? block;
      const slot = blocks[slots[i] ?? i] ?? block;
      const stored = withChecksum(page.stored, file.identity.firstBlock + i);
      return { aad: block.aad, slot: slot.slot, stored };
    }),
  };
}

function problemsOf(
  bytes: SealedBytes,
  identity: BookIdentity = IDENTITY,
  facts: RunFacts = factsWith(),
): readonly Problem[] {
  return openBytes(facts, fileIdentity(identity), bytes).problems;
}

function kindsOf(problems: readonly Problem[]): string[] {
  return problems.map(({ kind, block }) => (block === undefined ? kind : `${kind} ${block}`));
}

test("what the book seals opens without a problem", () => {
  for (const sealed of [
    sealedFile(1),
    sealedFile(7),
    sealedFile(8, { tailBytes: 1, zero: [0, 3] }),
    sealedFile(0, { tailBytes: 5 }),
  ]) {
    assert.deepEqual(problemsOf(bytesOf(sealed)), []);
  }
});

test("every flipped bit of page, zero page, tail and sidecar is reported", () => {
  const { stored, sidecar } = bytesOf(sealedFile(2, { tailBytes: 20, zero: [1] }));
  for (const [name, bytes] of [
    ["file", stored],
    ["sidecar", sidecar],
  ] as const) {
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const changed = name === "file" ? { stored: flipped, sidecar } : { stored, sidecar: flipped };
      const problems = problemsOf(changed);
      assert.ok(problems.length > 0, `bit ${bit & 7} of byte ${bit >> 3} of the ${name}`);
    }
  }
});

test("every flipped bit of a sidecar page is found by its MAC, the checksum being made anew", () => {
  const { stored, sidecar } = bytesOf(sealedFile(2, { tailBytes: 20 }));
  for (let bit = 0; bit < 8 * BLOCK; bit++) {
    const at = bit >> 3;
    if (at === 8 || at === 9) continue;
    const flipped = Buffer.from(sidecar);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
    const changed = { stored, sidecar: withChecksum(flipped, 0) };
    const { problems } = openBytes(factsWith(), fileIdentity(IDENTITY), changed, "macs");
    const found = problems.some(({ kind }) => kind === "sidecar" || kind === "key");
    assert.ok(found, `bit ${bit & 7} of byte ${at}`);
  }
});

test("a flipped bit of a slot is found by the tag or the slot's form, the MAC being made anew", () => {
  const sealed = sealedFile(1);
  const [block] = sealed.blocks;
  assert.ok(block !== undefined);
  for (let bit = 0; bit < 8 * 128; bit++) {
    const slot = Buffer.from(block.slot);
    slot[bit >> 3] = (slot[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const problems = problemsOf(bytesOf({ file: FILE, blocks: [{ ...block, slot }] }));
    assert.ok(problems.length > 0, `bit ${bit & 7} of byte ${bit >> 3}`);
    assert.ok(problems.every(({ kind }) => kind !== "sidecar"));
  }
});

test("a flipped bit of a stored page is found by its tag, the checksum being made anew", () => {
  const sealed = sealedFile(2);
  const { stored, sidecar } = bytesOf(sealed);
  for (let bit = 0; bit < 8 * BLOCK; bit += 3) {
    const page = Buffer.from(stored.subarray(BLOCK));
    const at = bit >> 3;
    if (at === 8 || at === 9) continue;
    page[at] = (page[at] ?? 0) ^ (1 << (bit & 7));
    const changed = Buffer.concat([stored.subarray(0, BLOCK), withChecksum(page, 1)]);
    const kinds = kindsOf(problemsOf({ stored: changed, sidecar }));
    const markGone = at === 11 && (bit & 7) === 7;
    assert.deepEqual(kinds, markGone ? ["mark 1", "tag 1"] : ["tag 1"]);
  }
});

test("two pages that changed places are reported as swapped", () => {
  const sealed = sealedFile(5);
  const problems = problemsOf(bytesOf(rearranged(sealed, [0, 3, 2, 1, 4], [])));
  assert.deepEqual(kindsOf(problems), ["swapped 1", "swapped 3"]);
  assert.deepEqual(
    problems.map(({ message }) => message),
    ["the page is block 3", "the page is block 1"],
  );
});

test("two slots that changed places are reported as swapped", () => {
  const problems = problemsOf(bytesOf(rearranged(sealedFile(5), [], [0, 3, 2, 1, 4])));
  assert.deepEqual(kindsOf(problems), ["swapped 1", "swapped 3"]);
  assert.deepEqual(
    problems.map(({ message }) => message),
    ["the page has the slot of block 3", "the page has the slot of block 1"],
  );
});

test("two pages that changed places with their slots are reported as swapped", () => {
  const order = [0, 3, 2, 1, 4];
  const problems = problemsOf(bytesOf(rearranged(sealedFile(5), order, order)));
  assert.deepEqual(kindsOf(problems), ["swapped 1", "swapped 3"]);
  assert.deepEqual(
    problems.map(({ message }) => message),
    ["the page is block 3, with its slot", "the page is block 1, with its slot"],
  );
});

test("a page that was copied over another, with its slot, is found", () => {
  const problems = problemsOf(bytesOf(rearranged(sealedFile(3), [0, 0, 2], [0, 0, 2])));
  assert.deepEqual(kindsOf(problems), ["tag 1"]);
});

test("an older page is found when its slot is not the older one, and its slot when the page is not", () => {
  const now = sealedFile(2);
  const [first, second] = sealBlocks(
    FILE,
    [0, 1].map((i) => ({
      original: plainPage(i, 100),
      keyId: 2,
      epoch: 3n,
      nonce: Buffer.alloc(12, i + 1),
    })),
  );
  const [block] = now.blocks;
  assert.ok(first !== undefined && second !== undefined && block !== undefined);
  const oldPage = {
    ...now,
    blocks: [block, { ...second, slot: now.blocks[1]?.slot ?? first.slot }],
  };
  assert.deepEqual(kindsOf(problemsOf(bytesOf(oldPage))), ["tag 1"]);
  const oldSlot = { ...now, blocks: [{ ...block, slot: first.slot }, now.blocks[1] ?? second] };
  assert.deepEqual(kindsOf(problemsOf(bytesOf(oldSlot))), ["tag 0"]);
});

test("a slot of another file under the same keys is found by its commitment", () => {
  const sealed = sealedFile(2);
  const other = sealedFile(2, {
    file: { ...FILE, identity: { ...IDENTITY, relfilenumber: "16385" } },
  });
  const blocks = sealed.blocks.map((block, i) =>
    i === 1 ? { ...block, slot: other.blocks[1]?.slot ?? block.slot } : block,
  );
  const problems = problemsOf(bytesOf({ file: FILE, blocks }));
  assert.deepEqual(kindsOf(problems), ["key 1"]);
  assert.match(problems[0]?.message ?? "", /not committed to key 2/);
});

const OTHER_PLACES: Readonly<Record<string, Partial<BookIdentity>>> = {
  "another cluster": { systemIdentifier: "7391234567890123457" },
  "another tablespace": { tablespace: 16400 },
  "another database": { database: 6 },
  "another relation": { relfilenumber: "16385" },
  "another fork": { fork: "init" },
  "another segment": { segment: 1, firstBlock: 131072 },
  "another backend": { backend: 3 },
};

for (const [name, other] of Object.entries(OTHER_PLACES)) {
  const there: BookIdentity = { ...IDENTITY, ...other };

  test(`a file of ${name} says where it belongs`, () => {
    const problems = problemsOf(bytesOf(sealedFile(2)), there);
    assert.deepEqual(kindsOf(problems), ["identity"]);
    assert.match(problems[0]?.message ?? "", /^this is base\/5\/16384/);
  });

  test(`a file of ${name} is found by its tags, all else around it being made anew`, () => {
    const sealed = sealedFile(3, { tailBytes: 9, zero: [2] });
    const file: BookFile = { ...FILE, identity: there };
    const onlySidecar = rearranged({ file, blocks: sealed.blocks.slice(0, 2) }, [], []);
    assert.deepEqual(kindsOf(problemsOf(bytesOf(onlySidecar), there)), [
      `key ${there.firstBlock}`,
      `key ${there.firstBlock + 1}`,
    ]);
    const { commitment } = bookKeys(file, 2);
    const forged = sealed.blocks.map((block, i) => {
      const slot = Buffer.from(block.slot);
      commitment.copy(slot, 72);
      const stored = i < 2 ? withChecksum(block.stored, there.firstBlock + i) : block.stored;
      return { ...block, slot, stored };
    });
    const kinds = kindsOf(problemsOf(bytesOf({ file, blocks: forged }), there));
    assert.deepEqual(
      kinds,
      [0, 1, 2, 3].map((i) => `tag ${there.firstBlock + i}`),
    );
  });
}

test("a zero page that was filled, and a page that was zeroed, are reported", () => {
  const { stored, sidecar } = bytesOf(sealedFile(2, { zero: [1] }));
  const filled = Buffer.concat([stored.subarray(0, BLOCK), plainPage(1)]);
  assert.deepEqual(kindsOf(problemsOf({ stored: filled, sidecar })), ["mark 1"]);
  const zeroed = Buffer.alloc(2 * BLOCK);
  const kinds = kindsOf(problemsOf({ stored: zeroed, sidecar }));
  assert.ok(kinds.includes("mark 0") && kinds.includes("tag 0"));
});

test("a checksum that is wrong without the flag, or right with it, is reported although the tag holds", () => {
  const { stored, sidecar } = bytesOf(sealedFile(1));
  for (const wrong of [0, pageChecksum(stored, 0) ^ 1, pageChecksum(stored, 0) ^ 0x8000]) {
    const changed = Buffer.from(stored);
    changed.writeUInt16LE(wrong, 8);
    assert.deepEqual(kindsOf(problemsOf({ stored: changed, sidecar })), ["checksum 0"]);
  }
  const original = plainPage(0);
  original.writeUInt16LE(original.readUInt16LE(8) ^ 2, 8);
  const blocks = sealBlocks(FILE, [{ original, keyId: 2, epoch: 6n, nonce: Buffer.alloc(12, 9) }]);
  const sealed = bytesOf({ file: FILE, blocks });
  assert.deepEqual(problemsOf(sealed), []);
  const made = { ...sealed, stored: withChecksum(sealed.stored, 0) };
  assert.deepEqual(kindsOf(problemsOf(made)), ["checksum 0"]);
});

interface SlotForgery {
  readonly name: string;
  readonly at: number;
  readonly bytes: readonly number[];
  readonly kind: string;
  readonly message: RegExp;
}

const SLOT_FORGERIES: readonly SlotForgery[] = [
  { name: "an unknown kind", at: 0, bytes: [4], kind: "slot", message: /kind 4/ },
  { name: "kind 0 with bytes behind it", at: 0, bytes: [0], kind: "slot", message: /kind 0/ },
  { name: "suite 0", at: 1, bytes: [0], kind: "slot", message: /suite 0/ },
  { name: "an unknown suite", at: 1, bytes: [2], kind: "slot", message: /suite 2/ },
  { name: "an unknown flag", at: 2, bytes: [4], kind: "slot", message: /flags 0x4/ },
  { name: "a high unknown flag", at: 3, bytes: [128], kind: "slot", message: /flags 0x8000/ },
  { name: "key id 0", at: 4, bytes: [0, 0, 0, 0], kind: "slot", message: /key id 0/ },
  { name: "an epoch that is too high", at: 8, bytes: [7], kind: "slot", message: /epoch 7/ },
  { name: "the highest epoch", at: 15, bytes: [255], kind: "slot", message: /later than/ },
  { name: "a length of 0", at: 16, bytes: [0, 0], kind: "slot", message: /length 0/ },
  { name: "a length of too much", at: 18, bytes: [1], kind: "slot", message: /length 66560/ },
  { name: "a structure start", at: 20, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "a structure end", at: 27, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "zeros from", at: 28, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "a longer nonce", at: 44, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "more sealed bytes", at: 106, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "reserved bytes", at: 108, bytes: [1], kind: "slot", message: /reserved/ },
  { name: "a last reserved byte", at: 127, bytes: [1], kind: "slot", message: /reserved/ },
];

for (const { name, at, bytes, kind, message } of SLOT_FORGERIES) {
  test(`a slot with ${name} is refused before its tag is looked at`, () => {
    const sealed = sealedFile(2);
    const blocks = sealed.blocks.map((block, i) => {
      const slot = Buffer.from(block.slot);
      if (i === 1) Buffer.from(bytes).copy(slot, at);
      return { ...block, slot };
    });
    const problems = problemsOf(bytesOf({ file: FILE, blocks }));
    assert.deepEqual(kindsOf(problems), [`${kind} 1`]);
    assert.match(problems[0]?.message ?? "", message);
  });
}

test("a slot of a zero page or a tail has no flags, nothing sealed in it, and a length of its kind", () => {
  const sealed = sealedFile(3, { tailBytes: 50, zero: [1] });
  const [zeroPage, tail] = [1, 3];
  for (const [block, at, bytes, kind, message] of [
    [zeroPage, 2, [1], "slot", /flags on an entry that is no page/],
    [zeroPage, 2, [2], "slot", /flags on an entry that is no page/],
    [zeroPage, 104, [1], "slot", /reserved/],
    [zeroPage, 16, [50, 0], "slot", /length 50/],
    [tail, 2, [2], "slot", /flags on an entry that is no page/],
    [tail, 104, [0, 1], "slot", /reserved/],
    [tail, 16, [0, 4], "slot", /length 1024/],
    [tail, 16, [0, 0], "slot", /length 0/],
    [tail, 16, [49, 0], "size", /./],
  ] as const) {
    const blocks = sealed.blocks.map((one, i) => {
      const slot = Buffer.from(one.slot);
      if (i === block) Buffer.from(bytes).copy(slot, at);
      return { ...one, slot };
    });
    const problems = problemsOf(bytesOf({ file: FILE, blocks }));
    assert.deepEqual(kindsOf(problems), [`${kind} ${block}`]);
    assert.match(problems[0]?.message ?? "", message);
  }
});

test("slots of tails and zero pages in the place of pages, and the reverse, are refused", () => {
  const sealed = sealedFile(3, { tailBytes: 50, zero: [1] });
  const withSlots = (order: readonly number[]): string[] =>
    kindsOf(problemsOf(bytesOf(rearrangedSlots(sealed, order))));
  assert.deepEqual(withSlots([0, 3, 2, 3]), ["size 1"]);
  assert.deepEqual(withSlots([0, 1, 2, 0]), ["size 3"]);
  assert.deepEqual(withSlots([0, 1, 1, 3]), ["mark 2", "tag 2"]);
});

function rearrangedSlots({ file, blocks }: Sealed, order: readonly number[]): Sealed {
  return {
    file,
    blocks: blocks.map((block, i) => ({
      ...block,
      slot: blocks[order[i] ?? i]?.slot ?? block.slot,
    })),
  };
}

test("an empty slot for a block, and a slot without a block, are reported", () => {
  const sealed = sealedFile(3);
  const empty = sealed.blocks.map((block, i) =>
    i === 1 ? { ...block, slot: Buffer.alloc(128) } : block,
  );
  assert.deepEqual(kindsOf(problemsOf(bytesOf({ file: FILE, blocks: empty }))), ["slot 1"]);
  const { stored, sidecar } = bytesOf(sealed);
  const cut = { stored: stored.subarray(0, 2 * BLOCK), sidecar };
  assert.deepEqual(kindsOf(problemsOf(cut)), ["slot 2"]);
  const grown = { stored: Buffer.concat([stored, plainPage(3)]), sidecar };
  assert.deepEqual(kindsOf(problemsOf(grown)), ["slot 3"]);
  for (const at of [3, 4, 5, 6].map((slot) => 24 + 128 * slot + 127)) {
    const stray = bytesOf(sealed, {
      edit: (_, page) => {
        page[at] = 1;
      },
    });
    assert.equal(problemsOf(stray).length, 1);
  }
});

test("a file that was cut or has grown is reported at every length", () => {
  const sealed = bytesOf(sealedFile(8, { tailBytes: 3 }));
  for (let length = 1; length < sealed.stored.length; length += 97) {
    const cut = { ...sealed, stored: sealed.stored.subarray(0, length) };
    assert.ok(problemsOf(cut).length > 0, `cut at ${length}`);
  }
  for (const more of [1, BLOCK - 4, BLOCK, 7 * BLOCK]) {
    const grown = { ...sealed, stored: Buffer.concat([sealed.stored, Buffer.alloc(more)]) };
    assert.ok(problemsOf(grown).length > 0, `grown by ${more}`);
  }
});

test("a sidecar that was cut anywhere is reported", () => {
  const sealed = bytesOf(sealedFile(9));
  for (let length = 0; length < sealed.sidecar.length; length += 31) {
    const cut = { ...sealed, sidecar: sealed.sidecar.subarray(0, length) };
    const problems = problemsOf(cut);
    assert.ok(
      problems.some(({ kind }) => kind === "sidecar"),
      `cut at ${length}`,
    );
  }
});

test("LAST missing, or on a page that is not the last, is reported", () => {
  const sealed = sealedFile(20);
  for (const [lastOn, expected] of [
    [[], /page 2: the last page is missing/],
    [[0], /page 0: it is marked as the last page, but the file goes on/],
    [[1, 2], /page 1: it is marked as the last page, but the file goes on/],
  ] as const) {
    const problems = problemsOf(bytesOf(sealed, { lastOn }));
    assert.ok(problems.every(({ kind }) => kind === "sidecar"));
    assert.ok(problems.some(({ message }) => expected.test(message)));
  }
});

interface PageForgery {
  readonly name: string;
  /** In the sidecar page; negative: in the special space. */
  readonly at: number;
  readonly bytes: readonly number[];
  readonly message: RegExp;
}

const SPECIAL = BLOCK - 104;
const PAGE_FORGERIES: readonly PageForgery[] = [
  { name: "another magic", at: SPECIAL, bytes: [0x55], message: /magic/ },
  { name: "version 0", at: SPECIAL + 4, bytes: [0], message: /version 0/ },
  { name: "version 2", at: SPECIAL + 4, bytes: [2], message: /version 2/ },
  { name: "an unknown fork", at: SPECIAL + 6, bytes: [4], message: /unknown fork/ },
  { name: "the fork of WAL", at: SPECIAL + 6, bytes: [16], message: /belongs to/ },
  { name: "an unknown flag", at: SPECIAL + 7, bytes: [3], message: /flags 0x3/ },
  { name: "another identity", at: SPECIAL + 24, bytes: [9], message: /belongs to/ },
  { name: "another page number", at: SPECIAL + 40, bytes: [5], message: /it is page 5/ },
  { name: "another keyring", at: SPECIAL + 48, bytes: [1], message: /keyring or salt/ },
  { name: "MAC key id 0", at: SPECIAL + 56, bytes: [0], message: /key id 0/ },
  { name: "reserved bytes", at: SPECIAL + 60, bytes: [1], message: /reserved/ },
  { name: "another salt", at: SPECIAL + 64, bytes: [0], message: /keyring or salt/ },
  { name: "more reserved bytes", at: SPECIAL + 87, bytes: [1], message: /reserved/ },
  { name: "an LSN", at: 0, bytes: [1], message: /page header/ },
  { name: "pd_flags", at: 10, bytes: [4], message: /page header/ },
  { name: "another pd_lower", at: 12, bytes: [24, 0], message: /page header/ },
  { name: "another pd_upper", at: 14, bytes: [0, 0], message: /page header/ },
  { name: "another page version", at: 18, bytes: [5], message: /page header/ },
  { name: "a prune xid", at: 20, bytes: [1], message: /page header/ },
];

for (const { name, at, bytes, message } of PAGE_FORGERIES) {
  test(`a sidecar page with ${name} is refused, though its MAC and checksum hold`, () => {
    const forged = bytesOf(sealedFile(9), {
      edit: (number, page) => {
        if (number === 1) Buffer.from(bytes).copy(page, at);
      },
    });
    const problems = problemsOf(forged);
    assert.deepEqual(kindsOf(problems), ["sidecar"]);
    assert.match(problems[0]?.message ?? "", message);
  });
}

test("a sidecar page in the place of another is reported", () => {
  const { stored, sidecar } = bytesOf(sealedFile(21));
  const swapped = Buffer.concat([
    sidecar.subarray(0, BLOCK),
    withChecksum(sidecar.subarray(2 * BLOCK), 1),
    withChecksum(sidecar.subarray(BLOCK, 2 * BLOCK), 2),
  ]);
  const kinds = kindsOf(problemsOf({ stored, sidecar: swapped }));
  assert.ok(kinds.filter((kind) => kind === "sidecar").length === 2);
});

test("one file may hold pages under two keys", () => {
  const sealed = sealedFile(4, { keyOf: (block) => (block % 2) + 1 });
  const { problems, result, plain } = openBytes(
    factsWith(),
    fileIdentity(IDENTITY),
    bytesOf(sealed),
  );
  assert.deepEqual(problems, []);
  assert.deepEqual(plain, Buffer.concat([0, 1, 2, 3].map((block) => plainPage(block))));
  assert.deepEqual(
    result.pagesByKey,
    new Map([
      [1, 2],
      [2, 2],
    ]),
  );
  assert.deepEqual(result.macKeyIds, new Set([2]));
});

test("a key that the keyring lacks is one problem, however many pages need it", () => {
  const sealed = bytesOf(sealedFile(20, { keyOf: (block) => (block % 2) + 1 }));
  const one = testKeys(2, {}, { 1: "destroyed" });
  const destroyed = problemsOf(sealed, IDENTITY, factsWith(one));
  assert.deepEqual(kindsOf(destroyed), ["key"]);
  assert.match(destroyed[0]?.message ?? "", /needs key 1 .*destroyed/);
  const lacking = problemsOf(sealed, IDENTITY, factsWith(testKeys(1)));
  assert.deepEqual(kindsOf(lacking), ["key"]);
  assert.match(lacking[0]?.message ?? "", /needs key 2 .*yours holds key 1/);
  const foreign = testKeys(2, { keyringId: "00000000000000aa" });
  const problems = problemsOf(sealed, IDENTITY, factsWith(foreign));
  assert.deepEqual(kindsOf(problems), ["key", "key"]);
  assert.match(problems[0]?.message ?? "", /yours is keyring 00000000000000aa/);
});

test("another key of the same id is a problem of the key, and nothing is decrypted under it", () => {
  const problems = problemsOf(
    bytesOf(sealedFile(2)),
    IDENTITY,
    factsWith(testKeys(2, { fill: 7 })),
  );
  assert.ok(kindsOf(problems).includes("key 0") && kindsOf(problems).includes("key 1"));
  assert.ok(problems.every(({ kind }) => kind !== "tag"));
});

test("nothing is put back where a tag fails, and the pages around it are whole", () => {
  const { stored, sidecar } = bytesOf(sealedFile(4));
  const damaged = Buffer.from(stored);
  damaged[BLOCK + 500] = (damaged[BLOCK + 500] ?? 0) ^ 1;
  const page = withChecksum(damaged.subarray(BLOCK, 2 * BLOCK), 1);
  page.copy(damaged, BLOCK);
  const chunk = chunkOf(BLOCK);
  damaged.copy(chunk.data);
  sidecar.copy(chunk.sidecar);
  const problems: Problem[] = [];
  const head = { identity: fileIdentity(IDENTITY), keyringId: KEYRING_ID, fileSalt: FILE.fileSalt };
  const opener = new ChunkOpener(chunk, {
    head,
    keys: new DerivedFileKeys(testKeys(2), head, RELATION_PATH),
    pageTags: true,
    slotCount: 4,
    maxEpoch: 6n,
    path: RELATION_PATH,
    report: (problem) => problems.push(problem),
  });
  opener.open(0, damaged.length, true);
  assert.deepEqual(kindsOf(problems), ["tag 1"]);
  assert.deepEqual(Buffer.from(chunk.data.subarray(BLOCK, 2 * BLOCK)), page);
  for (const block of [0, 2, 3]) {
    const opened = Buffer.from(chunk.data.subarray(block * BLOCK, (block + 1) * BLOCK));
    assert.deepEqual(opened, plainPage(block));
  }
  assert.deepEqual(Buffer.from(chunk.sidecar.subarray(0, BLOCK)), sidecar);
});

test("no problem's message shows a page's content or a key", () => {
  const secret = Buffer.from("a row that nobody may read ".repeat(40)).subarray(0, BLOCK - 24);
  const original = Buffer.concat([plainPage(0).subarray(0, 24), secret]);
  const blocks = sealBlocks(FILE, [
    { original: withChecksum(original, 0), keyId: 2, epoch: 6n, nonce: Buffer.alloc(12, 5) },
  ]);
  const { stored, sidecar } = bytesOf({ file: FILE, blocks });
  const messages: string[] = [];
  for (let byte = 0; byte < BLOCK; byte += 13) {
    const damaged = Buffer.from(stored);
    damaged[byte] = (damaged[byte] ?? 0) ^ 0xff;
    for (const problem of problemsOf({ stored: damaged, sidecar }))
      messages.push(JSON.stringify(problem));
  }
  assert.ok(messages.length > 0);
  const key = bookKeys(FILE, 2).pageKey.toString("hex");
  assert.ok(!messages.some((text) => text.includes("nobody may") || text.includes(key)));
});
