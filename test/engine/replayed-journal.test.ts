/**
 * A journal says that files without a sidecar are decrypted already. So one that belongs to another directory, or to
 * another encryption of this one, must never be taken up: it would let anybody's files pass as decrypted.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { recoverDatadir } from "../../src/engine/recover.ts";
import { IntegrityError, TdeError } from "../../src/errors.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import { copyOf, makeSmallCluster, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const small = new SmallEngine();
let plain = "";
let encrypted = "";
/** Interrupted half-way, with a journal that names steps. */
let halfEncrypted = "";
let halfDecrypted = "";

before(async () => {
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  await small.encrypt(encrypted);
  [halfEncrypted, halfDecrypted] = [copyOf(plain), copyOf(plain)];
  await stopAtJournalEntry(halfEncrypted, (engine) => engine.encrypt(halfEncrypted));
  await small.encrypt(halfDecrypted);
  await stopAtJournalEntry(halfDecrypted, (engine) => engine.decrypt(halfDecrypted));
});

test("a decryption's journal of another directory is not taken up", async () => {
  const datadir = copyOf(encrypted);
  // Someone's own content, which would pass as decrypted already.
  writeFileSync(join(datadir, ORDINARY), Buffer.alloc(8192, 7));
  rmSync(sidecarOf(join(datadir, ORDINARY)));
  copyFileSync(join(halfDecrypted, "tde.journal"), join(datadir, "tde.journal"));
  await assertRefused(datadir, () => small.decrypt(datadir));
  await assertRefused(datadir, () => recover(datadir));
});

test("an encryption's journal of another directory is not taken up in an encrypted one", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, ORDINARY), Buffer.alloc(8192, 7));
  rmSync(sidecarOf(join(datadir, ORDINARY)));
  copyFileSync(join(halfEncrypted, "tde.journal"), join(datadir, "tde.journal"));
  await assertRefused(datadir, () => small.encrypt(datadir));
  await assertRefused(datadir, () => recover(datadir));
});

test("an interrupted run is finished by recovery", async () => {
  const [one, other] = [copyOf(halfEncrypted), copyOf(halfDecrypted)];
  await recover(one);
  assert.deepEqual((await small.verify(one)).problems, []);
  await recover(other);
  assertSameTree(treeOf(other), treeOf(plain));
});

for (const [what, half] of [
  ["encryption", () => halfEncrypted],
  ["decryption", () => halfDecrypted],
] as const) {
  test(`a journal of an interrupted ${what} with a flipped bit or a cut is refused, or read up to there`, async () => {
    const size = readFileSync(join(half(), "tde.journal")).length;
    const step = Math.max(1, Math.floor((size * 8) / 20));
    for (let bit = 3; bit < size * 8; bit += step) {
      for (const damage of ["flip", "cut"] as const) {
        const datadir = copyOf(half());
        const journal = join(datadir, "tde.journal");
        if (damage === "flip") flipBit(journal, bit);
        else writeFileSync(journal, readFileSync(journal).subarray(0, bit >> 3));
        try {
          await recover(datadir);
        } catch (error) {
          assert.ok(error instanceof TdeError, `${damage} at bit ${bit}: ${String(error)}`);
          continue;
        }
        // A torn last entry is no damage: then the result must be the same as ever.
        if (what === "decryption") assertSameTree(treeOf(datadir), treeOf(plain));
        else assert.deepEqual((await small.verify(datadir)).problems, [], `${damage} ${bit}`);
      }
    }
  });
}

const CHANGES: Readonly<Record<string, (datadir: string) => void>> = {
  "someone's own plain file in the place of a sealed one": (datadir) => {
    writeFileSync(join(datadir, ORDINARY), readFileSync(join(plain, ORDINARY)));
    rmSync(sidecarOf(join(datadir, ORDINARY)));
  },
  "a readable file that was changed": (datadir) =>
    writeFileSync(join(datadir, "pg_hba.conf"), "host all all all trust\n"),
  "a file that is gone": (datadir) => {
    rmSync(join(datadir, ORDINARY));
    rmSync(sidecarOf(join(datadir, ORDINARY)));
  },
};
for (const [what, change] of Object.entries(CHANGES)) {
  test(`encrypting what is new in an encrypted directory does not vouch for ${what}`, async () => {
    const datadir = copyOf(encrypted);
    change(datadir);
    writeFileSync(join(datadir, "base/1/99999"), readFileSync(join(plain, ORDINARY)));
    await assertRefused(datadir, () => small.encrypt(datadir));
  });
}

test("encrypting an encrypted directory again seals what is new, and only that", async () => {
  const datadir = copyOf(encrypted);
  const before = treeOf(datadir);
  writeFileSync(join(datadir, "base/1/99999"), readFileSync(join(plain, ORDINARY)));
  const { outcome, survey, epoch } = await small.encrypt(datadir);
  assert.deepEqual([outcome, survey.relations, epoch], ["encrypted", 1, 2n]);
  assertSameTree(treeOf(datadir), before, {
    except: (path) => /99999|tde\.manifest|^\.$/.test(path),
  });
  assert.deepEqual((await small.verify(datadir)).problems, []);
  // The state of before is older now.
  const older = copyOf(encrypted);
  const { problems } = await small.verify(older);
  assert.deepEqual(
    problems.map(({ kind }) => kind),
    ["rollback"],
  );
  await assertRefused(older, () => small.decrypt(older));
});

function recover(datadir: string): ReturnType<typeof recoverDatadir> {
  return recoverDatadir(small.engine, small.keyContext, bytePath(datadir));
}

async function assertRefused(datadir: string, run: () => Promise<unknown>): Promise<void> {
  const before = treeOf(datadir);
  await assert.rejects(run, IntegrityError);
  assertSameTree(treeOf(datadir), before);
}

/** Stops a run in the middle of the steps of its first entry. */
async function stopAtJournalEntry(
  datadir: string,
  run: (engine: SmallEngine) => Promise<unknown>,
): Promise<void> {
  const rehearsal = new StoppingFileSystem();
  const copy = copyOf(datadir);
  const engine = new SmallEngine({ fs: rehearsal });
  await (datadir === halfEncrypted ? engine.encrypt(copy) : engine.decrypt(copy));
  const renames = rehearsal.log.flatMap((what, i) => (what === "rename" ? [i] : []));
  const stopAt = (renames[Math.floor(renames.length / 2)] ?? 0) + 1;
  await assert.rejects(run(new SmallEngine({ fs: new StoppingFileSystem(stopAt) })));
  assert.ok(existsSync(join(datadir, "tde.journal")));
}
