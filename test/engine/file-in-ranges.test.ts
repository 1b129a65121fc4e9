/**
 * A large file is checked in ranges by several workers, and its digest comes of another read of its sidecar.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { IntegrityError } from "../../src/errors.ts";
import { slotsPerChunk } from "../../src/format/chunk.ts";
import { slotsPerPage } from "../../src/format/sidecar-page.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import { BLOCK_SIZE, LARGE, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";

/** A chunk of pages in each range. */
const LIMITS = { files: 5, bytes: 2 ** 20, largeFileBytes: 2 ** 19, rangeBytes: 2 ** 17 };
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
