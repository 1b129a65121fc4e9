/**
 * Patches of a sealed relation file: whatever changes in size and pages, the file is whole after each of them, and
 * nothing but what changed is sealed anew.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { joinPath, type BytePath } from "../../src/bytes/byte-path.ts";
import { PageComparison, type ChangedSlots } from "../../src/datadir/compare-relation.ts";
import { patchRange } from "../../src/datadir/patch-relation.ts";
import { type RunFacts, slotCountOf } from "../../src/datadir/relation-job.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { runContextOf } from "../../src/engine/encrypt-datadir.ts";
import { identityOf } from "../../src/datadir/relation-identity.ts";
import { partsOf } from "../../src/engine/sync-patches.ts";
import { slotsPerChunk } from "../../src/format/chunk.ts";
import { slotOffset, slotsPerPage } from "../../src/format/sidecar-page.ts";
import { readSlotFields, SLOT_BYTES } from "../../src/format/slot.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import type { FilePatch } from "../../src/storage/journal.ts";
import { parseRelationPath } from "../../src/datadir/relation-path.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import type { ItemResult } from "../../src/workers/tasks.ts";
import { crashCluster, ROOT } from "../support/crash-cluster.ts";
import { testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";
import {
  BufferFile,
  chunkDigests,
  chunkOf,
  fileIdentity,
  openBytes,
  relationFiles,
  sealBytes,
  type SealedBytes,
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

function factsOf(blockSizeBytes: number, keyCount: number, epoch: bigint): RunFacts {
  const keys = testKeys(keyCount);
  return { blockSizeBytes, dataChecksums: true, keys, keyringId: keys.keyringId, epoch };
}

interface Case {
  readonly blockSize: number;
  readonly before: Buffer;
  readonly after: Buffer;
  readonly limit: number;
}

/** Sizes of up to three chunks and a bit, before and after, with odd tails, changed pages and zero pages. */
const cases: fc.Arbitrary<Case> = fc
  .record(
    {
      blockSize: fc.constantFrom(1024, 8192),
      chunksBefore: fc.double({ min: 0.001, max: 3.2, noNaN: true }),
      chunksAfter: fc.double({ min: 0.001, max: 3.2, noNaN: true }),
      sameSize: fc.boolean(),
      wholeChunks: fc.boolean(),
      tails: fc.tuple(fc.nat(1023), fc.nat(1023)),
      changed: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
        maxLength: 12,
      }),
      limit: fc.constantFrom(1, 2 ** 20, 2 ** 23),
    },
    { noNullPrototype: true },
  )
  .map(({ blockSize, chunksBefore, chunksAfter, sameSize, wholeChunks, tails, changed, limit }) => {
    const slots = slotsPerChunk(blockSize);
    const size = (chunks: number, tail: number): number => {
      const blocks = wholeChunks ? Math.ceil(chunks) * slots : Math.ceil(chunks * slots);
      return blocks * blockSize + (wholeChunks ? 0 : tail);
    };
    const before = pages(size(chunksBefore, tails[0]), blockSize);
    const after = sameSize ? Buffer.from(before) : resized(before, size(chunksAfter, tails[1]));
    for (const [i, share] of changed.entries()) {
      const at = Math.floor(share * slotCountOf(after.length, blockSize)) * blockSize;
      after.fill(i % 3 === 0 ? 0 : 0x77, at, Math.min(at + blockSize, after.length));
    }
    return { blockSize, before, after, limit };
  });

function pages(sizeBytes: number, blockSize: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += blockSize)
    bytes.fill((at / blockSize) % 251, at, Math.min(at + blockSize, sizeBytes));
  return bytes;
}

function resized(bytes: Buffer, sizeBytes: number): Buffer {
  const next = Buffer.alloc(sizeBytes, 0x42);
  bytes.copy(next);
  return next;
}

test("after each patch a file is whole, and after the last it is what its original is", () => {
  assertProperty(
    fc.property(cases, ({ blockSize, before, after, limit }) => {
      const sealed = sealBytes(factsOf(blockSize, 1, 1n), IDENTITY, before);
      const facts = factsOf(blockSize, 2, 2n);
      const changed = compare(facts, sealed, after);
      const file = {
        path: "base/5/16384" as BytePath,
        sourceBytes: after.length,
        sealedBytes: before.length,
        sidecarDigest: "",
        changed: changed === undefined ? [] : [changed],
      };
      let now: SealedBytes = sealed;
      const chunkSlots = slotsPerChunk(blockSize);
      const digests = chunkDigests(sealed.sidecar, blockSize);
      for (const part of partsOf(file, blockSize, limit)) {
        assert.equal(part.sizeBeforeBytes, now.stored.length);
        const patched = patchRange(
          chunkOf(blockSize),
          facts,
          relationFiles(IDENTITY, part.sizeBeforeBytes),
          { original: new BufferFile(after), sidecar: new BufferFile(now.sidecar) },
          { ...part, sidecarDigests: digests.slice(part.range.firstSlot / chunkSlots) },
          (problem) => assert.fail(problem.message),
        );
        now = {
          stored: apply(now.stored, { sizeBytes: part.sizeAfterBytes, parts: patched.sealed }),
          sidecar: apply(now.sidecar, { sizeBytes: patched.sidecarBytes, parts: patched.sidecar }),
        };
        assert.deepEqual(openBytes(facts, IDENTITY, now).problems, []);
        for (const [i, digest] of patched.sidecarDigests.entries())
          if (digest !== undefined) digests[part.range.firstSlot / chunkSlots + i] = digest;
        // What the next part must find is what lies there now.
        const there = chunkDigests(now.sidecar, blockSize);
        assert.deepEqual(digests.slice(0, there.length), there);
      }
      assert.deepEqual(openBytes(facts, IDENTITY, now).plain, after);
      assertOnlyChangedAreNew(blockSize, before, after, sealed, now);
    }),
    30,
  );
});

/** A page has a new slot under the newer key exactly when a byte of it differs. */
function assertOnlyChangedAreNew(
  blockSize: number,
  before: Buffer,
  after: Buffer,
  old: SealedBytes,
  now: SealedBytes,
): void {
  for (let slot = 0; slot < slotCountOf(after.length, blockSize); slot++) {
    const [start, end] = [slot * blockSize, (slot + 1) * blockSize];
    const isSame = before.subarray(start, end).equals(after.subarray(start, end));
    const { keyId, epoch } = readSlotFields(now.sidecar, slotAt(slot, blockSize));
    assert.deepEqual([keyId, epoch], isSame ? [1, 1n] : [2, 2n], `slot ${slot}`);
    if (!isSame) continue;
    const at = slotAt(slot, blockSize);
    assert.ok(
      now.sidecar.subarray(at, at + SLOT_BYTES).equals(old.sidecar.subarray(at, at + SLOT_BYTES)),
    );
    assert.ok(now.stored.subarray(start, end).equals(old.stored.subarray(start, end)));
  }
}

function slotAt(slot: number, blockSize: number): number {
  const perPage = slotsPerPage(blockSize);
  return Math.floor(slot / perPage) * blockSize + slotOffset(slot % perPage);
}

function compare(facts: RunFacts, sealed: SealedBytes, after: Buffer): ChangedSlots | undefined {
  const chunk = chunkOf(facts.blockSizeBytes);
  const slots = {
    firstSlot: 0,
    slotCount: slotCountOf(sealed.stored.length, facts.blockSizeBytes),
  };
  const buffer = Buffer.alloc(chunk.data.length);
  const comparison = new PageComparison(chunk, new BufferFile(after), after.length, slots, buffer);
  const opened = openBytes(facts, IDENTITY, sealed, "tags", (firstSlot, bytes) =>
    comparison.take(bytes, firstSlot * facts.blockSizeBytes),
  );
  assert.deepEqual(opened.problems, []);
  return comparison.changed;
}

function apply(bytes: Buffer, { sizeBytes, parts }: Omit<FilePatch, "path">): Buffer {
  const next = Buffer.alloc(sizeBytes);
  bytes.copy(next);
  for (const { position, bytes: part } of parts) next.set(part, position);
  return next;
}

test("a worker that is not told which pages changed finds out", async () => {
  const { run, changedBlocks, digests } = await sealedAndChanged();
  const [result] = await run(undefined, digests);
  const [sidecar, sealed] = result?.patches ?? [];
  assert.equal(sidecar?.path, sidecarName(PATCHED));
  assert.deepEqual(
    sealed?.parts.map(({ position }) => position / 8192),
    changedBlocks,
  );
});

test("sidecar pages that are not those which were compared are not authenticated anew, wherever they are read", async () => {
  const { run, digests, changed } = await sealedAndChanged();
  assert.equal(digests.length, 2);
  for (const [told, chunks] of [
    [changed, [0]],
    // Which pages changed is found out by a comparison, and that is of all of them.
    [undefined, [0, 1]],
  ] as const) {
    for (const i of chunks) {
      const others = digests.with(i, "0".repeat(64));
      await assert.rejects(run(told, others), {
        code: "integrity",
        file: PATCHED,
        message: /the sidecar is not the one any more that was compared/,
      });
    }
  }
});

const PATCHED = "base/5/2600" as BytePath;

/** A sealed file, its plain one with pages that changed since, and what has to be patched. */
async function sealedAndChanged(): Promise<{
  readonly changedBlocks: readonly number[];
  readonly changed: ChangedSlots;
  readonly digests: string[];
  readonly run: (
    changed: ChangedSlots | undefined,
    digests: readonly string[],
  ) => Promise<ItemResult[]>;
}> {
  const disk = crashCluster();
  const path = PATCHED;
  const datadir = openDatadir(disk, ROOT);
  const keys = testKeys();
  const context = runContextOf(datadir, { keys, memory: undefined as never }, { epoch: 1n });
  const runner = new InlineRunner(disk, context, () => {});
  const file = parseRelationPath(path, datadir);
  assert.ok(file !== undefined);
  const plain = joinPath(ROOT, path);
  const sizeBytes = disk.stat(plain)?.sizeBytes ?? 0;
  const files = {
    path,
    plain,
    sealed: "/srv/sealed" as BytePath,
    sidecar: "/srv/sealed_tde" as BytePath,
    identity: identityOf(datadir, file),
    sizeBytes,
  };
  await runner.run({ kind: "seal", items: [{ kind: "relation", files }] });
  const changedBlocks = [2, 70, 100];
  const opened = disk.openForWriting(plain);
  for (const block of changedBlocks)
    opened.write(Buffer.from("changed"), 0, 7, block * 8192 + 4000);
  opened.close();
  const bits = new Uint8Array(Math.ceil(sizeBytes / 8192 / 8));
  for (const block of changedBlocks)
    bits[block >> 3] = (bits[block >> 3] ?? 0) | (1 << (block & 7));
  return {
    changedBlocks,
    changed: { firstSlot: 0, bits, count: changedBlocks.length },
    digests: chunkDigests(readWholeFile(disk, files.sidecar, 2 ** 20), 8192),
    run: (changed, sidecarDigests) =>
      runner.run({
        kind: "patch",
        items: [
          {
            files,
            plainSizeBytes: sizeBytes,
            range: { firstSlot: 0, slotCount: sizeBytes / 8192 },
            sizeAfterBytes: sizeBytes,
            changed,
            sidecarDigests,
          },
        ],
      }),
  };
}
