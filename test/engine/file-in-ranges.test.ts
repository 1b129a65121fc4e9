/**
 * A large file is checked in ranges by several workers, and its digest comes of another read of its sidecar.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { IntegrityError } from "../../src/errors.ts";
import { slotsPerChunk } from "../../src/format/chunk.ts";
import { slotsPerPage } from "../../src/format/sidecar-page.ts";
import { SLOT } from "../../src/format/slot.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import { edit, flipBit, slotAt } from "../support/forger.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  SmallEngine,
} from "../support/small-cluster.ts";

/** A chunk of pages in each range. */
const LIMITS = { files: 5, bytes: 2 ** 20, largeFileBytes: 2 ** 19, rangeBytes: 2 ** 17 };
const RANGE_BLOCKS = slotsPerChunk(BLOCK_SIZE);
const SECOND_RANGE = (slotsPerChunk(BLOCK_SIZE) / slotsPerPage(BLOCK_SIZE)) * BLOCK_SIZE;

/** Returns one flipped bit in the next read of the sidecar pages of LARGE's second range. */
class FlippingFileSystem extends NodeFileSystem {
  armed = false;

  override open(path: BytePath): OpenFile {
    const file = super.open(path);
    if (!path.endsWith(`${LARGE}_tde`)) return file;
    const read = file.read.bind(file);
    file.read = (buffer, offset, length, position): number => {
      const count = read(buffer, offset, length, position);
      if (this.armed && position === SECOND_RANGE && count > 0) {
        buffer[offset] = (buffer[offset] ?? 0) ^ 1;
        this.armed = false;
      }
      return count;
    };
    return file;
  }
}

/** With a file of two chunks. */
function makeCluster(): string {
  const datadir = makeSmallCluster();
  const path = join(datadir, LARGE);
  appendFileSync(path, readFileSync(path));
  return datadir;
}

function inRanges(fs: FlippingFileSystem): SmallEngine {
  const small = new SmallEngine({ fs });
  const startRunner: SmallEngine["engine"]["startRunner"] = (context, onBytes) =>
    Object.assign(new InlineRunner(fs, context, onBytes), { limits: LIMITS });
  Object.assign(small.engine, { startRunner });
  return small;
}

test("a proof does not vouch for a digest of other bytes than those whose MACs held", async () => {
  const datadir = makeCluster();
  const fs = new FlippingFileSystem();
  const small = inRanges(fs);
  fs.armed = true;
  await assert.rejects(small.encrypt(datadir), (error: Error) => {
    assert.ok(error instanceof IntegrityError);
    assert.match(error.message, /1255 .*not the same in two reads/);
    return true;
  });
  assert.equal(fs.armed, false);
  await small.encrypt(datadir);
  assert.equal((await small.verify(datadir)).problemCount, 0);
});

test("verify reports a sidecar that was not the same in two reads", async () => {
  const datadir = makeCluster();
  const fs = new FlippingFileSystem();
  const small = inRanges(fs);
  await small.encrypt(datadir);
  fs.armed = true;
  const { problems } = await small.verify(datadir);
  assert.ok(
    problems.some(({ message }) => message === "the sidecar was not the same in two reads"),
  );
  assert.equal((await small.verify(datadir)).problemCount, 0);
});

/** With a file of five ranges, the last of them not full and with an odd tail. */
function makeClusterOfFiveRanges(): string {
  const datadir = makeSmallCluster();
  const path = join(datadir, LARGE);
  const pages = readFileSync(path);
  const blocks = 4 * RANGE_BLOCKS + 20;
  const bytes = Buffer.alloc(blocks * BLOCK_SIZE + 99);
  for (let at = 0; at < bytes.length; at += pages.length) pages.copy(bytes, at);
  writeFileSync(path, bytes);
  return datadir;
}

/** A block of each range: its first, its last, one between, and the odd tail. */
const IN_EVERY_RANGE = [0, RANGE_BLOCKS - 1, RANGE_BLOCKS, 2 * RANGE_BLOCKS + 77].concat([
  3 * RANGE_BLOCKS,
  4 * RANGE_BLOCKS,
  4 * RANGE_BLOCKS + 19,
  4 * RANGE_BLOCKS + 20,
]);

test("damage in each range of a large file is found, and stops its decryption", async () => {
  const small = inRanges(new FlippingFileSystem());
  const encrypted = makeClusterOfFiveRanges();
  await small.encrypt(encrypted);
  assert.deepEqual((await small.verify(encrypted)).problems, []);
  for (const block of IN_EVERY_RANGE) {
    const datadir = copyOf(encrypted);
    flipBit(join(datadir, LARGE), (block * BLOCK_SIZE + 90) * 8);
    const { ok, problems, problemCount } = await small.verify(datadir);
    const found = new Set(problems.map((problem) => `${problem.path} ${problem.block}`));
    assert.deepEqual([ok, [...found]], [false, [`${LARGE} ${block}`]]);
    assert.equal(problemCount, problems.length);
    await assert.rejects(small.decrypt(datadir), IntegrityError, `block ${block}`);
  }
});

test("damage in each range of a large file's sidecar is found", async () => {
  const small = inRanges(new FlippingFileSystem());
  const encrypted = makeClusterOfFiveRanges();
  await small.encrypt(encrypted);
  for (const block of IN_EVERY_RANGE) {
    const datadir = copyOf(encrypted);
    flipBit(`${join(datadir, LARGE)}_tde`, (slotAt(block) + SLOT.nonce) * 8);
    const { problems } = await small.verify(datadir);
    const page = Math.floor(block / slotsPerPage(BLOCK_SIZE));
    const found = problems.map(({ kind, path, message }) => `${kind} ${path} ${message}`);
    assert.ok(
      found.some((problem) => problem.startsWith(`sidecar ${LARGE} sidecar page ${page}: `)),
      found.join("\n"),
    );
  }
});

test("damage in all ranges of a large file is counted, however much of it there is", async () => {
  const small = inRanges(new FlippingFileSystem());
  const datadir = makeClusterOfFiveRanges();
  await small.encrypt(datadir);
  edit(join(datadir, LARGE), (bytes) => {
    for (let at = 0; at < bytes.length; at += BLOCK_SIZE)
      bytes[at + 90] = (bytes[at + 90] ?? 0) ^ 1;
  });
  const { problems, problemCount } = await small.verify(datadir);
  // Each page fails by its checksum and by its tag; the tail has no checksum.
  assert.equal(problemCount, 2 * (4 * RANGE_BLOCKS + 20) + 1);
  assert.ok(problems.length < problemCount && problems.length >= 200);
});
