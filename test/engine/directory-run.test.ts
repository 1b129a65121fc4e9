/**
 * Taking up a run: whose journal counts, and that nothing of what a journal says is done before it was judged.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import type { KeyContext, MemoryDoubt } from "../../src/engine/context.ts";
import { DirectoryRun } from "../../src/engine/run/directory-run.ts";
import { standingOf } from "../../src/engine/run/standing.ts";
import { IntegrityError, StateError, StorageError } from "../../src/errors.ts";
import { type DueStep, type JournalHeader, readJournalHeader } from "../../src/storage/journal.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { TestMemory } from "../support/small-cluster.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const DIRECTORY = "0123456789abcdef0123456789abcdef";
const NEW = "file_tdenew" as BytePath;
const STEP: DueStep = { action: "rename", from: NEW, to: "file" as BytePath };

/** The state file is lost, and the user wants to go on all the same, or does not. */
class DoubtfulMemory extends TestMemory {
  override readonly isDoubtAccepted: boolean;
  override doubt: () => MemoryDoubt;

  constructor(isAccepted: boolean, kind: MemoryDoubt["kind"] = "absent") {
    super();
    this.isDoubtAccepted = isAccepted;
    this.doubt = () => ({ kind, path: "app.keyring.state", message: "it is gone" });
  }
}

class Interrupted {
  readonly folder: string;
  readonly root: BytePath;
  readonly fs = new NodeFileSystem();
  readonly memory = new TestMemory();

  /** A run with a step that is due. */
  constructor(t: TestContext) {
    this.folder = realpathSync(temporaryDirectory(t));
    const path = join(this.folder, "data");
    mkdirSync(path);
    writeFileSync(join(path, "file"), "old");
    writeFileSync(join(path, NEW), "new");
    this.root = bytePath(path);
    class Stopping extends NodeFileSystem {
      override rename(from: BytePath, to: BytePath): void {
        if (from.endsWith(NEW)) throw new StorageError("the power goes");
        super.rename(from, to);
      }
    }
    const order = {
      operation: "rotate",
      directoryId: DIRECTORY,
      epoch: 2n,
      from: undefined,
    } as const;
    const run = DirectoryRun.begin(new Stopping(), this.root, this.context(), order, { plan: 1 });
    assert.throws(() => run.commit([STEP]), StorageError);
    run.leave();
  }

  context(memory = this.memory): KeyContext {
    return { keys: testKeys(), memory };
  }

  header(root = this.root): JournalHeader {
    return readJournalHeader(this.fs, root) ?? assert.fail("there is no journal");
  }

  resume(
    judge?: Parameters<typeof DirectoryRun.resume>[4],
    { root = this.root, memory = this.memory }: { root?: BytePath; memory?: TestMemory } = {},
  ): ReturnType<typeof DirectoryRun.resume> {
    return DirectoryRun.resume(this.fs, root, this.context(memory), this.header(root), judge);
  }

  content(root = this.root): string {
    return readFileSync(join(root, "file"), "utf8");
  }
}

test("what a journal says is judged before any of it is done", (t) => {
  const interrupted = new Interrupted(t);
  const journal = join(interrupted.root, "tde.journal");
  const before = readFileSync(journal);
  assert.throws(
    () =>
      interrupted.resume(() => {
        throw new StateError("no");
      }),
    { message: "no" },
  );
  assert.deepEqual([interrupted.content(), readFileSync(journal)], ["old", before]);

  const { run, content, plan, standing } = interrupted.resume((found) => {
    assert.deepEqual([found.content.due, found.standing], [[STEP], "open"]);
    assert.equal(interrupted.content(), "old");
  });
  assert.deepEqual([content.due, plan, standing], [[STEP], { plan: 1 }, "open"]);
  assert.equal(interrupted.content(), "new");
  run.end({ kind: "nothing" });
  assert.equal(existsSync(journal), false);
  assert.equal(interrupted.memory.runs.size, 0);
});

test("of a run that has ended nothing is done any more", (t) => {
  const interrupted = new Interrupted(t);
  interrupted.memory.endRun(interrupted.header().runId.toString("hex"), { kind: "nothing" });
  const { run, standing } = interrupted.resume();
  assert.deepEqual([standing, interrupted.content()], ["ended", "old"]);
  run.endAgain();
  assert.equal(existsSync(join(interrupted.root, "tde.journal")), false);
  assert.equal(interrupted.memory.runs.size, 0);
});

test("a run is registered before its journal, ended before the journal goes, and forgotten afterwards", (t) => {
  const root = bytePath(realpathSync(temporaryDirectory(t)));
  const journal = join(root, "tde.journal");
  const memory = new TestMemory();
  const told: string[] = [];
  const { beginRun, endRun, closeRun } = memory;
  const note = (what: string): number => told.push(`${what}, journal ${existsSync(journal)}`);
  memory.beginRun = (run) => {
    note("begun");
    beginRun(run);
  };
  memory.endRun = (id, outcome) => {
    note("ended");
    endRun(id, outcome);
  };
  memory.closeRun = (id) => {
    note("closed");
    closeRun(id);
  };
  const order = { operation: "sync", directoryId: DIRECTORY, epoch: 2n, from: undefined } as const;
  const context = { keys: testKeys(), memory };
  const run = DirectoryRun.begin(new NodeFileSystem(), root, context, order, {});
  assert.deepEqual(
    [...memory.runs.values()].map(({ place, epoch, operation }) => [place, epoch, operation]),
    [[root, 2n, "sync"]],
  );
  run.end({ kind: "nothing" });
  assert.deepEqual(told, ["begun, journal false", "ended, journal true", "closed, journal false"]);
});

test("a copy of an unfinished directory is refused, with the state file and, if that is accepted, without", (t) => {
  const interrupted = new Interrupted(t);
  const root = bytePath(join(interrupted.folder, "copy"));
  cpSync(interrupted.root, root, { recursive: true });
  for (const memory of [interrupted.memory, new DoubtfulMemory(true)]) {
    assert.throws(
      () => interrupted.resume(() => {}, { root, memory }),
      (error) => error instanceof IntegrityError && /begun in ".*data"/.test(error.message),
    );
  }
  assert.equal(interrupted.content(root), "old");
});

test("without a state file a run is taken up only when that is accepted", (t) => {
  const interrupted = new Interrupted(t);
  assert.throws(
    () => interrupted.resume(() => {}, { memory: new DoubtfulMemory(false) }),
    StateError,
  );
  assert.throws(
    () => interrupted.resume(() => {}, { memory: new DoubtfulMemory(false, "unusable") }),
    IntegrityError,
  );
  assert.equal(interrupted.content(), "old");
  const { standing, run } = interrupted.resume(() => {}, { memory: new DoubtfulMemory(true) });
  assert.deepEqual([standing, interrupted.content()], ["doubted", "new"]);
  run.leave();
});

test("a journal counts as the state file knows its run, and in no other way", (t) => {
  const interrupted = new Interrupted(t);
  const { fs, root, memory } = interrupted;
  const journal = interrupted.header();
  const id = journal.runId.toString("hex");
  const run = memory.runs.get(id);
  assert.ok(run !== undefined);
  const standing = (change: Partial<typeof run>): string => {
    memory.runs.set(id, { ...run, ...change });
    return standingOf(fs, root, memory, journal);
  };
  assert.equal(standing({}), "open");
  assert.equal(standing({ ended: true }), "ended");
  for (const change of [
    { place: bytePath("/somewhere/else") },
    { epoch: 3n },
    { operation: "encrypt" as const },
    { directoryId: "f".repeat(32) },
  ])
    assert.throws(() => standing(change), IntegrityError, JSON.stringify(Object.keys(change)));
  memory.runs.clear();
  assert.throws(
    () => standingOf(fs, root, memory, journal),
    (error) => error instanceof IntegrityError && !/recover/.test(error.hint ?? ""),
  );
});
