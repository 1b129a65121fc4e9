/**
 * Whoever can write to a directory that is decrypted with --damaged can put files, links and folders wherever it works. Nothing
 * that is whole is lost by that, nothing of it passes for what was decrypted, and no plaintext goes elsewhere.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import type { DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import { IntegrityError, TdeError } from "../../src/errors.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit, sidecarOf } from "../support/forger.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  TestMemory,
} from "../support/small-cluster.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const FILES = "tde.damaged/files";
/** Users' own, sealed whole. */
const OWN = ["report.txt", "notes", "notes_tde", "my_folder/secret"];

let plain = "";
let encrypted = "";
/** The same cluster in an older encryption, under the same keys. */
let older = "";
let memory: TestMemory;

before(async () => {
  plain = makeSmallCluster();
  mkdirSync(join(plain, "my_folder"), { mode: 0o700 });
  for (const path of OWN) writeFileSync(join(plain, path), `content of ${path}`, { mode: 0o600 });
  older = copyOf(plain);
  await new SmallEngine().encrypt(older);
  encrypted = copyOf(plain);
  memory = new TestMemory();
  await new SmallEngine({ memory }).encrypt(encrypted);
});

function damageHeader(datadir: string, path: string): void {
  flipBit(join(datadir, path), 20 * 8);
}

function flipInBlock5(datadir: string): void {
  flipBit(join(datadir, LARGE), (5 * BLOCK_SIZE + 4000) * 8);
}

function decrypt(
  datadir: string,
  damaged: "keep" | "zero" | "skip",
  {
    dryRun = false,
    memory: own = memory.copy(),
    fs = new StoppingFileSystem(),
  }: { dryRun?: boolean; memory?: TestMemory; fs?: StoppingFileSystem } = {},
): Promise<DecryptReport> {
  return new SmallEngine({ memory: own, fs }).decrypt(datadir, { damaged, dryRun });
}

function decryptTo(output: string, datadir: string): Promise<DecryptReport> {
  const small = new SmallEngine({ memory: memory.copy() });
  return decryptIntoOutput(
    small.engine,
    small.keyContext,
    small.decryptOptions(datadir, { damaged: "keep" }),
    { output: bytePath(output), tablespaceMapping: new Map() },
  );
}

function outcomes({ damaged }: DecryptReport): [path: string, done: string][] {
  return damaged.map(({ path, done }) => [path, done]);
}

test("a file that is called as the report is, is put aside beside it", async () => {
  const datadir = copyOf(encrypted);
  damageHeader(datadir, "report.txt");
  const sealed = readFileSync(join(datadir, "report.txt"));
  const { damaged } = await decrypt(datadir, "keep");
  assert.equal(damaged[0]?.kept, `${FILES}/report.txt`);
  assert.deepEqual(readFileSync(join(datadir, FILES, "report.txt")), sealed);
  assert.match(readFileSync(join(datadir, "tde.damaged/report.txt"), "utf8"), /^report\.txt: left/);
});

for (const policy of ["keep", "zero", "skip"] as const) {
  test(`a file that is only called like a sidecar stays with --damaged=${policy}`, async () => {
    const datadir = copyOf(encrypted);
    damageHeader(datadir, "notes");
    assert.deepEqual(outcomes(await decrypt(datadir, policy)), [["notes", "left-out"]]);
    assert.equal(readFileSync(join(datadir, "notes_tde"), "utf8"), "content of notes_tde");
  });
}

test("where pages of a sidecar are of another encryption, what opens under the others comes back", async () => {
  const datadir = copyOf(encrypted);
  const sidecar = readFileSync(sidecarOf(join(datadir, LARGE)));
  readFileSync(sidecarOf(join(older, LARGE))).copy(sidecar, 0, 0, BLOCK_SIZE);
  writeFileSync(sidecarOf(join(datadir, LARGE)), sidecar);
  const { damaged } = await decrypt(datadir, "keep");
  const slots = BLOCK_SIZE / 128 - 1;
  assert.deepEqual(damaged[0]?.lost, [{ first: 0, count: slots }]);
  const original = readFileSync(join(plain, LARGE)).fill(0, 0, slots * BLOCK_SIZE);
  assert.deepEqual(readFileSync(join(datadir, LARGE)), original);
});

/** A decryption with --damaged that was stopped before the first damaged file was put aside, or right behind that. */
async function stopped(
  damage: (datadir: string) => void,
  when: "before" | "behind",
): Promise<{ datadir: string; own: TestMemory }> {
  const whole = copyOf(encrypted);
  damage(whole);
  const rehearsal = new StoppingFileSystem();
  await decrypt(whole, "keep", { fs: rehearsal });
  const aside = rehearsal.log.findIndex(
    (what, i) =>
      what === "rename" &&
      rehearsal.paths[i]?.includes("/base/1/") === true &&
      rehearsal.paths.slice(0, i).some((path) => path.endsWith(FILES)),
  );
  assert.ok(aside > 0, rehearsal.log.join());
  const datadir = copyOf(encrypted);
  damage(datadir);
  const own = memory.copy();
  const opened = rehearsal.paths.findIndex((path, i) => i > aside && path.endsWith("1255_tdenew"));
  const fs = new StoppingFileSystem(when === "before" ? aside - 3 : opened);
  await assert.rejects(decrypt(datadir, "keep", { memory: own, fs }), Stopped);
  assert.equal(existsSync(join(datadir, FILES, LARGE)), when === "behind");
  return { datadir, own };
}

const PLANTS: Readonly<Record<string, (path: string) => void>> = {
  "an empty file": (path) => writeFileSync(path, ""),
  "a file of noise": (path) => writeFileSync(path, Buffer.alloc(3 * BLOCK_SIZE, 0x5a)),
  "a folder": (path) => mkdirSync(path),
  "a link": (path) => symlinkSync("../../../base/1/1259", path),
};

for (const [what, plant] of Object.entries(PLANTS)) {
  test(`${what} in the place where a file is to be put aside makes nobody lose that file`, async () => {
    const { datadir, own } = await stopped(flipInBlock5, "before");
    const sealed = readFileSync(join(datadir, LARGE));
    mkdirSync(dirname(join(datadir, FILES, LARGE)), { recursive: true });
    plant(join(datadir, FILES, LARGE));
    const recover = (): Promise<string> => new SmallEngine({ memory: own }).recover(datadir);
    await assert.rejects(recover(), (error) => {
      assert.ok(error instanceof IntegrityError, String(error));
      assert.match(error.message, /are both there, and one of them is not tde's/);
      return true;
    });
    assert.deepEqual(readFileSync(join(datadir, LARGE)), sealed);
    rmSync(join(datadir, FILES, LARGE), { recursive: true });
    assert.equal(await recover(), "decryption-damaged");
    assert.deepEqual(readFileSync(join(datadir, FILES, LARGE)), sealed);
    const original = readFileSync(join(plain, LARGE)).fill(0, 5 * BLOCK_SIZE, 6 * BLOCK_SIZE);
    assert.deepEqual(readFileSync(join(datadir, LARGE)), original);
  });
}

test("a forged file in the place of one that was put aside passes for nothing", async () => {
  const { datadir, own } = await stopped((at) => {
    flipInBlock5(at);
    rmSync(sidecarOf(join(at, ORDINARY)));
  }, "behind");
  const recover = (): Promise<string> => new SmallEngine({ memory: own }).recover(datadir);
  for (const path of [LARGE, ORDINARY]) {
    writeFileSync(join(datadir, path), readFileSync(join(plain, ORDINARY)));
    await assert.rejects(recover(), /are both there, and one of them is not tde's/, path);
    rmSync(join(datadir, path));
  }
  assert.equal(await recover(), "decryption-damaged");
  assert.equal(existsSync(join(datadir, ORDINARY)), false);
});

test("what was put aside and is there once more passes for nothing, be it a sidecar or in no line", async () => {
  const extra = "base/1/77777";
  const { datadir, own } = await stopped((at) => {
    flipInBlock5(at);
    writeFileSync(join(at, extra), "x");
  }, "behind");
  const recover = (): Promise<string> => new SmallEngine({ memory: own }).recover(datadir);
  for (const path of [extra, sidecarOf(LARGE)]) {
    writeFileSync(join(datadir, path), "somebody's");
    await assert.rejects(recover(), /are both there, and one of them is not tde's/, path);
    assert.equal(readFileSync(join(datadir, path), "utf8"), "somebody's");
    rmSync(join(datadir, path));
  }
  assert.equal(await recover(), "decryption-damaged");
  assert.equal(readFileSync(join(datadir, FILES, extra), "utf8"), "x");
});

test("a file with the name of a working file is refused before anything is written", async () => {
  const datadir = copyOf(encrypted);
  writeFileSync(join(datadir, "base/1/1259_tdenew"), "somebody's");
  const there = treeOf(datadir);
  for (const dryRun of [true, false])
    await assert.rejects(decrypt(datadir, "keep", { dryRun }), (error) => {
      assert.ok(error instanceof IntegrityError);
      assert.match(error.hint ?? "", /move it out of the data directory/);
      return true;
    });
  assertSameTree(treeOf(datadir), there);
});

test("a link in the place of a folder leads no plaintext elsewhere", async () => {
  const datadir = copyOf(encrypted);
  const beside = join(dirname(datadir), "shared");
  renameSync(join(datadir, "my_folder"), beside);
  symlinkSync("../shared", join(datadir, "my_folder"));
  const output = join(temporaryPath("output"), "data");
  mkdirSync(join(dirname(output), "shared"));
  const there = treeOf(beside);
  const into = await decryptTo(output, datadir);
  assert.deepEqual(into.damaged.find(({ path }) => path === "my_folder/secret")?.done, "missing");
  assert.deepEqual(readdirSync(join(dirname(output), "shared")), []);
  assert.equal(existsSync(join(output, "my_folder")), false);
  const { damaged } = await decrypt(datadir, "keep");
  assert.deepEqual(damaged.find(({ path }) => path === "my_folder/secret")?.done, "missing");
  assertSameTree(treeOf(beside), there);
});

/** What no line names, and what becomes of it. */
const EXTRAS: Readonly<Record<string, (datadir: string) => readonly string[]>> = {
  "a folder with a file": (datadir) => {
    mkdirSync(join(datadir, "base/99"));
    writeFileSync(join(datadir, "base/99/1"), "x");
    return ["base/99", "base/99/1"];
  },
  "a folder with folders": (datadir) => {
    mkdirSync(join(datadir, "base/98/inner"), { recursive: true });
    writeFileSync(join(datadir, "base/98/inner/1"), "x");
    writeFileSync(join(datadir, "base/98/2"), "x");
    return ["base/98", "base/98/inner", "base/98/inner/1", "base/98/2"];
  },
  "a link to elsewhere": (datadir) => {
    symlinkSync("/etc", join(datadir, "zzz"));
    return ["zzz"];
  },
  "a link among relations": (datadir) => {
    symlinkSync("1259", join(datadir, "base/1/77777"));
    return ["base/1/77777"];
  },
  "a name that is not ASCII": (datadir) => {
    writeFileSync(join(datadir, "grün \u001b[1m.txt"), "x");
    return ["grün \u001b[1m.txt"];
  },
  "a relation with a sidecar": (datadir) => {
    writeFileSync(join(datadir, "base/1/77777"), "x");
    writeFileSync(join(datadir, "base/1/77777_tde"), "x");
    return ["base/1/77777", "base/1/77777_tde"];
  },
};

for (const [what, plant] of Object.entries(EXTRAS)) {
  test(`what no line names is put aside, and not in a new directory: ${what}`, async () => {
    const datadir = copyOf(encrypted);
    const paths = plant(datadir);
    const output = join(temporaryPath("output"), "data");
    const into = await decryptTo(output, datadir);
    const inPlace = await decrypt(datadir, "keep");
    for (const [report, at] of [
      [into, output],
      [inPlace, datadir],
    ] as const) {
      assert.ok(report.damaged.length > 0);
      assert.ok(report.damaged.every(({ done }) => done === "left-out"));
      assertSameTree(treeOf(at), treeOf(plain), {
        except: (path) => /^\.$|tde\.damaged/.test(path),
      });
    }
    for (const path of paths)
      assert.ok(
        readdirSync(join(datadir, FILES, dirname(path))).includes(path.split("/").at(-1) ?? ""),
      );
  });
}

test("a link in the place of a relation is put aside, and what it leads to stays", async () => {
  const datadir = copyOf(encrypted);
  const elsewhere = join(dirname(datadir), "moved");
  renameSync(join(datadir, ORDINARY), elsewhere);
  symlinkSync(elsewhere, join(datadir, ORDINARY));
  const sealed = readFileSync(elsewhere);
  assert.deepEqual(outcomes(await decrypt(datadir, "keep", { dryRun: true })), [
    [ORDINARY, "to-come"],
  ]);
  assert.deepEqual(outcomes(await decrypt(datadir, "keep")), [[ORDINARY, "left-out"]]);
  assert.deepEqual(readFileSync(elsewhere), sealed);
  assert.equal(existsSync(join(datadir, ORDINARY)), false);
});

test("more names than a journal holds are refused before anything is written", async () => {
  const datadir = copyOf(encrypted);
  const folder = Array.from({ length: 14 }, () => "d".repeat(250)).join("/");
  mkdirSync(join(datadir, folder), { recursive: true });
  for (let i = 0; i < 2500; i++) writeFileSync(join(datadir, folder, String(i)), "");
  await assert.rejects(decrypt(datadir, "keep"), /more than the 8388608 that can be dealt with/);
  assert.equal(existsSync(join(datadir, "tde_tdenew.journal")), false);
});

test("a folder in the report's place is named, and the run goes on without it", async () => {
  const { datadir, own } = await stopped(flipInBlock5, "behind");
  mkdirSync(join(datadir, "tde.damaged/report.txt"));
  const recover = (): Promise<string> => new SmallEngine({ memory: own }).recover(datadir);
  await assert.rejects(recover(), (error) => {
    assert.ok(error instanceof TdeError);
    assert.match(error.hint ?? "", /Move it away/);
    return true;
  });
  rmSync(join(datadir, "tde.damaged/report.txt"), { recursive: true });
  assert.equal(await recover(), "decryption-damaged");
});

for (const [what, damage] of Object.entries({
  "a flipped bit": (datadir: string) => flipBit(join(datadir, "tde.postgresql.auto.conf"), 1600),
  "no file": (datadir: string) => rmSync(join(datadir, "tde.postgresql.auto.conf")),
  "an older one": (datadir: string) =>
    writeFileSync(
      join(datadir, "tde.postgresql.auto.conf"),
      readFileSync(join(older, "tde.postgresql.auto.conf")),
    ),
})) {
  test(`the sealed original of postgresql.auto.conf locks nothing else: ${what}`, async () => {
    const datadir = copyOf(encrypted);
    damage(datadir);
    const there = treeOf(datadir);
    await assert.rejects(new SmallEngine({ memory: memory.copy() }).decrypt(datadir), TdeError);
    await decrypt(datadir, "keep", { dryRun: true });
    assertSameTree(treeOf(datadir), there);
    const output = join(temporaryPath("output"), "data");
    await decryptTo(output, datadir);
    await decrypt(datadir, "keep");
    for (const at of [output, datadir]) {
      assertSameTree(treeOf(at), treeOf(plain), {
        except: (path) => /^\.$|tde\.damaged|postgresql\.auto\.conf/.test(path),
      });
      const conf = readFileSync(join(at, "postgresql.auto.conf"), "utf8");
      assert.equal(conf, "# What ALTER SYSTEM had set was damaged, and is lost.\n");
      assert.match(
        readFileSync(join(at, "tde.damaged/report.txt"), "utf8"),
        /settings that ALTER SYSTEM made are lost/,
      );
    }
  });
}
