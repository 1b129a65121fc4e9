/**
 * Over the life of an encrypted directory no key takes one nonce for two messages, whatever is sealed anew under the
 * key that is current all the while: pages in place, files, containers, segments of WAL.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { filler, message } from "../support/written-wal.ts";
import { addSegments, saveSegments } from "../support/small-wal.ts";
import { edit } from "../support/forger.ts";
import { assertNoNonceTwice, type Message, messagesOf } from "../support/messages.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
} from "../support/small-cluster.ts";

/** Large enough to be patched, of several chunks. */
const BIG = "base/1/90003";
const BIG_PAGES = 2000;
const PATCHED = [0, 62, 63, 1000, 1999];

test("no nonce comes twice under one key over an encryption and syncs of pages, files and WAL", async () => {
  const small = new SmallEngine();
  const source = makeSmallCluster();
  const { writer } = addSegments(source);
  const pages = readFileSync(join(source, LARGE));
  const big = Buffer.alloc(BIG_PAGES * BLOCK_SIZE);
  for (let at = 0; at < big.length; at += pages.length) pages.copy(big, at);
  writeFileSync(join(source, BIG), big, { mode: 0o600 });
  const copy = copyOf(source);
  await small.encrypt(copy, { wal: "readable" });

  const seen = messagesOf(copy);
  assert.ok(seen.length > BIG_PAGES + 3 * 128, `${seen.length} messages`);
  for (const round of [1, 2]) {
    edit(join(source, BIG), (bytes) => {
      for (const block of PATCHED)
        bytes.fill(round, block * BLOCK_SIZE + 4000, block * BLOCK_SIZE + 4100);
    });
    edit(join(source, ORDINARY), (bytes) => void bytes.fill(round, 5000, 5100));
    writeFileSync(join(source, "pg_twophase/0000000000000001"), `round ${round}`, { mode: 0o600 });
    writer.append(message("round", Buffer.from(`${round}`)));
    writer.append(filler(2000));
    saveSegments(source, writer);
    assert.equal((await small.sync(source, copy)).outcome, "synced");
    const now = messagesOf(copy);
    for (const block of PATCHED) assertMoved(seen, now, `${BIG} block ${block}`);
    assertMoved(seen, now, `${ORDINARY} block 0`);
    seen.push(...now);
    assertNoNonceTwice(seen);
  }
  assert.deepEqual((await small.verify(copy)).problems, []);
});

/** Whether what was sealed anew is another message than any before it: else nothing was tested. */
function assertMoved(before: readonly Message[], now: readonly Message[], where: string): void {
  const tag = now.find((each) => each.where === where)?.tag;
  assert.ok(tag !== undefined, where);
  assert.ok(!before.some((each) => each.where === where && each.tag === tag), where);
}
