/**
 * Salts of files: never one twice, also where one run writes one file again, and known again by the run that made them and
 * by no other.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ContainerSealer } from "../../src/format/container-sealer.ts";
import { walContext } from "../../src/format/container.ts";
import { deriveSaltKey, isSaltOfRun, newFileSalt } from "../../src/format/file-salt.ts";
import { assertNoNonceTwice } from "../support/messages.ts";
import { KEYRING_ID, testDek } from "../support/keys.ts";

const PATH = "base/5/16384";
const RUN = deriveSaltKey(testDek(1), Buffer.alloc(16, 7));

/** All of the first bytes are random: each has many values over many salts. */
function assertRandom(salts: readonly Buffer[], bytes: number): void {
  assert.equal(new Set(salts.map((salt) => salt.toString("hex"))).size, salts.length);
  for (let i = 0; i < bytes; i++)
    assert.ok(new Set(salts.map((salt) => salt[i])).size > 50, `byte ${i}`);
}

test("a run that writes a file again gives it another salt", () => {
  const salts = Array.from({ length: 300 }, () => newFileSalt(RUN, PATH));
  assert.ok(salts.every(({ length }) => length === 16));
  assertRandom(salts, 16);
});

test("outside of a run all of a salt is random", () => {
  const salts = Array.from({ length: 300 }, () => newFileSalt(undefined, PATH));
  assert.ok(salts.every(({ length }) => length === 16));
  assertRandom(salts, 16);
  assert.ok(salts.every((salt) => !isSaltOfRun(RUN, PATH, salt)));
});

test("a salt is known again by its run, for its file, and as it was made", () => {
  const salt = newFileSalt(RUN, PATH);
  assert.ok(isSaltOfRun(RUN, PATH, salt));
  for (const path of ["base/5/16385", "base/5/16384_fsm", "base/5/1638", ""])
    assert.ok(!isSaltOfRun(RUN, path, salt), path);
  for (const run of [
    deriveSaltKey(testDek(1), Buffer.alloc(16, 8)),
    deriveSaltKey(testDek(2), Buffer.alloc(16, 7)),
  ])
    assert.ok(!isSaltOfRun(run, PATH, salt));
  for (let bit = 0; bit < 128; bit++) {
    const changed = Buffer.from(salt);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.ok(!isSaltOfRun(RUN, PATH, changed), `bit ${bit}`);
  }
  for (const length of [0, 8, 15]) assert.ok(!isSaltOfRun(RUN, PATH, salt.subarray(0, length)));
});

test("two containers of one context have keys of their own", () => {
  const messages = ["one file of WAL", "another of that name"].map((text) => {
    const sealer = new ContainerSealer(testDek(1), {
      keyId: 1,
      keyringId: KEYRING_ID,
      systemIdentifier: 0n,
      context: walContext("00000001.history"),
      contentSizeBytes: text.length,
    });
    const chunks = [...sealer.seal(Buffer.from(text)), ...sealer.finish()];
    const commitment = sealer.header.toString("hex", 80, 112);
    return {
      where: text,
      keyAndNonce: commitment,
      tag: (chunks[1] ?? assert.fail()).toString("hex"),
    };
  });
  assertNoNonceTwice(messages);
});
