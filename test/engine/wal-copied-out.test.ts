/**
 * Segments that were copied out of the pg_wal of an encrypted data directory, of any epoch and sealed in any way:
 * `tde wal verify` and `tde wal decrypt` know them, and they come back bit for bit.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { beforeEach, test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptWal, type DecryptWalReport } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { verifyArchive } from "../../src/engine/wal-archive/verify-archive.ts";
import { IntegrityError, KeyError, StateError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { flipBit } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { copyOf, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { message, SEGMENT, WalWriter } from "../support/written-wal.ts";

const FOREIGN = "000000010000000000000050";

const fs = new NodeFileSystem();
let small = new SmallEngine();
let original = "";
/** Of whole segments of this cluster. */
let names: string[] = [];
beforeEach(() => {
  small = new SmallEngine();
  original = makeSmallCluster();
  names = addSegments(original).paths.map((path) => basename(path));
  copyFileSync(inPgWal(names[0]), inPgWal("000000010000000000000052"));
  writeFileSync(inPgWal("000000010000000000000053"), Buffer.alloc(SEGMENT), { mode: 0o600 });
  const other = new WalWriter(17, { firstSegment: 0x50 });
  other.append(message("foreign", Buffer.from("of another cluster")));
  writeFileSync(inPgWal(FOREIGN), other.segments[0] ?? "", { mode: 0o600 });
});

function inPgWal(name = ""): string {
  return join(original, "pg_wal", name);
}

/** Everything in pg_wal but folders, as somebody copies it. */
function copiedOut(t: TestContext, datadir: string): string {
  const folder = temporaryDirectory(t);
  for (const entry of readdirSync(join(datadir, "pg_wal"), { withFileTypes: true })) {
    if (entry.isFile()) copyFileSync(join(datadir, "pg_wal", entry.name), join(folder, entry.name));
  }
  return folder;
}

async function decrypt(
  folder: string,
  only?: string[],
  keys = testKeys(),
): Promise<DecryptWalReport> {
  const request = { folder: bytePath(folder), names: only && new Set(only.map(bytePath)) };
  return await decryptWal(small.engine, keys, request);
}

function assertOriginals(folder: string): void {
  const expected = readdirSync(inPgWal(), { withFileTypes: true }).filter((each) => each.isFile());
  assert.deepEqual(readdirSync(folder).sort(), expected.map(({ name }) => name).sort());
  for (const { name } of expected) {
    assert.ok(readFileSync(join(folder, name)).equals(readFileSync(inPgWal(name))), name);
  }
}

async function problemsOf(folder: string): Promise<string[]> {
  const request = { archive: bytePath(folder), allowPlain: false };
  const context = { fs, keys: testKeys(), signal: undefined };
  const { problems } = await verifyArchive(context, request);
  return problems.map(({ kind, name }) => `${kind} ${name}`);
}

for (const wal of ["readable", "sealed"] as const) {
  test(`what was encrypted with --wal ${wal} comes back bit for bit, of the first epoch and of a later one`, async (t) => {
    const datadir = copyOf(original);
    for (const epoch of [1, 2]) {
      if (epoch === 1) await small.encrypt(datadir, { wal });
      else await new SmallEngine({ keys: testKeys(2) }).rotate(datadir);
      const folder = copiedOut(t, datadir);
      const { decrypted, plain, sealed } = await decrypt(folder, undefined, testKeys(2));
      assert.equal(decrypted, names.length + 4);
      assert.deepEqual([plain, sealed.length], [0, 0]);
      assertOriginals(folder);
      // Again there is nothing to do, whatever stands there now.
      const again = await decrypt(folder, undefined, testKeys(2));
      assert.deepEqual([again.decrypted, again.plain], [0, names.length + 4]);
    }
  });

  test(`with --wal ${wal} what verifies decrypts, and a flipped bit is found by both`, async (t) => {
    const datadir = copyOf(original);
    await small.encrypt(datadir, { wal });
    const folder = copiedOut(t, datadir);
    const odd = readdirSync(folder).filter((name) => !names.includes(name.replace("_tde", "")));
    for (const name of odd) renameSync(join(folder, name), join(temporaryDirectory(t), name));
    assert.deepEqual(await problemsOf(folder), []);
    const [first = "", second = ""] = names;
    flipBit(join(folder, second), 8 * 9000);
    assert.ok((await problemsOf(folder)).includes(`tag ${second}`));
    await assert.rejects(decrypt(folder, [second]), IntegrityError);
    assert.equal((await decrypt(folder, [first])).decrypted, 1);
    assert.ok(readFileSync(join(folder, first)).equals(readFileSync(inPgWal(first))));
    const stranger = { ...testKeys(), keyringId: "00000000000000ff" };
    await assert.rejects(decrypt(folder, [names[2] ?? ""], stranger), KeyError);
  });
}

test("a plain segment that is cut, or of another cluster, does not keep the others from being decrypted", async (t) => {
  const datadir = copyOf(original);
  await small.encrypt(datadir, { wal: "readable" });
  const folder = copiedOut(t, datadir);
  const cut = join(folder, "000000010000000000000060");
  copyFileSync(inPgWal(names[0]), cut);
  truncateSync(cut, 5 * 8192);
  copyFileSync(inPgWal(FOREIGN), join(folder, "000000010000000000000061"));
  const { decrypted, plain } = await decrypt(folder);
  assert.deepEqual([decrypted, plain], [names.length + 4, 2]);
});

test("segments that were copied out are encrypted with others, and rotated, as those of a folder are", async (t) => {
  const datadir = copyOf(original);
  await small.encrypt(datadir, { wal: "readable" });
  const folder = copiedOut(t, datadir);
  await decrypt(folder, names.slice(0, 2));
  const request = { folder: bytePath(folder), names: new Set(names.map(bytePath)) };
  const { encrypted, already } = await encryptWal(small.engine, testKeys(), request);
  assert.deepEqual([encrypted, already], [2, names.length - 2]);
  await decrypt(folder);
  assertOriginals(folder);
});

test("where they still belong to a data directory they are left alone, finished or not", async () => {
  const datadir = copyOf(original);
  await small.encrypt(datadir, { wal: "readable" });
  await assert.rejects(decrypt(join(datadir, "pg_wal")), StateError);
  renameSync(join(datadir, "tde.manifest"), join(datadir, "tde.journal"));
  await assert.rejects(decrypt(join(datadir, "pg_wal")), StateError);
  // A folder beside it is another matter.
  const beside = join(datadir, "..", "wal");
  mkdirSync(beside);
  for (const name of names.slice(0, 1)) {
    for (const suffix of ["", "_tde"])
      copyFileSync(join(datadir, "pg_wal", name + suffix), join(beside, name + suffix));
  }
  assert.equal((await decrypt(beside)).decrypted, 1);
});
