/**
 * A journal says which files are done. So one counts only while its run is open, in the place where it was begun; what
 * lies in a directory whose run goes on must be what a run of the keyholder made, or what its manifest says.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { recoverDatadir } from "../../src/engine/recover.ts";
import { IntegrityError, StateError, TdeError } from "../../src/errors.ts";
import { readJournalHeader } from "../../src/storage/journal.ts";
import { flipBit, remakeChecksums, sidecarOf } from "../support/forger.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  putBack,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const FORGED = Buffer.alloc(8192, 7);
const HBA = "pg_hba.conf";

const memory = new TestMemory();
const small = new SmallEngine({ memory });
let plain = "";
let encrypted = "";
/** Interrupted half-way, with a journal that names steps. */
let halfEncrypted = "";
let halfDecrypted = "";
let halfWidened = "";

before(async () => {
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  await small.encrypt(encrypted);
  [halfEncrypted, halfDecrypted, halfWidened] = [copyOf(plain), copyOf(plain), copyOf(plain)];
  await stopAtJournalEntry(halfEncrypted, (engine, root) => engine.encrypt(root));
  await small.encrypt(halfDecrypted);
  await stopAtJournalEntry(halfDecrypted, (engine, root) => engine.decrypt(root));
  await small.encrypt(halfWidened, { scope: PART });
  await stopAtJournalEntry(halfWidened, (engine, root) => engine.encrypt(root));
});

/** All but one relation. */
const PART = {
  tablespaces: [],
  databases: [],
  relations: [],
  exclude: [bytePath(ORDINARY)],
  withPartitions: false,
};

test("a decryption's journal of another directory is not taken up", async () => {
  const datadir = copyOf(encrypted);
  // Someone's own content, which would pass as decrypted already.
  writeFileSync(join(datadir, ORDINARY), FORGED);
  rmSync(sidecarOf(join(datadir, ORDINARY)));
  copyFileSync(join(halfDecrypted, "tde.journal"), join(datadir, "tde.journal"));
  await assertRefused(datadir, () => small.decrypt(datadir));
  await assertRefused(datadir, () => recover(datadir));
});

test("an encryption's journal of another directory is not taken up in an encrypted one", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, ORDINARY), FORGED);
  rmSync(sidecarOf(join(datadir, ORDINARY)));
  copyFileSync(join(halfEncrypted, "tde.journal"), join(datadir, "tde.journal"));
  await assertRefused(datadir, () => small.encrypt(datadir));
  await assertRefused(datadir, () => recover(datadir));
});

test("an interrupted run is finished by recovery", async () => {
  await inPlace(halfEncrypted, async (datadir) => {
    await recover(datadir);
    assert.deepEqual((await small.verify(datadir)).problems, []);
  });
  await inPlace(halfDecrypted, async (datadir) => {
    await recover(datadir);
    assertSameTree(treeOf(datadir), treeOf(plain));
  });
  await inPlace(halfWidened, async (datadir) => {
    await recover(datadir);
    assert.deepEqual((await small.verify(datadir)).problems, []);
  });
});

const HALVES: readonly (readonly [what: string, half: () => string])[] = [
  ["encryption", () => halfEncrypted],
  ["decryption", () => halfDecrypted],
  ["wider encryption", () => halfWidened],
];
for (const [what, half] of HALVES) {
  test(`an unfinished ${what} that was copied or moved is not taken up`, async () => {
    const copy = copyOf(half());
    await assertRefused(copy, () => recover(copy));
  });

  test(`the journal of a finished ${what} is refused, and no hint leads to recover`, async () => {
    await inPlace(half(), async (datadir) => {
      const journal = readFileSync(join(datadir, "tde.journal"));
      await recover(datadir);
      writeFileSync(join(datadir, "tde.journal"), journal);
      writeFileSync(join(datadir, ORDINARY), FORGED);
      rmSync(sidecarOf(join(datadir, ORDINARY)), { force: true });
      for (const command of [
        () => recover(datadir),
        () => small.encrypt(datadir),
        () => small.decrypt(datadir),
        () => small.verify(datadir),
      ]) {
        const error = await assertRefused(datadir, command);
        assert.doesNotMatch(error.hint ?? "", /recover/);
      }
    });
  });

  test(`an unfinished ${what} is taken up without the state file only when that is accepted`, async () => {
    await inPlace(half(), async (datadir) => {
      const before = treeOf(datadir);
      const lost = new DoubtfulMemory(false);
      const engine = new SmallEngine({ memory: lost });
      const run = (): Promise<unknown> =>
        recoverDatadir(engine.engine, engine.keyContext, bytePath(datadir));
      await assert.rejects(run, StateError);
      assertSameTree(treeOf(datadir), before, { except: isLock });
      const accepting = new SmallEngine({ memory: new DoubtfulMemory(true) });
      await recoverDatadir(accepting.engine, accepting.keyContext, bytePath(datadir));
      assert.equal(existsSync(join(datadir, "tde.journal")), false);
    });
  });

  test(`a journal of an interrupted ${what} with a flipped bit or a cut is refused, or read up to there`, async () => {
    const size = readFileSync(join(half(), "tde.journal")).length;
    const step = Math.max(1, Math.floor((size * 8) / 20));
    for (let bit = 3; bit < size * 8; bit += step) {
      for (const damage of ["flip", "cut"] as const) {
        await inPlace(half(), async (datadir) => {
          const journal = join(datadir, "tde.journal");
          if (damage === "flip") flipBit(journal, bit);
          else writeFileSync(journal, readFileSync(journal).subarray(0, bit >> 3));
          try {
            await recover(datadir);
          } catch (error) {
            assert.ok(error instanceof TdeError, `${damage} at bit ${bit}: ${String(error)}`);
            return;
          }
          // A torn last entry is no damage: then the result must be the same as ever.
          if (what === "decryption") assertSameTree(treeOf(datadir), treeOf(plain));
          else assert.deepEqual((await small.verify(datadir)).problems, [], `${damage} ${bit}`);
        });
      }
    }
  });
}

/** What somebody does to a directory while a run of it is interrupted; the run must not go on over it. */
const MEANWHILE: Readonly<
  Record<string, readonly [half: () => string, change: (datadir: string) => void]>
> = {
  "a table that the decryption had opened is replaced": [
    () => halfDecrypted,
    (datadir) => writeFileSync(join(datadir, openedBy(datadir)), FORGED),
  ],
  "configuration is edited while a decryption is interrupted": [
    () => halfDecrypted,
    (datadir) => writeFileSync(join(datadir, HBA), "host all all all trust\n"),
  ],
  "transaction states are replaced while a decryption is interrupted": [
    () => halfDecrypted,
    (datadir) => writeFileSync(join(datadir, "pg_xact/0000"), FORGED),
  ],
  "a signal file is added while a decryption is interrupted": [
    () => halfDecrypted,
    (datadir) => writeFileSync(join(datadir, "recovery.signal"), ""),
  ],
  "a setting is put beside the guard while a decryption is interrupted": [
    () => halfDecrypted,
    (datadir) => appendFileSync(join(datadir, "postgresql.auto.conf"), "restore_command = 'x'\n"),
  ],
  "a plain file that the manifest names is replaced before a wider encryption seals it": [
    () => halfWidened,
    (datadir) => {
      writeFileSync(join(datadir, ORDINARY), FORGED);
      rmSync(sidecarOf(join(datadir, ORDINARY)), { force: true });
    },
  ],
  "the manifest of an encryption that is being widened is taken away": [
    () => halfWidened,
    (datadir) => rmSync(join(datadir, "tde.manifest")),
  ],
  "configuration is edited while a wider encryption is interrupted": [
    () => halfWidened,
    (datadir) => writeFileSync(join(datadir, HBA), "host all all all trust\n"),
  ],
  "an older sealed table takes the place of one that the run sealed": [
    () => halfEncrypted,
    (datadir) => {
      const path = sealedBy(datadir);
      copyFileSync(join(encrypted, path), join(datadir, path));
      copyFileSync(sidecarOf(join(encrypted, path)), sidecarOf(join(datadir, path)));
    },
  ],
  "a page that the run sealed is changed, with its checksum made anew": [
    () => halfEncrypted,
    (datadir) => {
      const path = join(datadir, sealedBy(datadir));
      flipBit(path, 5000 * 8);
      remakeChecksums(path);
    },
  ],
  "the guard is replaced while an encryption is interrupted": [
    () => halfEncrypted,
    (datadir) => writeFileSync(join(datadir, "postgresql.auto.conf"), "archive_mode = on\n"),
  ],
};
for (const [what, [half, change]] of Object.entries(MEANWHILE)) {
  test(`${what}: the run does not go on`, async () => {
    await inPlace(half(), async (datadir) => {
      change(datadir);
      await assert.rejects(recover(datadir), IntegrityError);
      await assert.rejects(recover(datadir), IntegrityError);
    });
  });
}

test("a directory with a guard, but neither manifest nor journal, is not encrypted", async () => {
  await inPlace(halfEncrypted, async (datadir) => {
    rmSync(join(datadir, "tde.journal"));
    for (const path of treeOf(datadir).keys())
      if (/_tde(new.*)?$|_tdenew/.test(path)) rmSync(join(datadir, path), { force: true });
    putBackPlain(datadir);
    await assertRefused(datadir, () => small.encrypt(datadir));
  });
});

for (const [what, half] of HALVES) {
  test(`recover does not forget an unfinished ${what} whose journal is away for a moment`, async () => {
    await inPlace(half(), async (datadir) => {
      const path = join(datadir, "tde.journal");
      const journal = readFileSync(path);
      rmSync(path);
      // Beside the lock of the process that was killed, and without it.
      for (const lock of ["left", "gone"]) {
        if (lock === "left") writeFileSync(join(datadir, "tde.lock"), "");
        await assert.rejects(recover(datadir), (error) => {
          assert.ok(error instanceof StateError);
          assert.match(
            error.message,
            /^a run of tde .* is open in ".*", and its journal is missing$/,
          );
          return true;
        });
        assert.equal(memory.openRunsAt(bytePath(datadir)).length, 1);
      }
      writeFileSync(path, journal);
      await recover(datadir);
      assert.equal(memory.openRunsAt(bytePath(datadir)).length, 0);
    });
  });
}

test("recover forgets a run that never began, or that has ended", async () => {
  const registered = {
    runId: "0".repeat(32),
    directoryId: "1".repeat(32),
    operation: "encrypt",
    epoch: 1n,
    time: "2026-11-12T08:00:00Z",
    ended: false,
  } as const;
  const register = (datadir: string, ended = false): void => {
    const place = small.engine.fs.realPath(bytePath(datadir));
    memory.runs.set(registered.runId, { ...registered, place, ended });
  };
  const plainAgain = copyOf(plain);
  register(plainAgain);
  assert.equal(await recover(plainAgain), "nothing-to-do");
  assert.equal(memory.runs.has(registered.runId), false);
  const sealed = copyOf(encrypted);
  register(sealed, true);
  assert.equal(await recover(sealed), "nothing-to-do");
  assert.equal(memory.runs.has(registered.runId), false);
  // What a crash leaves of the journal that was to come.
  register(sealed);
  writeFileSync(join(sealed, "tde_tdenew.journal"), "TDEJ");
  assert.equal(await recover(sealed), "nothing-to-do");
  assert.equal(memory.runs.has(registered.runId), false);
  assert.equal(existsSync(join(sealed, "tde_tdenew.journal")), false);
  // The next command replaces one that it cannot tell from a run whose journal is away.
  register(sealed);
  await assert.rejects(recover(sealed), StateError);
  const own = memory.copy();
  memory.runs.delete(registered.runId);
  await new SmallEngine({ memory: own }).rotate(sealed);
  assert.equal(own.runs.has(registered.runId), false);
});

test("the journal of an ended decryption is not removed beside what a decryption takes away", async () => {
  for (const left of ["all", "tde.manifest", "postgresql.auto.conf", "tde.tags"]) {
    await inPlace(halfDecrypted, async (datadir) => {
      if (left === "tde.tags") writeFileSync(join(datadir, left), "");
      const half = copyOf(datadir);
      const runId = readJournalHeader(small.engine.fs, bytePath(datadir))?.runId.toString("hex");
      const run = memory.runs.get(runId ?? "");
      assert.ok(run !== undefined);
      await recover(datadir);
      memory.runs.set(run.runId, { ...run, ended: true });
      if (left === "all") putBack(half, datadir);
      else
        for (const name of ["tde.journal", left])
          copyFileSync(join(half, name), join(datadir, name));
      await assertRefused(datadir, () => recover(datadir));
      await assertRefused(datadir, () => small.decrypt(datadir));
      assert.ok(existsSync(join(datadir, "tde.journal")));
      memory.runs.set(run.runId, run);
    });
  }
});

test("a journal of no open run may be newer than the state file, and its hint says so first", async () => {
  await inPlace(halfEncrypted, async (datadir) => {
    memory.become(new TestMemory());
    const { hint = "" } = await assertRefused(datadir, () => recover(datadir));
    assert.match(
      hint,
      /state file may be older.*--state.*somebody put.*move the journal away.*tde verify/,
    );
    assert.doesNotMatch(hint, /recover/);
  });
});

test("an original that was taken away once it was sealed comes back", async () => {
  const own = new TestMemory();
  const rehearsal = new StoppingFileSystem();
  await new SmallEngine({ fs: rehearsal, memory: own.copy() }).encrypt(copyOf(plain));
  // The sealed one has its name by then; the guard takes the original's place later.
  const sealed = rehearsal.paths.findLastIndex((path) => path.includes("tde.postgresql.auto"));
  assert.ok(sealed > 0);
  const datadir = copyOf(plain);
  const fs = new StoppingFileSystem(sealed + 3);
  await assert.rejects(new SmallEngine({ fs, memory: own }).encrypt(datadir));
  assert.ok(existsSync(join(datadir, "tde.postgresql.auto.conf")));
  rmSync(join(datadir, "postgresql.auto.conf"));
  const engine = new SmallEngine({ memory: own });
  await engine.encrypt(datadir);
  await engine.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(plain), { except: (path) => path === "." });
});

test("a guard that was moved away is put back when its run goes on", async () => {
  await inPlace(halfEncrypted, async (datadir) => {
    rmSync(join(datadir, "postgresql.auto.conf"));
    await recover(datadir);
    assert.deepEqual((await small.verify(datadir)).problems, []);
    await small.decrypt(datadir);
    assertSameTree(treeOf(datadir), treeOf(plain));
  });
});

test("a run of which all but the journal's removal is done is only ended", async () => {
  await inPlace(halfEncrypted, async (datadir) => {
    const journal = readFileSync(join(datadir, "tde.journal"));
    const runId = readJournalHeader(small.engine.fs, bytePath(datadir))?.runId.toString("hex");
    const run = memory.runs.get(runId ?? "");
    assert.ok(run !== undefined);
    await recover(datadir);
    // As a crash leaves it behind the end of the run in the state file.
    memory.runs.set(run.runId, { ...run, ended: true });
    writeFileSync(join(datadir, "tde.journal"), journal);
    // Nothing that lies there by now is looked at, let alone sealed.
    writeFileSync(join(datadir, ORDINARY), FORGED);
    rmSync(sidecarOf(join(datadir, ORDINARY)));
    const before = treeOf(datadir);
    assert.equal(await recover(datadir), "encryption-finished");
    assertSameTree(treeOf(datadir), before, {
      except: (path) => /(^|\/)tde\.journal$|^\.$/.test(path),
    });
    assert.equal(memory.runs.has(run.runId), false);
    assert.equal((await small.verify(datadir)).ok, false);
  });
});

/** All but the guard and the sealed original as it was before encryption. */
function putBackPlain(datadir: string): void {
  for (const [path, { kind }] of treeOf(plain)) {
    if (kind === "file" && path !== "./postgresql.auto.conf")
      copyFileSync(join(plain, path), join(datadir, path));
  }
}

/** A relation file that is plain, beside the sidecar that is kept of it. */
function openedBy(datadir: string): string {
  const path = relationsOf(datadir).find((one) => {
    const bytes = readFileSync(join(datadir, one));
    return (
      bytes.equals(readFileSync(join(plain, one))) && existsSync(sidecarOf(join(datadir, one)))
    );
  });
  assert.ok(path !== undefined, "nothing is decrypted yet");
  return path;
}

/** A relation file that the interrupted run has sealed. */
function sealedBy(datadir: string): string {
  const path = relationsOf(datadir).find((one) => existsSync(sidecarOf(join(datadir, one))));
  assert.ok(path !== undefined, "nothing is sealed yet");
  return path;
}

function relationsOf(datadir: string): string[] {
  return [...treeOf(datadir)]
    .filter(([path, { sizeBytes }]) => /^\.\/(base\/1|global)\/\d+$/.test(path) && sizeBytes > 0)
    .map(([path]) => path.slice(2));
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

for (const path of ["base/1/99999", "pg_xact/00FE"]) {
  test(`${path}, sealed by a run that the manifest does not know, is not vouched for`, async () => {
    const own = new SmallEngine({ memory: new TestMemory() });
    const datadir = copyOf(plain);
    await own.encrypt(datadir);
    const older = readFileSync(join(datadir, "tde.manifest"));
    writeFileSync(join(datadir, path), readFileSync(join(plain, ORDINARY)));
    await own.encrypt(datadir);
    writeFileSync(join(datadir, "tde.manifest"), older);
    writeFileSync(join(datadir, "base/1/99998"), readFileSync(join(plain, ORDINARY)));
    const error = await assertRefused(datadir, () => own.encrypt(datadir, { acceptOlder: true }));
    assert.match(error.message, new RegExp(`${path}: the manifest does not name it`));
  });
}

function recover(datadir: string): ReturnType<typeof recoverDatadir> {
  return recoverDatadir(small.engine, small.keyContext, bytePath(datadir));
}

/** A state file that is gone. */
class DoubtfulMemory extends TestMemory {
  override readonly isDoubtAccepted: boolean;

  constructor(isDoubtAccepted: boolean) {
    super();
    this.isDoubtAccepted = isDoubtAccepted;
  }

  override doubt = (): ReturnType<TestMemory["doubt"]> => ({
    kind: "absent",
    path: "app.keyring.state",
    message: "there is no state file",
  });
}

/** Does something with a directory where it is, and puts it and what is remembered back. */
async function inPlace(
  datadir: string,
  action: (datadir: string) => Promise<unknown>,
): Promise<void> {
  const copy = copyOf(datadir);
  const remembered = memory.copy();
  try {
    await action(datadir);
  } finally {
    putBack(copy, datadir);
    memory.become(remembered);
  }
}

/** That of the run that was stopped goes with the next command. */
function isLock(path: string): boolean {
  return path === "tde.lock" || path === "./tde.lock" || path === ".";
}

async function assertRefused(datadir: string, run: () => Promise<unknown>): Promise<TdeError> {
  const before = treeOf(datadir);
  const [result] = await Promise.allSettled([run()]);
  assert.ok(
    result.status === "rejected" && result.reason instanceof IntegrityError,
    result.status === "rejected" ? String(result.reason) : "it was not refused",
  );
  assertSameTree(treeOf(datadir), before, { except: isLock });
  return result.reason;
}

/** Stops a run in the middle of the steps of one of its entries. */
async function stopAtJournalEntry(
  datadir: string,
  run: (engine: SmallEngine, root: string) => Promise<unknown>,
): Promise<void> {
  const rehearsal = new StoppingFileSystem();
  const limits = { files: 3, bytes: 2 ** 20, largeFileBytes: 2 ** 26, rangeBytes: 2 ** 25 };
  await run(new SmallEngine({ fs: rehearsal, memory: memory.copy(), limits }), copyOf(datadir));
  const renames = rehearsal.log.flatMap((what, i) => (what === "rename" ? [i] : []));
  const stopAt = (renames[Math.floor(renames.length / 2)] ?? 0) + 1;
  await assert.rejects(
    run(new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory, limits }), datadir),
  );
  assert.ok(existsSync(join(datadir, "tde.journal")));
}
