/**
 * Tablespaces in odd places: one in the folder of another, one in the data directory, the data directory in the folder of
 * one. Every file is encrypted once, by the path of its own tablespace, none is taken for somebody else's, and all come back.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { tablespaceFolder } from "../../src/datadir/relation-path.ts";
import { walkDatadir } from "../../src/datadir/walk.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { StateError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster, ORDINARY, SmallEngine, TestMemory } from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const fs = new NodeFileSystem();

interface Site {
  /** All of it: the data directory and what its links lead to. */
  readonly folder: string;
  readonly datadir: string;
  /** OID of a tablespace -> its place, relative to the folder. */
  readonly places: Readonly<Record<number, string>>;
}

/** Absolute links, as servers make them. */
function site(datadirName: string, places: Site["places"]): Site {
  const folder = temporaryPath("nested");
  const small = makeSmallCluster();
  const datadir = join(folder, datadirName);
  copyInto(small, datadir);
  const own = tablespaceFolder(openDatadir(fs, bytePath(datadir)));
  for (const [oid, place] of Object.entries(places)) {
    const used = join(folder, place, own, "1");
    mkdirSync(used, { recursive: true, mode: 0o700 });
    writeFileSync(join(used, `9${oid}`), readFileSync(join(small, ORDINARY)), { mode: 0o600 });
    symlinkSync(join(folder, place), join(datadir, "pg_tblspc", oid));
  }
  return { folder, datadir, places };
}

function copyInto(from: string, to: string): void {
  mkdirSync(join(to, ".."), { recursive: true, mode: 0o700 });
  copyTree(from, to);
}

const SITES: Readonly<Record<string, () => Site>> = {
  "in the folder of another": () => site("data", { 16500: "ts", 16501: "ts/inner" }),
  "around another of a lower OID": () => site("data", { 16500: "ts/inner", 16501: "ts" }),
  "deep in the folder of another": () => site("data", { 16500: "ts", 16501: "ts/a/b" }),
  "in the data directory": () => site("data", { 16500: "data/my_ts" }),
  "in a folder of the data directory, and one in its folder": () =>
    site("data", { 16500: "data/places/ts", 16501: "data/places/ts/inner" }),
  "around the data directory": () => site("ts/data", { 16500: "ts" }),
};

for (const [where, make] of Object.entries(SITES)) {
  test(`a tablespace ${where}: each file is listed and encrypted once, and comes back`, async () => {
    const { folder, datadir, places } = make();
    const before = treeOf(folder);
    const listed = [...walkDatadir(fs, bytePath(datadir), openDatadir(fs, bytePath(datadir)))];
    const inodes = listed
      .filter(({ kind }) => kind === "file")
      .map(({ path }) => fs.stat(bytePath(join(datadir, path)))?.inode);
    assert.equal(new Set(inodes).size, inodes.length, "a file is listed twice");
    const small = new SmallEngine();
    const report = await small.encrypt(datadir);
    const plaintext = report.proof?.plaintext ?? assert.fail();
    const foreign = plaintext.filter(({ why }) => /not part of this cluster/.test(why));
    assert.deepEqual(foreign, []);
    for (const [oid, place] of Object.entries(places)) {
      const own = tablespaceFolder(openDatadir(fs, bytePath(datadir)));
      const file = join(folder, place, own, "1", `9${oid}`);
      assert.ok(existsSync(`${file}_tde`), file);
      assert.ok(!readFileSync(file).equals(readFileSync(join(makeSmallCluster(), ORDINARY))));
    }
    assert.deepEqual((await small.verify(datadir)).problems, []);
    await small.rotate(datadir);
    await small.decrypt(datadir);
    assertSameTree(treeOf(folder), before);
  });
}

test("what lies beside a nested tablespace is not this cluster's, and is said to be so", async () => {
  const { folder, datadir } = site("data", { 16500: "ts", 16501: "ts/a/b" });
  writeFileSync(join(folder, "ts/notes"), "mine");
  const small = new SmallEngine();
  const report = await small.encrypt(datadir);
  const plaintext = report.proof?.plaintext ?? assert.fail();
  const whys = plaintext.map(({ why, example }) => `${example}: ${why}`).join("\n");
  assert.match(whys, /16500\/notes: in a tablespace's directory, but not part of this cluster/);
  assert.match(whys, /16500\/a: .* with another tablespace of this cluster in it/);
});

test("a tablespace in a folder that a server makes, or in the data directory's place, is refused", () => {
  for (const place of ["data/base/ts", "data/pg_wal/ts", "data/pg_tblspc/ts", "data"]) {
    const { datadir } = site("data", { 16500: place });
    assert.throws(() => openDatadir(fs, bytePath(datadir)), /overlaps the data directory/, place);
  }
});

/** New places that lie in each other as the old ones do. */
function mapping(
  { folder }: Site,
  to: string,
): { output: BytePath; tablespaceMapping: Map<BytePath, BytePath> } {
  return {
    output: bytePath(join(to, "data")),
    tablespaceMapping: new Map([
      [bytePath(join(folder, "ts/inner")), bytePath(join(to, "ts/inner"))],
      [bytePath(join(folder, "ts")), bytePath(join(to, "ts"))],
    ]),
  };
}

const isLink = (path: string): boolean => path.startsWith("./data/pg_tblspc/1650");

for (const exists of [false, true]) {
  test(`a tablespace in another's new folder ${exists ? "that is there" : "that is made"} is filled by --output, and back`, async () => {
    const plain = site("data", { 16500: "ts/inner", 16501: "ts" });
    const before = treeOf(plain.folder);
    const small = new SmallEngine();
    const [sealed, opened] = [temporaryPath("sealed"), temporaryPath("opened")];
    if (exists) mkdirSync(join(sealed, "ts/inner"), { recursive: true, mode: 0o700 });
    const encrypting = small.encryptOptions(plain.datadir);
    await encryptIntoOutput(small.engine, small.keyContext, encrypting, mapping(plain, sealed));
    assert.deepEqual((await small.verify(join(sealed, "data"))).problems, []);
    const copy: Site = { ...plain, folder: sealed };
    const decrypting = small.decryptOptions(join(sealed, "data"));
    await decryptIntoOutput(small.engine, small.keyContext, decrypting, mapping(copy, opened));
    assertSameTree(treeOf(opened), before, { except: (path) => isLink(path) || path === "." });
    assertSameTree(treeOf(plain.folder), before);
  });
}

test("nested new places are undone wherever the run was killed, and filled by the next", async () => {
  const plain = site("data", { 16500: "ts/inner", 16501: "ts" });
  const before = treeOf(plain.folder);
  const rehearsal = new StoppingFileSystem();
  const first = new SmallEngine({ fs: rehearsal });
  const options = first.encryptOptions(plain.datadir);
  const into = (): ReturnType<typeof mapping> => mapping(plain, temporaryPath("killed"));
  await encryptIntoOutput(first.engine, first.keyContext, options, into());
  for (let stopAt = 3; stopAt < rehearsal.operations; stopAt += stopAt < 60 ? 4 : 37) {
    const memory = new TestMemory();
    const killed = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory });
    const places = into();
    await assert.rejects(
      encryptIntoOutput(killed.engine, killed.keyContext, options, places),
      Stopped,
    );
    const next = new SmallEngine({ memory });
    const outcome = existsSync(places.output) ? await next.recover(places.output) : "nothing-to-do";
    if (outcome === "output-emptied") {
      const outer = places.output.replace(/data$/, "ts");
      const left = existsSync(outer) ? readdirSync(outer, { recursive: true }) : [];
      assert.deepEqual(
        left.filter((name) => name !== "inner"),
        [],
      );
    }
    if (outcome !== "output-finished")
      await encryptIntoOutput(next.engine, next.keyContext, options, places);
    assert.deepEqual((await next.verify(places.output)).problems, []);
    assertSameTree(treeOf(plain.folder), before);
  }
});

test("undoing a new place leaves the one in its folder alone that another run has claimed", async () => {
  const plain = site("data", { 16500: "ts/inner", 16501: "ts" });
  const rehearsal = new StoppingFileSystem();
  const first = new SmallEngine({ fs: rehearsal });
  const options = first.encryptOptions(plain.datadir);
  await encryptIntoOutput(
    first.engine,
    first.keyContext,
    options,
    mapping(plain, temporaryPath("rehearsed")),
  );
  const memory = new TestMemory();
  const stopAt = Math.floor(rehearsal.operations / 2);
  const killed = new SmallEngine({ fs: new StoppingFileSystem(stopAt), memory });
  const to = temporaryPath("taken");
  const places = mapping(plain, to);
  await assert.rejects(
    encryptIntoOutput(killed.engine, killed.keyContext, options, places),
    Stopped,
  );
  writeFileSync(join(to, "ts/inner/tde.claim"), `${"5".repeat(32)}\n`);
  writeFileSync(join(to, "ts/inner/theirs"), "theirs");
  const next = new SmallEngine({ memory });
  assert.equal(await next.recover(places.output), "output-place-left");
  assert.equal(readFileSync(join(to, "ts/inner/theirs"), "utf8"), "theirs");
  assert.deepEqual(readdirSync(join(to, "ts")), ["inner"]);
  assert.match(next.notices.join("\n"), /inner" is left as it is/);
});

test("a new place in the folder that a server makes in another is refused", async () => {
  const plain = site("data", { 16500: "ts/inner", 16501: "ts" });
  const small = new SmallEngine();
  const own = tablespaceFolder(openDatadir(fs, bytePath(plain.datadir)));
  const to = temporaryPath("refused");
  const { output, tablespaceMapping } = mapping(plain, to);
  tablespaceMapping.set(bytePath(join(plain.folder, "ts/inner")), bytePath(join(to, "ts", own)));
  await assert.rejects(
    encryptIntoOutput(small.engine, small.keyContext, small.encryptOptions(plain.datadir), {
      output,
      tablespaceMapping,
    }),
    (error: unknown) => error instanceof StateError && /overlaps/.test(error.message),
  );
});
