/**
 * Holding a plain relation file against the sidecar of its sealed form: the original passes, and nothing else does.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { randomBytes } from "../../src/crypto/primitives.ts";
import { checkPlainRange } from "../../src/datadir/plain-relation.ts";
import { type RunFacts, splitRange, wholeRange } from "../../src/datadir/relation-job.ts";
import type { FileIdentity } from "../../src/format/identity.ts";
import type { Problem } from "../../src/format/problem.ts";
import { KEYRING_ID, testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";
import { pageOf, randomFile, type Recipe } from "../support/random-relation.ts";
import {
  BufferFile,
  chunkOf,
  fileIdentity,
  relationFiles,
  sealBytes,
} from "../support/relation-bytes.ts";

const IDENTITY = fileIdentity({
  systemIdentifier: "7391234567890123456",
  tablespace: 1663,
  database: 5,
  relfilenumber: "16384",
  fork: "main",
  segment: 1,
  firstBlock: 131072,
  backend: 0xffffffff,
});

function factsOf(blockSizeBytes: number, dataChecksums = true): RunFacts {
  return { blockSizeBytes, dataChecksums, keys: testKeys(2), keyringId: KEYRING_ID, epoch: 6n };
}

interface Held {
  readonly facts: RunFacts;
  readonly identity: FileIdentity;
  readonly plain: Buffer;
  readonly sidecar: Buffer;
  /** Of the file that was encrypted. */
  readonly sizeBytes: number;
}

/** @returns the problems that were found. */
function problemsOf({ facts, identity, plain, sidecar, sizeBytes }: Held): Problem[] {
  const problems: Problem[] = [];
  const { blockSizeBytes } = facts;
  checkPlainRange(
    chunkOf(blockSizeBytes),
    facts,
    relationFiles(identity, sizeBytes),
    { plain: new BufferFile(plain), sidecar: new BufferFile(sidecar) },
    wholeRange(sizeBytes, blockSizeBytes),
    (problem) => problems.push(problem),
    () => {},
  );
  return problems;
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

/** A page of each kind, and a tail. */
function everyKind(blockSize: number): Buffer {
  const kinds: Recipe[] = ["valid", "wrong", "unchecked", "marked", "zero", "zero header"];
  const pages = kinds.map((kind, i) =>
    pageOf(kind, blockSize, IDENTITY.firstBlock + i, 7919 * i + 3),
  );
  return Buffer.concat([...pages, Buffer.alloc(100, 7)]);
}

for (const blockSize of [1024, 8192]) {
  test(`any original of blocks of ${blockSize} bytes passes, and none with a flipped bit`, () => {
    const file = randomFile(blockSize, blockSize === 1024 ? 20 : 5);
    const property = fc.property(file, fc.nat(), ({ identity, dataChecksums, originals }, at) => {
      const facts = factsOf(blockSize, dataChecksums);
      const plain = Buffer.concat(originals);
      const { sidecar } = sealBytes(facts, fileIdentity(identity), plain, randomBytes(16));
      const held = {
        facts,
        identity: fileIdentity(identity),
        plain,
        sidecar,
        sizeBytes: plain.length,
      };
      assert.deepEqual(problemsOf(held), []);
      const { data } = chunkOf(blockSize);
      assert.ok(data.subarray(0, plain.length).equals(plain), "the buffer is as it was");
      const bit = at % (8 * plain.length);
      const problems = problemsOf({ ...held, plain: flipped(plain, bit) });
      const block = Math.floor(bit / 8 / blockSize) + identity.firstBlock;
      assert.deepEqual(
        problems.map(({ kind, block: found }) => [kind, found]),
        [["tag", block]],
      );
    });
    assertProperty(property, 60);
  });
}

test("every bit of a page's header counts, that of the mark, too", () => {
  const facts = factsOf(1024);
  const plain = everyKind(1024);
  const { sidecar } = sealBytes(facts, IDENTITY, plain);
  const held = { facts, identity: IDENTITY, plain, sidecar, sizeBytes: plain.length };
  for (let page = 0; page < 6; page++) {
    for (let bit = 0; bit < 8 * 32; bit++) {
      const problems = problemsOf({ ...held, plain: flipped(plain, 8 * 1024 * page + bit) });
      assert.deepEqual(
        problems.map(({ block }) => block),
        [IDENTITY.firstBlock + page],
        `bit ${bit} of page ${page}`,
      );
    }
  }
});

test("no bit of the sidecar can change, and no page of it be missing or too many", () => {
  const facts = factsOf(1024);
  const plain = everyKind(1024);
  const { sidecar } = sealBytes(facts, IDENTITY, plain);
  const held = { facts, identity: IDENTITY, plain, sidecar, sizeBytes: plain.length };
  for (let bit = 0; bit < 8 * sidecar.length; bit++) {
    assert.ok(problemsOf({ ...held, sidecar: flipped(sidecar, bit) }).length > 0, `bit ${bit}`);
  }
  const longer = Buffer.concat([sidecar, sidecar]);
  assert.ok(problemsOf({ ...held, sidecar: longer }).some(({ kind }) => kind === "sidecar"));
  assert.ok(problemsOf({ ...held, sidecar: sidecar.subarray(0, 512) }).length > 0);
});

test("what is still encrypted, cut, longer, moved, or of another file does not pass", () => {
  const facts = factsOf(1024);
  const plain = everyKind(1024);
  const { sidecar, stored } = sealBytes(facts, IDENTITY, plain);
  const held = { facts, identity: IDENTITY, plain, sidecar, sizeBytes: plain.length };
  const swapped = Buffer.concat([
    plain.subarray(1024, 2048),
    plain.subarray(0, 1024),
    plain.subarray(2048),
  ]);
  const cases: Readonly<Record<string, Partial<Held>>> = {
    encrypted: { plain: stored },
    cut: { plain: plain.subarray(0, plain.length - 1) },
    "cut by its tail": { plain: plain.subarray(0, plain.length - 100) },
    longer: { plain: Buffer.concat([plain, Buffer.alloc(1)]) },
    swapped: { plain: swapped },
    "without pages": { plain: Buffer.alloc(plain.length) },
    elsewhere: { identity: { ...IDENTITY, relfilenumber: 16385n } },
    "of another keyring": { facts: { ...facts, keys: testKeys(2, { fill: 9 }) } },
    "of a later epoch than there can be": { facts: { ...facts, epoch: 5n } },
  };
  for (const [name, changed] of Object.entries(cases)) {
    assert.ok(problemsOf({ ...held, ...changed }).length > 0, name);
  }
});

test("a large file is checked in ranges, each with its own damage", () => {
  const blockSize = 1024;
  const facts = factsOf(blockSize);
  const { slotCapacity } = chunkOf(blockSize);
  const pages = Array.from({ length: 2 * slotCapacity + 10 }, (_, i) =>
    pageOf(i % 5 === 0 ? "zero" : "valid", blockSize, IDENTITY.firstBlock + i, 7919 * i + 3),
  );
  const plain = Buffer.concat(pages);
  const { sidecar } = sealBytes(facts, IDENTITY, plain);
  const damaged = Buffer.from(plain);
  const ranges = splitRange(wholeRange(plain.length, blockSize), slotCapacity);
  assert.equal(ranges.length, 3);
  const wrong = ranges.map(({ firstSlot }) => firstSlot + 3);
  for (const slot of wrong)
    damaged.writeUInt8(1 ^ damaged.readUInt8(slot * blockSize + 500), slot * blockSize + 500);
  for (const [bytes, expected] of [
    [plain, []],
    [damaged, wrong],
  ] as const) {
    const found = ranges.flatMap((range) => {
      const problems: Problem[] = [];
      checkPlainRange(
        chunkOf(blockSize),
        facts,
        relationFiles(IDENTITY, plain.length),
        { plain: new BufferFile(bytes), sidecar: new BufferFile(sidecar) },
        range,
        (problem) => problems.push(problem),
        () => {},
      );
      return problems.map(({ block }) => (block ?? 0) - IDENTITY.firstBlock);
    });
    assert.deepEqual(found, expected);
  }
});
