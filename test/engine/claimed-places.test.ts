/**
 * Tablespaces of a new directory lie outside of it. An unfinished run into it is undone by emptying them, but only where
 * its own claim stands: the place may be another's by then.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { STRAY_CLAIM } from "../../src/engine/claim-file.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster, ORDINARY, SmallEngine, TestMemory } from "../support/small-cluster.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const IN_TABLESPACE = "PG_17_202406281/5/16384";
const TABLESPACE = "pg_tblspc/16400";
const CLAIM = "tde.claim";

class Site {
  readonly folder = temporaryPath("claimed");
  readonly source = join(this.folder, "data");
  readonly tablespace = join(this.folder, "tablespace");
  readonly output = join(this.folder, "output");
  /** Where the tablespace of the output goes. */
  readonly place = join(this.folder, "place");
  readonly memory = new TestMemory();
  readonly engine = new SmallEngine({ memory: this.memory });

  constructor() {
    copyTree(makeSmallCluster(), this.source);
    mkdirSync(join(this.tablespace, dirname(IN_TABLESPACE)), { recursive: true, mode: 0o700 });
    copyTree(join(this.source, ORDINARY), join(this.tablespace, IN_TABLESPACE));
    symlinkSync(this.tablespace, join(this.source, TABLESPACE));
  }

  /** As the process had been killed when it creates the first path that `isLast` says. */
  killed(isLast: (path: BytePath) => boolean): SmallEngine {
    class Killed extends NodeFileSystem {
      override create(path: BytePath, mode: number): OpenFile {
        if (isLast(path)) throw new Error("killed");
        return super.create(path, mode);
      }
    }
    return new SmallEngine({ memory: this.memory, fs: new Killed() });
  }
}

type Fill = (site: Site, engine: SmallEngine, output?: string) => Promise<unknown>;

function optionsOf(site: Site, output = site.output): Parameters<typeof encryptIntoOutput>[3] {
  const tablespaceMapping = new Map([[bytePath(site.tablespace), bytePath(site.place)]]);
  return { output: bytePath(output), tablespaceMapping };
}

const FILLS: Readonly<
  Record<string, { readonly prepare: (site: Site) => Promise<unknown>; readonly fill: Fill }>
> = {
  "encrypt-datadir": {
    prepare: () => Promise.resolve(),
    fill: (site, small, output) =>
      encryptIntoOutput(
        small.engine,
        small.keyContext,
        small.encryptOptions(site.source),
        optionsOf(site, output),
      ),
  },
  "decrypt-datadir": {
    prepare: (site) => site.engine.encrypt(site.source),
    fill: (site, small, output) =>
      decryptIntoOutput(
        small.engine,
        small.keyContext,
        small.decryptOptions(site.source),
        optionsOf(site, output),
      ),
  },
};

const inFirstDatabase = (path: BytePath): boolean => path.includes("output/base/");
const inTablespace = (path: BytePath): boolean => path.includes("output/pg_tblspc/");

for (const [what, { prepare, fill }] of Object.entries(FILLS)) {
  test(`an unfinished ${what} --output empties what it has claimed, and nobody else may take it meanwhile`, async () => {
    const site = new Site();
    await prepare(site);
    await assert.rejects(fill(site, site.killed(inTablespace)), /killed/);
    const run = [...site.memory.runs.keys()];
    assert.deepEqual(
      run.map((id) => `${id}\n`),
      [readFileSync(join(site.place, CLAIM), "latin1")],
    );
    const before = treeOf(site.place);
    await assert.rejects(fill(site, site.engine, `${site.output}_2`), {
      code: "state",
      message: /is not empty: an unfinished run has claimed it$/,
    });
    assertSameTree(treeOf(site.place), before);
    assert.equal(await site.engine.recover(site.output), "output-emptied");
    assert.deepEqual([readdirSync(site.output), readdirSync(site.place)], [[], []]);
    assert.deepEqual(
      site.engine.notices.filter((notice) => notice.includes("is left as it is")),
      [],
    );
    await fill(site, site.engine);
    assert.ok(existsSync(join(site.place, IN_TABLESPACE)));
    assert.ok(!existsSync(join(site.place, CLAIM)));
  });

  test(`an unfinished ${what} --output leaves a place that another run has filled since`, async () => {
    const site = new Site();
    await prepare(site);
    // Before its tablespace was claimed, or after somebody had cleared it away.
    for (const isLast of [(path: BytePath) => path.endsWith(CLAIM), inFirstDatabase]) {
      await assert.rejects(fill(site, site.killed(isLast)), /killed/);
      rmSync(site.place, { recursive: true });
      const second = `${site.output}_2`;
      await fill(site, site.engine, second);
      const [before, place] = [treeOf(second), treeOf(site.place)];
      assert.equal(await site.engine.recover(site.output), "output-place-left");
      assert.deepEqual(readdirSync(site.output), []);
      assert.match(site.engine.notices.at(-1) ?? "", /\/place" is left as it is/);
      assertSameTree(treeOf(second), before);
      assertSameTree(treeOf(site.place), place);
      for (const folder of [second, site.place]) rmSync(folder, { recursive: true });
    }
  });

  test(`an unfinished ${what} --output follows no link in the place of a tablespace`, async () => {
    const site = new Site();
    await prepare(site);
    await assert.rejects(fill(site, site.killed(inTablespace)), /killed/);
    const precious = join(site.folder, "precious");
    mkdirSync(join(precious, "folder"), { recursive: true });
    writeFileSync(join(precious, "folder", "file"), "precious");
    // Even with the claim.
    writeFileSync(join(precious, CLAIM), readFileSync(join(site.place, CLAIM)));
    renameSync(site.place, `${site.place}_moved`);
    symlinkSync(precious, site.place);
    const before = treeOf(precious);
    assert.equal(await site.engine.recover(site.output), "output-place-left");
    assertSameTree(treeOf(precious), before);
    assert.deepEqual(readdirSync(site.output), []);
  });

  test(`${what} --output writes to no place that became another's while it began`, async () => {
    for (const swap of ["link", "file"] as const) {
      const site = new Site();
      await prepare(site);
      const other = join(site.folder, "other");
      mkdirSync(other);
      class Swapping extends NodeFileSystem {
        override rename(from: BytePath, to: BytePath): void {
          super.rename(from, to);
          if (!to.endsWith("output/tde.journal")) return;
          if (swap === "link") symlinkSync(other, site.place);
          else {
            mkdirSync(site.place);
            writeFileSync(join(site.place, "file"), "another's");
          }
        }
      }
      const engine = new SmallEngine({ memory: site.memory, fs: new Swapping() });
      await assert.rejects(fill(site, engine), { code: "state" });
      assert.deepEqual(readdirSync(other), []);
      assert.equal(await site.engine.recover(site.output), "output-place-left");
      if (swap === "file")
        assert.equal(readFileSync(join(site.place, "file"), "utf8"), "another's");
    }
  });
}

/** What somebody does to the claim of an unfinished run; all else that the run has written stays. */
const SPOILED: Readonly<Record<string, (claim: string) => void>> = {
  removed: (claim) => rmSync(claim),
  cut: (claim) => writeFileSync(claim, ""),
  "another's": (claim) => writeFileSync(claim, `${"5".repeat(32)}\n`),
  "a folder": (claim) => {
    rmSync(claim);
    mkdirSync(claim);
  },
};

for (const [what, { prepare, fill }] of Object.entries(FILLS)) {
  test(`${what} --output is not called undone where a tablespace is left for want of its claim`, async () => {
    for (const [how, spoil] of Object.entries(SPOILED)) {
      const site = new Site();
      await prepare(site);
      await assert.rejects(fill(site, site.killed(inFirstDatabase)), /killed/);
      // As the run would have written it later.
      mkdirSync(join(site.place, "PG_17_202406281"), { recursive: true });
      writeFileSync(join(site.place, "PG_17_202406281", "16384"), "of the run");
      spoil(join(site.place, CLAIM));
      const [output, place] = [treeOf(site.output), join(site.folder, "kept")];
      copyTree(site.place, place);
      const unfinished = join(site.folder, "unfinished");
      copyTree(site.output, unfinished);
      const memory = site.memory.copy();
      assert.equal(await site.engine.recover(site.output), "output-place-left", how);
      assert.match(site.engine.notices.at(-1) ?? "", /\/place" is left as it is/);
      assertSameTree(treeOf(site.place), treeOf(place));
      assert.deepEqual(readdirSync(site.output), []);
      // Nor does the same command go on to another place, as if nothing were left.
      site.memory.become(memory);
      rmSync(site.output, { recursive: true });
      copyTree(unfinished, site.output);
      assertSameTree(treeOf(site.output), output);
      await assert.rejects(fill(site, site.engine), {
        code: "state",
        message: /is undone, but the place of a tablespace is left as it is$/,
      });
      assertSameTree(treeOf(site.place), treeOf(place));
      rmSync(site.place, { recursive: true });
      await fill(site, site.engine);
    }
  });

  test(`${what} --output: whoever deletes the unfinished directory is told of its tablespaces`, async () => {
    const site = new Site();
    await prepare(site);
    await assert.rejects(fill(site, site.killed(inTablespace)), /killed/);
    const [runId = ""] = site.memory.runs.keys();
    await assert.rejects(fill(site, site.engine, `${site.output}_2`), {
      message: /an unfinished run has claimed it$/,
      hint: new RegExp(`tablespace of "${site.output}".*: run "tde recover" on that`),
    });
    rmSync(site.output, { recursive: true });
    const isGone = new RegExp(
      `tablespace of "${site.output}".*its journal is gone.*delete it, too`,
    );
    await assert.rejects(fill(site, site.engine), { code: "state", hint: isGone });
    for (const name of [site.output, `${site.output}/`]) {
      await assert.rejects(site.engine.recover(name), {
        code: "state",
        message: /is gone, and a run of tde .* --output into it is open$/,
        hint: new RegExp(`delete the new directories of its tablespaces.*${runId}`),
      });
    }
    mkdirSync(site.output);
    assert.equal(await site.engine.recover(site.output), "output-forgotten");
    assert.ok((site.engine.notices.at(-1) ?? "").includes(runId));
    assert.equal(await site.engine.recover(site.output), "nothing-to-do");
    await assert.rejects(fill(site, site.engine), { code: "state", hint: /delete it, too/ });
    rmSync(site.place, { recursive: true });
    await fill(site, site.engine);
  });

  test(`${what} --output ends once a folder in the place of its claim is moved away`, async () => {
    const site = new Site();
    await prepare(site);
    const isRemoved = (path: BytePath): boolean => path.endsWith(CLAIM);
    class Killed extends NodeFileSystem {
      override remove(path: BytePath): void {
        if (isRemoved(path)) throw new Error("killed");
        super.remove(path);
      }
    }
    const killed = new SmallEngine({ memory: site.memory, fs: new Killed() });
    await assert.rejects(fill(site, killed), /killed/);
    const claim = join(site.place, CLAIM);
    rmSync(claim);
    mkdirSync(join(claim, "folder"), { recursive: true });
    for (const goOn of [() => site.engine.recover(site.output), () => fill(site, site.engine)]) {
      await assert.rejects(goOn(), {
        code: "state",
        message: /a directory stands where a file of tde's should be: ".*tde\.claim"$/,
        hint: /Move it away/,
      });
    }
    renameSync(claim, join(site.folder, "moved"));
    const outcome = await site.engine.recover(site.output);
    assert.equal(outcome, what === "encrypt-datadir" ? "output-finished" : "output-unproved");
  });
}

for (const [what, { prepare, fill }] of Object.entries(FILLS)) {
  test(`${what} --output: a finished directory is not emptied, though state file and journal are older`, async () => {
    const site = new Site();
    await prepare(site);
    await assert.rejects(fill(site, site.killed(inFirstDatabase)), /killed/);
    const older = site.memory.copy();
    const journal = readFileSync(join(site.output, "tde.journal"));
    assert.equal(await site.engine.recover(site.output), "output-emptied");
    await fill(site, site.engine);
    site.memory.become(older);
    writeFileSync(join(site.output, "tde.journal"), journal);
    const [output, place] = [treeOf(site.output), treeOf(site.place)];
    for (const goOn of [() => site.engine.recover(site.output), () => fill(site, site.engine)])
      await assert.rejects(goOn(), { code: "integrity", message: /the directory is whole$/ });
    assertSameTree(treeOf(site.output), output, { except: (path) => path === "." });
    assertSameTree(treeOf(site.place), place);
  });

  test(`${what} --output: the journal of an ended run is not removed beside another state`, async () => {
    const site = new Site();
    await prepare(site);
    await assert.rejects(fill(site, site.killed(inTablespace)), /killed/);
    const half = join(site.folder, "half");
    copyTree(site.output, half);
    const [run] = site.memory.runs.values();
    assert.ok(run !== undefined);
    assert.equal(await site.engine.recover(site.output), "output-emptied");
    // As a crash leaves it before the journal goes; and then the older state is put back.
    site.memory.runs.set(run.runId, { ...run, ended: true });
    copyTree(join(half, "tde.journal"), join(site.output, "tde.journal"));
    assert.equal(await site.engine.recover(site.output), "output-ended");
    site.memory.runs.set(run.runId, { ...run, ended: true });
    rmSync(site.output, { recursive: true });
    copyTree(half, site.output);
    const before = treeOf(site.output);
    await assert.rejects(site.engine.recover(site.output), { code: "integrity" });
    assertSameTree(treeOf(site.output), before, { except: (path) => path === "." });
    assert.ok(existsSync(join(site.output, "tde.journal")));
  });
}

test("a claim in the tablespace of a directory is no part of it, and verify says so", async () => {
  const site = new Site();
  await site.engine.encrypt(site.source);
  writeFileSync(join(site.tablespace, CLAIM), `${"0".repeat(32)}\n`);
  const { ok, problems } = await site.engine.verify(site.source);
  assert.equal(ok, false);
  assert.deepEqual(
    problems.map(({ path, message }) => [path, message]),
    [[`${TABLESPACE}/${CLAIM}`, STRAY_CLAIM]],
  );
  await assert.rejects(site.engine.decrypt(site.source), {
    code: "integrity",
    message: /tde\.claim: left by an unfinished run: it is no part of the directory, delete it$/,
  });
  rmSync(join(site.tablespace, CLAIM));
  assert.equal((await site.engine.verify(site.source)).ok, true);
  const plain = new Site();
  writeFileSync(join(plain.tablespace, CLAIM), "");
  await assert.rejects(plain.engine.encrypt(plain.source), {
    code: "state",
    message: /tde\.claim" has a name that tde uses/,
  });
});
