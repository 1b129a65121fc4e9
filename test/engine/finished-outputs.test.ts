/**
 * A run into a new directory that was stopped behind its committed entry is only ended by the next one. Nothing is known
 * then of what lies there and of its source: neither is called the same, and a decryption's files are not called proved.
 */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import type { DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import { decryptRelationsInto } from "../../src/engine/decrypt-relations.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import type { EncryptReport } from "../../src/engine/encrypt-report.ts";
import { StateError } from "../../src/errors.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { temporaryPath } from "../support/cluster.ts";
import { sidecarOf } from "../support/forger.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const JOURNAL = "tde.journal";

type Fill<Report> = (small: SmallEngine, source: string, output: string) => Promise<Report>;

const encryptInto: Fill<EncryptReport> = (small, source, output) =>
  encryptIntoOutput(small.engine, small.keyContext, small.encryptOptions(source), {
    output: bytePath(output),
    tablespaceMapping: new Map(),
  });

const decryptInto: Fill<DecryptReport> = (small, source, output) =>
  decryptIntoOutput(small.engine, small.keyContext, small.decryptOptions(source), {
    output: bytePath(output),
    tablespaceMapping: new Map(),
  });

const decryptOneInto: Fill<unknown> = (small, source, output) =>
  decryptRelationsInto(small.engine, small.keyContext, {
    ...small.decryptOptions(source),
    named: { ...NOTHING_SELECTED, relations: [bytePath(ORDINARY)] },
    output: bytePath(output),
  });

interface Stop {
  readonly output: string;
  readonly memory: TestMemory;
  readonly small: SmallEngine;
}

/** Fills new directories, each time stopped at another of the last operations, from just before the committed entry on. */
async function* stoppedAtEnd(
  fill: Fill<unknown>,
  source: string,
  known: TestMemory,
): AsyncGenerator<Stop> {
  const rehearsal = new StoppingFileSystem();
  const rehearsed = new SmallEngine({ fs: rehearsal, memory: known.copy() });
  await fill(rehearsed, source, join(temporaryPath("output"), "output"));
  const { log, paths, operations } = rehearsal;
  // Its last write is the committed entry.
  const entry = log.findLastIndex(
    (what, i) => what === "write" && /journal[^/]*$/.test(paths[i] ?? ""),
  );
  assert.ok(entry > 0);
  for (let stopAt = entry + 1; stopAt <= operations; stopAt++) {
    const output = join(temporaryPath("output"), "output");
    const memory = known.copy();
    const stopped = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory });
    await assert.rejects(fill(stopped, source, output), Stopped);
    rmSync(join(output, "tde.lock"), { force: true });
    if (existsSync(join(output, JOURNAL)))
      yield { output, memory, small: new SmallEngine({ memory }) };
  }
}

test("encrypt-datadir --output never says that an output of an earlier run is its source", async () => {
  const plain = makeSmallCluster();
  const changed = copyOf(plain);
  appendFileSync(join(changed, "postgresql.conf"), "# later\n");
  const outcomes = new Set<string>();
  let isSynced = false;
  for await (const { output, small } of stoppedAtEnd(encryptInto, plain, new TestMemory())) {
    try {
      const { outcome } = await encryptInto(small, changed, output);
      if (outcomes.has(outcome)) continue;
      outcomes.add(outcome);
      await small.decrypt(output);
      assertSameTree(treeOf(output), treeOf(changed));
    } catch (error) {
      assert.ok(error instanceof Error);
      assert.match(error.message, /was filled by an earlier run, which is ended now/);
      outcomes.add("refused");
      assert.ok(!existsSync(join(output, JOURNAL)));
      if (isSynced) continue;
      isSynced = true;
      // As the hint says.
      assert.equal((await small.verify(output)).ok, true);
      await small.sync(changed, output);
      await small.decrypt(output);
      assertSameTree(treeOf(output), treeOf(changed));
    }
  }
  assert.deepEqual([...outcomes].sort(), ["encrypted", "refused"]);
});

test("recover says of an encrypted output whether what its manifest names is there", async () => {
  const outcomes = new Set<string>();
  for await (const { output, memory, small } of stoppedAtEnd(
    encryptInto,
    makeSmallCluster(),
    new TestMemory(),
  )) {
    const [before, known] = [copyOf(output), memory.copy()];
    const intact = await small.recover(output);
    outcomes.add(intact);
    if (intact === "output-emptied") continue;
    assert.equal((await small.verify(output)).ok, true);
    const spoils: (() => void)[] = [
      () => rmSync(join(output, ORDINARY)),
      () => rmSync(sidecarOf(join(output, ORDINARY))),
      () => appendFileSync(join(output, ORDINARY), "more"),
      () => writeFileSync(join(output, "base/1/99999"), "another's"),
    ];
    for (const spoil of spoils) {
      rmSync(output, { recursive: true });
      copyTree(before, output);
      memory.become(known);
      spoil();
      assert.equal(await small.recover(output), "output-altered");
      assert.match(small.notices.at(-1) ?? "", /base\/1\//);
      assert.ok(!existsSync(join(output, JOURNAL)));
    }
  }
  assert.deepEqual([...outcomes].sort(), ["output-emptied", "output-finished"]);
});

test("decrypt-datadir --output proves what it leaves, or says that it does not", async () => {
  const plain = makeSmallCluster();
  const memory = new TestMemory();
  const sealed = copyOf(plain);
  await new SmallEngine({ memory }).encrypt(sealed);
  const outcomes = new Set<string>();
  for await (const { output, small } of stoppedAtEnd(decryptInto, sealed, memory)) {
    const isFilled = existsSync(join(output, ORDINARY));
    if (isFilled) writeFileSync(join(output, ORDINARY), "altered");
    const { outcome, unchecked, files, controlRestored } = await decryptInto(small, sealed, output);
    outcomes.add(outcome);
    if (outcome === "decrypted") {
      assert.equal(unchecked, 0);
      assertSameTree(treeOf(output), treeOf(plain));
    } else {
      assert.deepEqual([unchecked, files, controlRestored], ["all", 0, false]);
    }
    assert.ok(!existsSync(join(output, JOURNAL)));
  }
  assert.deepEqual([...outcomes].sort(), ["decrypted", "ended-before"]);
});

test("an output of another directory, or of another state of it, is not called decrypted", async () => {
  const memory = new TestMemory();
  const sealed = makeSmallCluster();
  await new SmallEngine({ memory }).encrypt(sealed);
  const other = makeSmallCluster();
  await new SmallEngine().encrypt(other);
  const newer = copyOf(sealed);
  await new SmallEngine({ memory: memory.copy() }).rotate(newer);
  let refused = 0;
  for await (const { output, small } of stoppedAtEnd(decryptInto, sealed, memory)) {
    const before = treeOf(output);
    for (const source of [other, newer]) {
      try {
        const { outcome } = await decryptInto(small, source, output);
        // The earlier run was undone.
        assert.equal(outcome, "decrypted");
        break;
      } catch (error) {
        assert.ok(error instanceof StateError, String(error));
        assert.match(error.message, /filled by an earlier run from another directory, or from/);
        assertSameTree(treeOf(output), before, { except: (path) => path === "." });
        refused++;
      }
    }
    if (existsSync(join(output, JOURNAL)))
      assert.equal(await small.recover(output), "output-unproved");
  }
  assert.ok(refused > 2 && refused % 2 === 0, `${refused}`);
});

test("recover calls no decrypted output proved, and empties none that is finished", async () => {
  const memory = new TestMemory();
  const sealed = makeSmallCluster();
  await new SmallEngine({ memory }).encrypt(sealed);
  for (const fill of [decryptInto, decryptOneInto]) {
    const outcomes = new Set<string>();
    for await (const { output, small } of stoppedAtEnd(fill, sealed, memory)) {
      const outcome = await small.recover(output);
      outcomes.add(outcome);
      assert.equal(existsSync(join(output, ORDINARY)), outcome === "output-unproved");
    }
    assert.deepEqual([...outcomes].sort(), ["output-emptied", "output-unproved"]);
  }
});
