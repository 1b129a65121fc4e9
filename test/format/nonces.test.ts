/**
 * No key ever takes one nonce for two messages: not within a file, however many chunks and ranges it has, and not when
 * pages of it are sealed anew under the key that it has.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isSlotChanged } from "../../src/datadir/compare-relation.ts";
import { patchRange } from "../../src/datadir/patch-relation.ts";
import type { RunFacts } from "../../src/datadir/relation-job.ts";
import { slotsPerChunk } from "../../src/format/chunk.ts";
import { KEYRING_ID, testKeys } from "../support/keys.ts";
import { assertNoNonceTwice, type Message, messagesIn } from "../support/messages.ts";
import {
  BufferFile,
  chunkDigests,
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
  segment: 0,
  firstBlock: 0,
  backend: 0xffffffff,
});

function factsOf(blockSizeBytes: number, epoch: bigint): RunFacts {
  return { blockSizeBytes, dataChecksums: true, keys: testKeys(), keyringId: KEYRING_ID, epoch };
}

/** More than three chunks, the last one not full, with an odd tail, zero pages and pages of one content. */
function largeFile(blockSize: number): Buffer {
  const bytes = Buffer.alloc(3 * slotsPerChunk(blockSize) * blockSize + 5 * blockSize + 77);
  for (let block = 0; block * blockSize < bytes.length; block++) {
    if (block % 7 !== 3)
      bytes.subarray(block * blockSize + 24, (block + 1) * blockSize).fill(block % 2);
  }
  return bytes;
}

for (const blockSize of [1024, 8192, 32768]) {
  test(`every message of a file of several chunks has a nonce of its own, in blocks of ${blockSize} bytes`, () => {
    const plain = largeFile(blockSize);
    const { sidecar } = sealBytes(factsOf(blockSize, 1n), IDENTITY, plain);
    const messages = messagesIn("the file", sidecar, blockSize);
    assert.equal(messages.length, Math.ceil(plain.length / blockSize));
    // Twelve random bytes: were half of them always zero, no test of repetition would tell.
    assertNonces(messages);
    assertNoNonceTwice(messages);
    assert.equal(new Set(messages.map(({ keyAndNonce }) => keyAndNonce)).size, messages.length);
  });

  test(`a page that is sealed anew under the key it has gets a new nonce, in blocks of ${blockSize} bytes`, () => {
    const chunk = chunkOf(blockSize);
    const plain = largeFile(blockSize);
    const { sidecar } = sealBytes(factsOf(blockSize, 1n), IDENTITY, plain);
    const slotCount = Math.ceil(plain.length / blockSize);
    const bits = new Uint8Array(Math.ceil(slotCount / 8)).fill(0b10101);
    const changed = { firstSlot: 0, bits, count: slotCount };
    const next = Buffer.from(plain);
    for (let block = 0; block < slotCount; block++)
      if (isSlotChanged(changed, block)) next[block * blockSize + 30] = 0x5a;
    const { sidecar: slots } = patchRange(
      chunk,
      factsOf(blockSize, 2n),
      relationFiles(IDENTITY, plain.length),
      { original: new BufferFile(next), sidecar: new BufferFile(sidecar) },
      {
        range: { firstSlot: 0, slotCount },
        sizeAfterBytes: next.length,
        changed,
        sidecarDigests: chunkDigests(sidecar, blockSize),
      },
      (problem) => assert.fail(problem.message),
    );
    const patched = Buffer.from(sidecar);
    for (const { position, bytes } of slots) patched.set(bytes, position);
    const before = messagesIn("before", sidecar, blockSize);
    const now = messagesIn("after", patched, blockSize);
    const moved = now.filter(({ tag }, block) => tag !== before[block]?.tag).length;
    const wanted = now.filter((_, block) => isSlotChanged(changed, block)).length;
    assert.equal(moved, wanted);
    assertNonces(now);
    assertNoNonceTwice([...before, ...now]);
  });
}

/** All of a nonce is random: each of its bytes has many values over many messages. */
function assertNonces(messages: readonly Message[]): void {
  const nonces = messages.map(({ keyAndNonce }) =>
    Buffer.from(keyAndNonce.split(" ")[1] ?? "", "hex"),
  );
  for (let i = 0; i < 12; i++) {
    const values = new Set(nonces.map((nonce) => nonce[i]));
    assert.ok(values.size > Math.min(20, nonces.length / 4), `byte ${i}: ${values.size} values`);
  }
}
