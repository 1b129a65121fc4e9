/**
 * Sealing and opening relation files: whatever bytes a file has, they come back; what is stored is what
 * docs/FORMAT.md says, byte for byte; and stock tools see the checksums that they saw before.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { randomBytes } from "../../src/crypto/primitives.ts";
import type { RunFacts } from "../../src/datadir/relation-job.ts";
import { StateError } from "../../src/errors.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { KEYRING_ID, testDek, testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";
import { chunkOf, fileIdentity, openBytes, sealBytes } from "../support/relation-bytes.ts";
import { pageOf, type RandomFile, randomFile, type Recipe } from "../support/random-relation.ts";
import {
  assembleSidecar,
  type BookFile,
  type BookIdentity,
  sealBlocks,
} from "../support/sealed-by-the-book.ts";

const BLOCK_SIZES = [1024, 2048, 4096, 8192, 16384, 32768];

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

function factsOf(blockSizeBytes: number, dataChecksums: boolean): RunFacts {
  return { blockSizeBytes, dataChecksums, keys: testKeys(2), keyringId: KEYRING_ID, epoch: 6n };
}

for (const blockSize of BLOCK_SIZES) {
  const slots = blockSize / 128 - 1;
  test(`any file of blocks of ${blockSize} bytes comes back, and is stored by the book`, () => {
    const maxBlocks = Math.min(2 * slots + 2, Math.ceil(131072 / blockSize) + slots);
    assertProperty(
      fc.property(randomFile(blockSize, Math.min(maxBlocks, 40)), (file) =>
        roundTrip(blockSize, file),
      ),
      25,
    );
  });
}

function roundTrip(blockSize: number, { identity, dataChecksums, originals }: RandomFile): void {
  const facts = factsOf(blockSize, dataChecksums);
  const original = Buffer.concat(originals);
  const fileSalt = randomBytes(16);
  const { stored, sidecar, counts } = sealBytes(facts, fileIdentity(identity), original, fileSalt);
  assert.equal(stored.length, original.length);

  // By the book, with the nonces that were drawn: the same bytes.
  const slotAt = slotOffsets(blockSize, originals.length);
  const book: BookFile = {
    blockSize,
    dataChecksums,
    keyringId: KEYRING_ID,
    identity,
    fileSalt,
    macKeyId: 2,
    deks: new Map([[2, testDek(2)]]),
  };
  const blocks = sealBlocks(
    book,
    originals.map((page, i) => {
      const nonceAt = (slotAt[i] ?? 0) + 32;
      const nonce = sidecar.subarray(nonceAt, nonceAt + 12);
      return { original: page, keyId: 2, epoch: 6n, nonce };
    }),
  );
  assert.ok(Buffer.concat(blocks.map((block) => block.stored)).equals(stored));
  assert.ok(
    assembleSidecar(
      book,
      blocks.map(({ slot }) => slot),
    ).equals(sidecar),
  );

  // What stock tools see: every checksum is right that was right, and wrong that was wrong.
  let wrong = 0;
  for (const [i, page] of originals.entries()) {
    if (page.length < blockSize || page.every((byte) => byte === 0)) continue;
    const block = identity.firstBlock + i;
    const now = stored.subarray(i * blockSize, (i + 1) * blockSize);
    const wasRight = !dataChecksums || page.readUInt16LE(8) === pageChecksum(page, block);
    assert.equal(now.readUInt16LE(8) === pageChecksum(now, block), wasRight);
    assert.notEqual(now.readUInt16LE(8), 0);
    assert.ok((now.readUInt16LE(10) & 0x8000) !== 0);
    if (!wasRight) wrong++;
  }
  for (let at = 0, page = 0; at < sidecar.length; at += blockSize, page++) {
    const bytes = sidecar.subarray(at, at + blockSize);
    assert.equal(bytes.readUInt16LE(8), pageChecksum(bytes, identity.firstBlock + page));
  }
  const zeroPages = originals.filter(
    (page) => page.length === blockSize && page.every((byte) => byte === 0),
  ).length;
  assert.deepEqual(counts, { pages: originals.length, zeroPages, wrongChecksums: wrong });

  for (const depth of ["form", "macs", "tags"] as const) {
    const opened = openBytes(facts, fileIdentity(identity), { stored, sidecar }, depth);
    assert.deepEqual(opened.problems, []);
    assert.equal(opened.result.wrongChecksums, wrong);
    assert.deepEqual(opened.result.pagesByKey, new Map([[2, originals.length]]));
    if (depth === "tags") assert.ok(opened.plain?.equals(original));
  }
}

test("a file of many chunks comes back, with its last chunk cut anywhere", () => {
  const blockSize = 1024;
  const facts = factsOf(blockSize, true);
  const { slotCapacity } = chunkOf(blockSize);
  const kinds: Recipe[] = ["valid", "zero", "wrong", "garbage", "valid", "valid"];
  const pages: Buffer[] = [];
  for (let block = 0; block < 2 * slotCapacity + 10; block++) {
    pages.push(pageOf(kinds[block % kinds.length] ?? "valid", blockSize, block, 7919 * block + 3));
  }
  const all = Buffer.concat(pages);
  const identity = fileIdentity(IDENTITY);
  for (const blocks of [slotCapacity - 1, slotCapacity, slotCapacity + 1, 2 * slotCapacity + 9]) {
    for (const tailBytes of [0, 1, blockSize - 1]) {
      const original = all.subarray(0, blocks * blockSize + tailBytes);
      const sealed = sealBytes(facts, identity, original);
      const { problems, plain } = openBytes(facts, identity, sealed);
      assert.deepEqual(problems, []);
      assert.ok(plain?.equals(original));
    }
  }
});

test("no plaintext is left in what is stored, and no two pages share a nonce", () => {
  const blockSize = 8192;
  const page = pageOf("valid", blockSize, 0, 5);
  page.write("a row that nobody may read", 4000);
  page.writeUInt16LE(pageChecksum(page, 0), 8);
  const original = Buffer.concat([page, page, page, page.subarray(0, 5000)]);
  const { stored, sidecar } = sealBytes(factsOf(blockSize, true), fileIdentity(IDENTITY), original);
  assert.equal(Buffer.concat([stored, sidecar]).indexOf("nobody may"), -1);
  const nonces = slotOffsets(blockSize, 4).map((at) => sidecar.toString("hex", at + 32, at + 44));
  assert.equal(new Set(nonces).size, 4);
  assert.ok(!stored.subarray(24, blockSize).equals(stored.subarray(blockSize + 24, 2 * blockSize)));
});

test("a page that is sealed already is refused, whichever block it is", () => {
  const blockSize = 1024;
  for (const dataChecksums of [true, false]) {
    const facts = factsOf(blockSize, dataChecksums);
    const identity = fileIdentity({ ...IDENTITY, segment: 1, firstBlock: 131072 });
    const pages = [0, 1, 2].map((i) => pageOf("valid", blockSize, 131072 + i, 11 + i));
    const { stored } = sealBytes(facts, identity, Buffer.concat(pages));
    assert.throws(() => sealBytes(facts, identity, stored), StateError);
    const third = Buffer.concat([...pages.slice(0, 2), stored.subarray(2 * blockSize)]);
    assert.throws(() => sealBytes(facts, identity, third), {
      name: "StateError",
      message: /^base\/5\/16384 block 131074 is sealed already/,
    });
  }
});

/** Where the slots of the first `count` blocks begin in a sidecar. */
function slotOffsets(blockSize: number, count: number): number[] {
  const perPage = blockSize / 128 - 1;
  return Array.from(
    { length: count },
    (_, i) => Math.floor(i / perPage) * blockSize + 24 + (i % perPage) * 128,
  );
}
