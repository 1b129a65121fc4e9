/**
 * Someone who can write to a directory replaces a file by a link to another one, after tde has looked what it is and
 * before it opens it. Root would then read, encrypt into another's hands or give away whatever the link leads to. What it
 * leads to here is the very file, so that nothing but the link itself can be noticed.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath, type BytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import { verifyArchive } from "../../src/engine/wal-archive/verify-archive.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { StorageError, TdeError } from "../../src/errors.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { DelegatingFileSystem } from "../support/delegating-file-system.ts";
import { testKeys } from "../support/keys.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Swaps one file for a link to it, just before it is opened for the n-th time. */
class SwappingFileSystem extends DelegatingFileSystem {
  swapped = false;
  readonly #path: BytePath;
  readonly #elsewhere: string;
  #left: number;

  constructor(path: string, elsewhere: string, nth: number) {
    super();
    this.#path = bytePath(path);
    this.#elsewhere = elsewhere;
    this.#left = nth;
  }

  override open(path: BytePath): OpenFile {
    if (path === this.#path && --this.#left === 0) {
      renameSync(path, this.#elsewhere);
      symlinkSync(this.#elsewhere, path);
      this.swapped = true;
    }
    return super.open(path);
  }
}

const READABLE = { wal: "readable" } as const;
/** Before which of its openings a file is swapped: for a look at its head, a digest, its content. */
const OPENINGS = [1, 2, 4];

type Command = (engine: SmallEngine, datadir: string, output: string) => Promise<unknown>;

const ON_PLAIN: Readonly<Record<string, Command>> = {
  "encrypt-datadir": (engine, datadir) => engine.encrypt(datadir, READABLE),
  "encrypt-datadir --output": (engine, datadir, output) =>
    encryptIntoOutput(engine.engine, engine.keyContext, engine.encryptOptions(datadir, READABLE), {
      output: bytePath(output),
      tablespaceMapping: new Map(),
    }),
};

const ON_ENCRYPTED: Readonly<Record<string, Command>> = {
  "decrypt-datadir": (engine, datadir) => engine.decrypt(datadir),
  "decrypt-datadir --output": (engine, datadir, output) =>
    decryptIntoOutput(engine.engine, engine.keyContext, engine.decryptOptions(datadir), {
      output: bytePath(output),
      tablespaceMapping: new Map(),
    }),
  rotate: (engine, datadir) => engine.rotate(datadir),
};

function plainCluster(): { datadir: string; segment: string } {
  const datadir = makeSmallCluster();
  const { paths } = addSegments(datadir);
  return { datadir, segment: paths[0] ?? "" };
}

for (const [commands, isEncrypted] of [
  [ON_PLAIN, false],
  [ON_ENCRYPTED, true],
] as const) {
  for (const [name, run] of Object.entries(commands)) {
    test(`${name} refuses a file that became a link between stat and open, whenever that was`, async (t) => {
      const { datadir, segment } = plainCluster();
      if (isEncrypted) await new SmallEngine().encrypt(datadir, READABLE);
      const paths = [ORDINARY, segment, WAL_FILE, "pg_hba.conf"];
      if (isEncrypted) paths.push(`${ORDINARY}_tde`, `${segment}_tde`);
      // Of these a rotation has its facts from the manifest.
      const unread = name === "rotate" ? ["pg_hba.conf"] : [];
      for (const path of paths.filter((each) => !unread.includes(each))) {
        let swaps = 0;
        for (const nth of OPENINGS) {
          const folder = temporaryDirectory(t);
          const copy = copyOf(datadir);
          const fs = new SwappingFileSystem(join(copy, path), join(folder, "elsewhere"), nth);
          const error = await run(new SmallEngine({ fs }), copy, join(folder, "output")).then(
            () => undefined,
            (thrown: unknown) => thrown,
          );
          if (!fs.swapped) break;
          swaps++;
          const what = `${path}, opened for the ${nth}th time`;
          assert.ok(error instanceof TdeError, `${what}: ${String(error)}`);
          assert.match(error.message, /too many symbolic links|where a file should be/, what);
        }
        assert.ok(swaps > 0, `${path} is never opened`);
      }
    });
  }
}

test("verify names a file that became a link between stat and open", async (t) => {
  const { datadir, segment } = plainCluster();
  await new SmallEngine().encrypt(datadir, READABLE);
  for (const path of [ORDINARY, `${ORDINARY}_tde`, segment, WAL_FILE, "pg_hba.conf"]) {
    const copy = copyOf(datadir);
    const elsewhere = join(temporaryDirectory(t), "elsewhere");
    const fs = new SwappingFileSystem(join(copy, path), elsewhere, 1);
    const { problems } = await new SmallEngine({ fs }).verify(copy);
    assert.ok(fs.swapped, path);
    assert.deepEqual(
      problems.map((problem) => `${problem.kind} ${problem.path}`),
      [`unreadable ${path.replace(/_tde$/, "")}`],
    );
    assert.match(problems[0]?.message ?? "", /too many symbolic links/);
  }
});

test("sync refuses a file of its source or of the copy that became a link between stat and open", async (t) => {
  const { datadir } = plainCluster();
  const source = copyOf(datadir);
  await new SmallEngine().encrypt(datadir, READABLE);
  for (const side of ["source", "copy"] as const) {
    const sides = { source: copyOf(source), copy: copyOf(datadir) };
    const elsewhere = join(temporaryDirectory(t), "elsewhere");
    const fs = new SwappingFileSystem(join(sides[side], ORDINARY), elsewhere, 1);
    await assert.rejects(new SmallEngine({ fs }).sync(sides.source, sides.copy), {
      code: "storage",
      message: /too many symbolic links/,
    });
    assert.ok(fs.swapped);
  }
});

test("a file of an archive that became a link is not opened", async (t) => {
  const { archive, name, source } = await smallArchive(t);
  const path = join(archive, name);
  const target = bytePath(join(archive, "../RECOVERYXLOG"));
  const keys = testKeys();
  let swaps = 0;
  for (const nth of OPENINGS) {
    const elsewhere = join(temporaryDirectory(t), "elsewhere");
    const fs = new SwappingFileSystem(path, elsewhere, nth);
    const restored = restoreWal(fs, keys, { source: bytePath(path), target, allowPlain: false });
    const error = await restored.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!fs.swapped) break;
    assert.ok(error instanceof StorageError && error.errno === "ELOOP", String(error));
    renameSync(elsewhere, path);
    swaps++;
  }
  assert.ok(swaps > 0);
  const elsewhere = join(temporaryDirectory(t), "elsewhere");
  const fs = new SwappingFileSystem(path, elsewhere, 1);
  const request = { archive: bytePath(archive), allowPlain: false };
  const { problems } = await verifyArchive({ fs, keys, signal: undefined }, request);
  assert.deepEqual(
    problems.map((problem) => `${problem.kind} ${problem.name}`),
    [`unreadable ${name}`],
  );
  // What is there already is not held against what a link leads to, either.
  const context = { fs: new DelegatingFileSystem(), keys, joins: () => undefined };
  const destination = bytePath(path);
  const request2 = { source: bytePath(source), destination, compression: "none" } as const;
  await assert.rejects(archiveWal(context, request2), { code: "state" });
});

async function smallArchive(
  t: TestContext,
): Promise<{ archive: string; name: string; source: string }> {
  const { datadir, segment } = plainCluster();
  const archive = join(temporaryDirectory(t), "archive");
  mkdirSync(archive);
  const name = segment.replace("pg_wal/", "");
  const source = join(datadir, segment);
  assert.ok(readFileSync(source).length > 0);
  const context = { fs: new DelegatingFileSystem(), keys: testKeys(), joins: () => undefined };
  await archiveWal(context, {
    source: bytePath(source),
    destination: bytePath(join(archive, name)),
    compression: "none",
  });
  return { archive, name, source };
}
