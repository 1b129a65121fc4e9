/**
 * Tablespaces and pg_wal that lead elsewhere than when the directory was encrypted. A restore may have moved them, and so
 * may whoever can write to the directory: verify says so, and nothing is written behind them unasked. Nor is anything
 * written behind links that a copy shares with its original.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { manifestSource } from "../../src/engine/open-manifest.ts";
import type { ManifestEntry } from "../../src/format/manifest-entry.ts";
import { ManifestWriter, openManifest } from "../../src/format/manifest.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { testDek, testKeys } from "../support/keys.ts";
import {
  makeSmallCluster,
  ORDINARY,
  OTHER,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const IN_TABLESPACE = "PG_17_202406281/5/16384";
const TABLESPACE = "pg_tblspc/16400";

interface Site {
  readonly datadir: string;
  /** Where the links lead. */
  readonly tablespace: string;
  readonly wal: string;
}

function makeSite(): Site {
  const folder = temporaryPath("moved");
  const site = {
    datadir: join(folder, "data"),
    tablespace: join(folder, "tablespace"),
    wal: join(folder, "wal"),
  };
  copyTree(makeSmallCluster(), site.datadir);
  renameSync(join(site.datadir, "pg_wal"), site.wal);
  symlinkSync(site.wal, join(site.datadir, "pg_wal"));
  mkdirSync(join(site.tablespace, dirname(IN_TABLESPACE)), { recursive: true, mode: 0o700 });
  copyTree(join(site.datadir, ORDINARY), join(site.tablespace, IN_TABLESPACE));
  symlinkSync(site.tablespace, join(site.datadir, TABLESPACE));
  return site;
}

async function encryptedSite(engine: SmallEngine): Promise<Site> {
  const site = makeSite();
  await engine.encrypt(site.datadir);
  return site;
}

/** What stood behind a link stands elsewhere, and the link leads there. */
function move({ datadir }: Site, path: string): string {
  const link = join(datadir, path);
  const target = readlinkSync(link);
  renameSync(target, `${target}_elsewhere`);
  pointTo(link, `${target}_elsewhere`);
  return `${target}_elsewhere`;
}

function pointTo(link: string, target: string): void {
  rmSync(link);
  symlinkSync(target, link);
}

const MOVES: Readonly<
  Record<string, { readonly act: (site: Site) => void; readonly told: RegExp }>
> = {
  "a tablespace": {
    act: (site) => void move(site, TABLESPACE),
    told: /^pg_tblspc\/16400 leads to ".*\/tablespace_elsewhere" now, and led elsewhere when/,
  },
  pg_wal: {
    act: (site) => void move(site, "pg_wal"),
    told: /^pg_wal leads to ".*\/wal_elsewhere" now, and led elsewhere when/,
  },
  "pg_wal, which became a folder": {
    act: ({ datadir, wal }) => {
      rmSync(join(datadir, "pg_wal"));
      renameSync(wal, join(datadir, "pg_wal"));
    },
    told: /^pg_wal is a folder now, and was a link when/,
  },
};

async function noticesOf(engine: SmallEngine, datadir: string): Promise<readonly string[]> {
  const { ok, problems, notices } = await engine.verify(datadir);
  assert.deepEqual(problems, []);
  assert.ok(ok);
  return notices;
}

for (const [what, { act, told }] of Object.entries(MOVES)) {
  test(`a move is told, and no plaintext is written there unasked: ${what}`, async () => {
    const engine = new SmallEngine();
    const site = await encryptedSite(engine);
    assert.deepEqual(await noticesOf(engine, site.datadir), []);
    act(site);
    const notices = await noticesOf(engine, site.datadir);
    assert.equal(notices.length, 1);
    assert.match(notices[0] ?? "", told);
    assert.match((await engine.verifyWithoutKey(site.datadir)).notices.join("\n"), told);

    const before = treeOf(site.datadir);
    for (const dryRun of [true, false]) {
      await assert.rejects(engine.decrypt(site.datadir, { dryRun }), (error) => {
        assert.ok(error instanceof Error && "code" in error && "hint" in error);
        assert.equal(error.code, "integrity");
        assert.match(error.message, told);
        assert.match(String(error.hint), /--accept-moved/);
        return true;
      });
    }
    assertSameTree(treeOf(site.datadir), before);

    // Into a new directory nothing is written behind the source's links.
    const output = join(temporaryPath("moved-output"), "data");
    await decryptIntoOutput(engine.engine, engine.keyContext, engine.decryptOptions(site.datadir), {
      output: bytePath(output),
      tablespaceMapping: new Map([
        [bytePath(readlinkSync(join(site.datadir, TABLESPACE))), bytePath(`${output}_tablespace`)],
      ]),
    });
    const plain = readFileSync(join(output, TABLESPACE, IN_TABLESPACE));

    const dry = await engine.decrypt(site.datadir, { acceptMoved: true, dryRun: true });
    assert.equal(dry.outcome, "dry-run");
    engine.notices.length = 0;
    await engine.decrypt(site.datadir, { acceptMoved: true });
    assert.equal(engine.notices.length, 1);
    assert.match(engine.notices[0] ?? "", told);
    assert.match(engine.notices[0] ?? "", /: plaintext goes there$/);
    assert.deepEqual(readFileSync(join(site.datadir, TABLESPACE, IN_TABLESPACE)), plain);
  });
}

test("a folder pg_wal that became a link is told", async () => {
  const engine = new SmallEngine();
  const datadir = makeSmallCluster();
  await engine.encrypt(datadir);
  const elsewhere = join(temporaryPath("moved-wal"), "wal");
  renameSync(join(datadir, "pg_wal"), elsewhere);
  symlinkSync(elsewhere, join(datadir, "pg_wal"));
  const [notice] = await noticesOf(engine, datadir);
  assert.match(notice ?? "", /^pg_wal leads to ".*\/wal" now, and was a folder when/);
  await assert.rejects(engine.decrypt(datadir), { code: "integrity", message: /was a folder/ });
});

test("of a directory whose manifest does not say where links led, nothing is told", async () => {
  const engine = new SmallEngine();
  const site = await encryptedSite(engine);
  const keys = testKeys();
  const source = manifestSource(new NodeFileSystem(), bytePath(site.datadir));
  const manifest = openManifest(source, keys, "a manifest");
  const parts: Buffer[] = [];
  const { keyId } = manifest.header;
  const dek = keys.keys.get(keyId)?.dek ?? testDek(keyId);
  const writer = new ManifestWriter(manifest.header, dek, (text) => void parts.push(text));
  let links = 0;
  for (const entry of manifest.entries()) {
    if (entry.class === "L") links++;
    writer.add(entry.class === "L" ? { ...entry, digest: undefined } : entry);
  }
  writer.finish();
  writeFileSync(join(site.datadir, "tde.manifest"), Buffer.concat(parts));
  assert.equal(links, 2);
  move(site, TABLESPACE);
  move(site, "pg_wal");
  // It was made outside of any command.
  const other = new SmallEngine();
  assert.deepEqual(await noticesOf(other, site.datadir), []);
  await other.decrypt(copyLinked(site));
});

/** A copy whose links lead to copies. */
function copyLinked({ datadir }: Site): string {
  const folder = temporaryPath("moved-copy");
  const copy = join(folder, "data");
  copyTree(datadir, copy);
  for (const path of ["pg_wal", TABLESPACE]) {
    const target = join(folder, path.replace("/", "_"));
    cpSync(readlinkSync(join(datadir, path)), target, { recursive: true });
    pointTo(join(copy, path), target);
  }
  return copy;
}

interface Options {
  readonly acceptMoved?: boolean;
  readonly dryRun?: boolean;
}

type Run = (engine: SmallEngine, site: Site, source: string, options?: Options) => Promise<unknown>;

const RUNS: Readonly<Record<string, Run>> = {
  rotate: (engine, { datadir }, _, options) => engine.rotate(datadir, { kind: "all" }, options),
  sync: (engine, { datadir }, source, options) => engine.sync(source, datadir, options),
  "encrypt-datadir, which widens the scope": (engine, { datadir }, _, options) =>
    engine.encrypt(datadir, options),
};

/** A site that is encrypted, as far as the run leaves something to do, and its plain original, which has gone on. */
async function siteFor(what: string, engine: SmallEngine): Promise<[Site, string]> {
  const site = makeSite();
  const source = copyLinked(site);
  const scope = { ...engine.encryptOptions("").scope, exclude: [bytePath(OTHER)] };
  await engine.encrypt(site.datadir, what.startsWith("encrypt") ? { scope } : {});
  writeFileSync(join(source, "postgresql.conf"), "max_connections = 30\n", { mode: 0o600 });
  return [site, source];
}

for (const [what, run] of Object.entries(RUNS)) {
  test(`no ciphertext is written behind a moved link unasked, and the next manifest still says where it led: ${what}`, async () => {
    const engine = new SmallEngine();
    const [site, source] = await siteFor(what, engine);
    const before = linesOf(site.datadir);
    const places = [move(site, TABLESPACE), move(site, "pg_wal")];
    const trees = [site.datadir, ...places].map((place) => treeOf(place));
    for (const dryRun of [true, false]) {
      await assert.rejects(run(engine, site, source, { dryRun }), (error) => {
        assert.ok(error instanceof Error && "code" in error && "hint" in error);
        assert.equal(error.code, "integrity");
        assert.match(error.message, /^pg_.* led elsewhere .*: ciphertext would be written there$/);
        assert.match(String(error.hint), /--accept-moved/);
        return true;
      });
    }
    for (const [i, place] of [site.datadir, ...places].entries())
      assertSameTree(treeOf(place), trees[i] ?? new Map());
    await run(engine, site, source, { dryRun: true, acceptMoved: true });
    engine.notices.length = 0;
    await run(engine, site, source, { acceptMoved: true });
    const told = engine.notices.filter((notice) => notice.includes("led elsewhere"));
    assert.equal(told.length, 2, engine.notices.join("\n"));
    assert.deepEqual(linesOf(site.datadir), before);
    assert.equal((await noticesOf(engine, site.datadir)).length, 2);
    await assert.rejects(engine.decrypt(site.datadir), { code: "integrity" });
  });

  test(`a run that goes on writes behind no link that was moved since it began: ${what}`, async () => {
    const whole = new StoppingFileSystem();
    const first = new SmallEngine();
    const [sample, its] = await siteFor(what, first);
    const { memory } = first.keyContext;
    await run(new SmallEngine({ fs: whole, memory }), sample, its);
    for (const isMovedBefore of [false, true]) {
      const maker = new SmallEngine();
      const [site, source] = await siteFor(what, maker);
      if (isMovedBefore) move(site, TABLESPACE);
      const stopping = new StoppingFileSystem(Math.floor(whole.operations / 2));
      const engine = new SmallEngine({ fs: stopping, memory: maker.keyContext.memory });
      const accepting = { acceptMoved: isMovedBefore };
      await assert.rejects(run(engine, site, source, accepting), Stopped);
      assert.ok(existsSync(join(site.datadir, "tde.journal")));
      const target = readlinkSync(join(site.datadir, TABLESPACE));
      const elsewhere = `${target}_2`;
      cpSync(target, elsewhere, { recursive: true });
      pointTo(join(site.datadir, TABLESPACE), elsewhere);
      const before = treeOf(elsewhere);
      const again = new SmallEngine({ memory: engine.keyContext.memory });
      for (const resume of [
        () => again.recover(site.datadir),
        // What was accepted when the run began was another place.
        () => run(again, site, source, { acceptMoved: true }),
      ]) {
        await assert.rejects(resume(), { code: "integrity", message: /begun: ".*_2", not "/ });
      }
      assertSameTree(treeOf(elsewhere), before);
      pointTo(join(site.datadir, TABLESPACE), target);
      await run(again, site, source);
      assert.ok(!existsSync(join(site.datadir, "tde.journal")));
      assert.ok((await again.verify(site.datadir)).ok);
    }
  });

  test(`nothing is written behind links that a copy shares with its original: ${what}`, async () => {
    const engine = new SmallEngine();
    const [site, source] = await siteFor(what, engine);
    const copy = join(temporaryPath("shared"), "data");
    // As `cp -a` does it: the links are copied, and not what is behind them.
    copyTree(site.datadir, copy);
    const before = [site.datadir, site.tablespace, site.wal, copy].map((place) => treeOf(place));
    // To look at the copy makes it none.
    assert.ok((await engine.verify(copy)).ok);
    for (const dryRun of [true, false]) {
      for (const refused of [
        () => run(engine, { ...site, datadir: copy }, source, { dryRun }),
        () => engine.decrypt(copy, { dryRun, acceptMoved: true }),
      ]) {
        await assert.rejects(refused(), {
          code: "state",
          message:
            /^pg_tblspc\/16400 of ".*" and of ".*" lead to the same place, ".*\/tablespace"$/,
        });
      }
    }
    for (const [i, place] of [site.datadir, site.tablespace, site.wal, copy].entries())
      assertSameTree(treeOf(place), before[i] ?? new Map());
    // With links of its own it is free.
    const own = join(copy, "../own");
    cpSync(site.tablespace, own, { recursive: true });
    pointTo(join(copy, TABLESPACE), own);
    await assert.rejects(engine.decrypt(copy, { acceptMoved: true }), {
      code: "state",
      message: /^pg_wal of /,
    });
    const wal = join(copy, "../wal");
    cpSync(site.wal, wal, { recursive: true });
    pointTo(join(copy, "pg_wal"), wal);
    await engine.decrypt(copy, { acceptMoved: true });
    assert.ok((await engine.verify(site.datadir)).ok);
  });
}

/** Of links that may move, and of pg_wal. */
function linesOf(datadir: string): readonly Pick<ManifestEntry, "path" | "class" | "digest">[] {
  const source = manifestSource(new NodeFileSystem(), bytePath(datadir));
  return [...openManifest(source, testKeys(), "a manifest").entries()]
    .filter(
      ({ path }) => path === "pg_wal" || (path.startsWith("pg_tblspc/1") && !path.includes("PG_")),
    )
    .map(({ path, class: kind, digest }) => ({ path, class: kind, digest }));
}

function digestOf(target: string): string {
  return sha256(Buffer.from(target)).toString("hex");
}

test("new places are recorded as they are: of --output, and of a tablespace that a sync brings", async () => {
  const engine = new SmallEngine();
  const site = makeSite();
  const output = join(temporaryPath("moved-new"), "data");
  const mapping = new Map([[bytePath(site.tablespace), bytePath(`${output}_tablespace`)]]);
  await encryptIntoOutput(engine.engine, engine.keyContext, engine.encryptOptions(site.datadir), {
    output: bytePath(output),
    tablespaceMapping: mapping,
  });
  assert.deepEqual(linesOf(output), [
    { path: TABLESPACE, class: "L", digest: digestOf(`${output}_tablespace`) },
    // It is a folder wherever it was.
    { path: "pg_wal", class: "D", digest: undefined },
  ]);
  assert.deepEqual(await noticesOf(engine, output), []);

  const added = `${site.tablespace}_added`;
  cpSync(site.tablespace, added, { recursive: true });
  symlinkSync(added, join(site.datadir, "pg_tblspc/16401"));
  await engine.sync(site.datadir, output, {
    mapping: { [added]: `${output}_added` },
  });
  assert.deepEqual(linesOf(output), [
    { path: TABLESPACE, class: "L", digest: digestOf(`${output}_tablespace`) },
    { path: "pg_tblspc/16401", class: "L", digest: digestOf(`${output}_added`) },
    { path: "pg_wal", class: "D", digest: undefined },
  ]);
  assert.deepEqual(await noticesOf(engine, output), []);
  await engine.decrypt(output);
});

test("a decryption that goes on writes behind no link that was moved since it began", async () => {
  const whole = new StoppingFileSystem();
  const sample = await encryptedSite(new SmallEngine());
  await new SmallEngine({ fs: whole }).decrypt(sample.datadir);
  for (const isMovedBefore of [false, true]) {
    const site = await encryptedSite(new SmallEngine());
    if (isMovedBefore) move(site, TABLESPACE);
    const stopping = new StoppingFileSystem(Math.floor(whole.operations / 3));
    const engine = new SmallEngine({ fs: stopping });
    const accepting = { acceptMoved: isMovedBefore };
    await assert.rejects(engine.decrypt(site.datadir, accepting), Stopped);
    assert.ok(existsSync(join(site.datadir, "tde.journal")));
    const target = readlinkSync(join(site.datadir, TABLESPACE));
    const elsewhere = `${target}_2`;
    cpSync(target, elsewhere, { recursive: true });
    pointTo(join(site.datadir, TABLESPACE), elsewhere);
    const before = treeOf(elsewhere);
    // Whoever goes on remembers that the run is open.
    const again = new SmallEngine({ memory: engine.keyContext.memory });
    for (const resume of [
      () => again.recover(site.datadir),
      // What was accepted when the run began was another place.
      () => again.decrypt(site.datadir, { acceptMoved: true }),
    ]) {
      await assert.rejects(resume(), {
        code: "integrity",
        message: /begun: ".*tablespace.*_2", not ".*tablespace/,
      });
    }
    assertSameTree(treeOf(elsewhere), before);
    pointTo(join(site.datadir, TABLESPACE), target);
    await again.recover(site.datadir);
    assert.ok(!existsSync(join(site.datadir, "tde.manifest")));
  }
});

/** A run of each kind in place, stopped when a rename behind the tablespace's link is due. */
const STOPPED: Readonly<Record<string, Run>> = {
  ...RUNS,
  "encrypt-datadir": (engine, { datadir }) => engine.encrypt(datadir),
  "decrypt-datadir": (engine, { datadir }) => engine.decrypt(datadir),
};

/** Names of tde's own behind the link: what would be due there, and what nobody names. */
const DUE = `${IN_TABLESPACE}_tdenew`;
const LEFT = IN_TABLESPACE.replace("16384", "77777_tdenew_tde");

for (const [what, run] of Object.entries(STOPPED)) {
  test(`a run that is taken up touches nothing behind a link that was moved: ${what}`, async () => {
    const site = makeSite();
    const memory = new TestMemory();
    const source = copyLinked(site);
    const scope = {
      ...new SmallEngine().encryptOptions("").scope,
      exclude: [bytePath(join(TABLESPACE, IN_TABLESPACE))],
    };
    if (what !== "encrypt-datadir")
      await new SmallEngine({ memory }).encrypt(
        site.datadir,
        what.startsWith("encrypt") ? { scope } : {},
      );
    appendFileSync(join(source, TABLESPACE, IN_TABLESPACE), Buffer.alloc(8192));
    // What is in place is in the journal before.
    const fs = new (class extends NodeFileSystem {
      override rename(from: BytePath, to: BytePath): void {
        if (to.includes(TABLESPACE)) throw new Error("killed");
        super.rename(from, to);
      }
      override remove(path: BytePath): void {
        if (path.includes(TABLESPACE)) throw new Error("killed");
        super.remove(path);
      }
      override openForWriting(path: BytePath): OpenFile {
        if (path.includes(TABLESPACE)) throw new Error("killed");
        return super.openForWriting(path);
      }
    })();
    const stopped = run(new SmallEngine({ memory, fs }), site, source);
    await assert.rejects(stopped, /killed/);

    const elsewhere = `${site.tablespace}_elsewhere`;
    mkdirSync(join(elsewhere, dirname(IN_TABLESPACE)), { recursive: true });
    for (const name of [IN_TABLESPACE, DUE, LEFT])
      writeFileSync(join(elsewhere, name), "another's");
    const link = join(site.datadir, TABLESPACE);
    const again = new SmallEngine({ memory });
    const wal = readlinkSync(join(site.datadir, "pg_wal"));
    const swaps: Record<string, () => void> = {
      "a tablespace": () => pointTo(link, elsewhere),
      pg_wal: () => pointTo(join(site.datadir, "pg_wal"), elsewhere),
      "pg_wal became a folder": () => {
        rmSync(join(site.datadir, "pg_wal"));
        cpSync(wal, join(site.datadir, "pg_wal"), { recursive: true });
      },
    };
    if (what !== "sync") {
      swaps["another tablespace"] = () => symlinkSync(elsewhere, join(site.datadir, "pg_tblspc/9"));
      swaps["a tablespace that is gone"] = () => rmSync(link);
    }
    const restore = (): void => {
      rmSync(join(site.datadir, "pg_tblspc/9"), { force: true });
      for (const [path, target] of [
        [link, site.tablespace],
        [join(site.datadir, "pg_wal"), wal],
      ] as const) {
        rmSync(path, { recursive: true, force: true });
        symlinkSync(target, path);
      }
    };
    for (const [swap, act] of Object.entries(swaps)) {
      act();
      const places = [site.datadir, site.tablespace, elsewhere, wal].map((place) => treeOf(place));
      for (const goOn of [() => again.recover(site.datadir), () => run(again, site, source)]) {
        await assert.rejects(
          goOn(),
          {
            code: "integrity",
            message: /^"pg_.*" in ".*" leads elsewhere than when the run was begun: /,
          },
          swap,
        );
      }
      const after = [site.datadir, site.tablespace, elsewhere, wal].map((place) => treeOf(place));
      for (const [i, before] of places.entries()) assertSameTree(after[i] ?? before, before);
      restore();
    }
    await run(again, site, source);
    assert.ok(!existsSync(join(site.datadir, "tde.journal")));
    if (what !== "decrypt-datadir") assert.deepEqual(await noticesOf(again, site.datadir), []);
  });
}

test("a directory whose guard was taken away is not encrypted already, and nothing is done to it", async () => {
  const engine = new SmallEngine();
  const datadir = makeSmallCluster();
  await engine.encrypt(datadir);
  const guard = join(datadir, "postgresql.auto.conf");
  for (const act of [() => rmSync(guard), () => writeFileSync(guard, "# mine\n")]) {
    act();
    const before = treeOf(datadir);
    for (const dryRun of [true, false]) {
      await assert.rejects(engine.encrypt(datadir, { dryRun }), {
        code: "integrity",
        message: /^the guard in ".*postgresql\.auto\.conf" is gone$/,
      });
    }
    assertSameTree(treeOf(datadir), before);
  }
});
