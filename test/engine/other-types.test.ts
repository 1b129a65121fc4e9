/**
 * Something else in the place of a file, folder or link of an encrypted directory: a folder, a link (also to the very
 * file that belongs there), a pipe, a socket, a device, an empty file, or nothing. Whatever stands in the place of
 * whatever, verify says so, decryption refuses it before it writes anything, and nothing waits for a pipe.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { basename, dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { TdeError } from "../../src/errors.ts";
import { temporaryPath } from "../support/cluster.ts";
import { sidecarOf } from "../support/forger.ts";
import { makeSmallCluster, ODD, ORDINARY, SmallEngine } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const SEGMENT = "pg_wal/000000010000000000000005";
const EMPTY = "base/1/90002";
const EXPENDABLE = "pg_notify/0000";
const OUT_OF_SCOPE = "global/1260";

/** What can be replaced, by what it is to tde: at least one of every class of path, and of the manifest. */
const PLACES: Readonly<Record<string, string>> = {
  "a relation file": ORDINARY,
  "a fork": `${ORDINARY}_fsm`,
  "a relation file with an odd tail": ODD,
  "an empty relation file": EMPTY,
  "a relation file out of scope": OUT_OF_SCOPE,
  "a sidecar": sidecarOf(ORDINARY),
  "a WAL segment": SEGMENT,
  "the sidecar of a WAL segment": `${SEGMENT}_tde`,
  "a WAL segment that is sealed whole": "pg_wal/000000010000000000000001",
  "a whole file that is sealed": "pg_twophase/0000000000000001",
  "a readable file": "pg_xact/0000",
  "a configuration file": "pg_hba.conf",
  PG_VERSION: "PG_VERSION",
  "PG_VERSION of a database": "base/1/PG_VERSION",
  pg_control: "global/pg_control",
  "a relation map": "base/1/pg_filenode.map",
  "the guard": "postgresql.auto.conf",
  "the original behind the guard": "tde.postgresql.auto.conf",
  "the manifest": "tde.manifest",
  "a folder": "pg_twophase",
  "a folder of relations": "base/1",
  "a folder in pg_wal": "pg_wal/archive_status",
  "the folder of tablespaces": "pg_tblspc",
  "a link": "server.log",
};

/** What stands there then is what stood there before. */
const IS_NO_CHANGE: ReadonlySet<string> = new Set([
  "an empty file: an empty relation file",
  "an empty folder: a folder in pg_wal",
  "an empty folder: the folder of tablespaces",
]);

type Make = (path: string, original: string) => unknown;

const TYPES: Readonly<Record<string, Make>> = {
  "an empty folder": (path) => mkdirSync(path),
  "a folder with the original in it": (path, original) => {
    mkdirSync(path);
    cpSync(original, join(path, basename(path)), { recursive: true, verbatimSymlinks: true });
  },
  "a link to the original": (path, original) => symlinkSync(original, path),
  "a link to nowhere": (path) => symlinkSync("/nowhere", path),
  "a pipe": (path) => execFileSync("mkfifo", [path]),
  "a socket": async (path) => {
    const server = createServer().listen(path).unref();
    await once(server, "listening");
  },
  "an empty file": (path) => writeFileSync(path, ""),
  nothing: () => {},
  // Only root makes one.
  ...(process.getuid?.() === 0 && {
    "a device": (path: string) => execFileSync("mknod", [path, "c", "1", "3"]),
  }),
};

const small = new SmallEngine();
let encrypted = "";

before(async () => {
  encrypted = makeSmallCluster();
  const { paths } = addSegments(encrypted);
  for (const path of paths.slice(1)) rmSync(join(encrypted, path));
  writeFileSync(join(encrypted, "pg_twophase/0000000000000001"), "a prepared transaction");
  writeFileSync(join(encrypted, EXPENDABLE), "a notification");
  symlinkSync("/etc/hostname", join(encrypted, "server.log"));
  const relations = [ORDINARY, ODD, EMPTY].map(bytePath);
  await small.encrypt(encrypted, { wal: "readable", scope: { ...NOTHING_SELECTED, relations } });
});

for (const [what, place] of Object.entries(PLACES)) {
  for (const [type, make] of Object.entries(TYPES)) {
    if (IS_NO_CHANGE.has(`${type}: ${what}`)) continue;
    test(`noticed by verify and refused by decryption: ${type} in the place of ${what}`, async () => {
      const path = join(encrypted, place);
      const folder = temporaryPath("kept");
      const kept = join(folder, basename(place));
      mkdirSync(folder, { recursive: true });
      renameSync(path, kept);
      try {
        await make(path, kept);
        const before = treeOf(encrypted);
        await assertNamed(place);
        await assert.rejects(small.decrypt(encrypted), TdeError);
        const output = bytePath(join(folder, "output"));
        const request = { output, tablespaceMapping: new Map() };
        const options = small.decryptOptions(encrypted);
        await assert.rejects(
          decryptIntoOutput(small.engine, small.keyContext, options, request),
          TdeError,
        );
        assertSameTree(treeOf(encrypted), before);
      } finally {
        rmSync(path, { recursive: true, force: true });
        renameSync(kept, path);
      }
    });
  }
}

test("with everything in its place again the directory verifies", async () => {
  assert.deepEqual((await small.verify(encrypted)).problems, []);
});

test("an expendable file may be missing, also behind a pipe, and is reported", async () => {
  const path = join(encrypted, EXPENDABLE);
  const kept = join(temporaryPath("kept"), "original");
  mkdirSync(dirname(kept), { recursive: true });
  renameSync(path, kept);
  for (const make of [TYPES["nothing"], TYPES["a pipe"]]) {
    await make?.(path, kept);
    const { ok, missingExpendable } = await small.verify(encrypted);
    assert.deepEqual([ok, missingExpendable], [true, [EXPENDABLE]]);
    rmSync(path, { force: true });
  }
  renameSync(kept, path);
});

/** Verify names the place, or of a sidecar its file; or it refuses the directory as a whole, and says why. */
async function assertNamed(place: string): Promise<void> {
  const isNamed = (text: string): boolean =>
    text.includes(place) || (place.endsWith("_tde") && text.includes(place.slice(0, -4)));
  try {
    const { ok, problems } = await small.verify(encrypted);
    assert.equal(ok, false);
    const paths = problems.map(({ path }) => path);
    assert.ok(paths.some(isNamed), paths.join("\n"));
  } catch (error) {
    if (!(error instanceof TdeError)) throw error;
    assert.ok(isNamed(error.message), error.message);
  }
}
