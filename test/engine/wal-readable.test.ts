/**
 * `tde wal encrypt` and `decrypt` on folders: that they come back, what a real server makes of encrypted segments, and
 * what bad input gets. What a crash leaves: crash-cuts.test.ts and crash-errors.test.ts.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { makeOwnFolder } from "../../src/demo/postgres-server.ts";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { FormatError, IntegrityError, KeyError, UsageError } from "../../src/errors.ts";
import { temporaryPath } from "../support/cluster.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { requireStockTools } from "../support/stock-tools.ts";
import { runTdeBytes, runTde } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { SMALL_SET_MAJORS, unpackSmallSet } from "../support/waldump-cases.ts";
import { crossing, decrypt, encrypt, writeFolder } from "../support/wal-folders.ts";
import { SEGMENT } from "../support/written-wal.ts";

/** Two copies of a set: one to work on, one to compare with. */
function copies(
  t: TestContext,
  major: (typeof SMALL_SET_MAJORS)[number],
  set: string,
): [string, string] {
  const { folder } = unpackSmallSet(major, temporaryDirectory(t));
  const work = join(folder, "work");
  mkdirSync(work);
  for (const name of readdirSync(join(folder, set)))
    copyFileSync(join(folder, set, name), join(work, name));
  return [work, join(folder, set)];
}

function assertSameFolder(actual: string, expected: string): void {
  assert.deepEqual(readdirSync(actual).sort(), readdirSync(expected).sort());
  for (const name of readdirSync(expected)) {
    assert.ok(readFileSync(join(actual, name)).equals(readFileSync(join(expected, name))), name);
  }
}

for (const major of SMALL_SET_MAJORS) {
  test(`a folder of ${major} comes back bit for bit`, async (t) => {
    const [work, original] = copies(t, major, "tl2");
    assert.equal((await encrypt(work)).encrypted, 4);
    assert.equal(await decrypt(work), 4);
    assertSameFolder(work, original);
  });
}

test("a server refuses encrypted WAL before it replays any of it", async (t) => {
  const stock = requireStockTools(t);
  if (stock === undefined) return;
  const folder = temporaryPath("guard");
  const datadir = join(folder, "data");
  const user = serverUser();
  makeOwnFolder(folder, user);
  const made = stock.run("initdb", ["-N", "-U", "postgres", "--wal-segsize=1", "-D", datadir], {
    asServerUser: true,
  });
  assert.equal(made.status, 0, made.stderr);
  await encrypt(join(datadir, "pg_wal"));
  giveTree(datadir, user);
  const settings = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${folder}`];
  const { status, stderr } = stock.run("postgres", ["-D", datadir, ...settings]);
  assert.notEqual(status, 0);
  assert.match(stderr, /WAL file is from different database system/);
  assert.doesNotMatch(stderr, /redo starts/);
});

test("a gap in the run is named, and the segments around it are encrypted each by themselves", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  rmSync(join(folder, writer.name(1)));
  const report = await encrypt(folder);
  assert.deepEqual(report.gaps, [writer.name(2)]);
  assert.equal(await decrypt(folder), 2);
  for (const i of [0, 2]) {
    assert.ok(readFileSync(join(folder, writer.name(i))).equals(writer.segments[i] ?? Buffer.of()));
  }
});

test("some segments of a folder are encrypted, the rest later, and one by one they come back", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  const names = [0, 1, 2].map((i) => writer.name(i));
  assert.equal((await encrypt(folder, { names: names.slice(2) })).encrypted, 1);
  const rest = await encrypt(folder);
  assert.deepEqual([rest.encrypted, rest.already], [2, 1]);
  const { engine } = new SmallEngine();
  for (const [i, name] of names.entries()) {
    const only = new Set([bytePath(name)]);
    await decryptWal(engine, testKeys(2), { folder: bytePath(folder), names: only });
    assert.ok(readFileSync(join(folder, name)).equals(writer.segments[i] ?? Buffer.of()));
  }
});

test("a partial segment, an empty one and one of an older life are encrypted and come back", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  renameSync(join(folder, writer.name(2)), join(folder, `${writer.name(2)}.partial`));
  writeFileSync(join(folder, "000000010000000000000008"), Buffer.alloc(SEGMENT));
  copyFileSync(join(folder, writer.name(0)), join(folder, "000000010000000000000009"));
  writeFileSync(join(folder, "00000001.history"), "not WAL");
  const originals = new Map(
    readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]),
  );
  assert.equal((await encrypt(folder)).encrypted, 5);
  assert.equal((await encrypt(folder)).already, 5);
  assert.equal(await decrypt(folder), 5);
  assert.deepEqual(readdirSync(folder).sort(), [...originals.keys()].sort());
  for (const [name, bytes] of originals)
    assert.ok(readFileSync(join(folder, name)).equals(bytes), name);
});

test("what is no whole segment of one cluster is refused before anything is written", async (t) => {
  const writer = crossing();
  const spoil = async (
    change: (folder: string) => void,
    expected: { code: new () => Error } | RegExp,
    message = /./,
  ): Promise<void> => {
    const folder = writeFolder(t, writer);
    change(folder);
    const before = readdirSync(folder).sort();
    await assert.rejects(encrypt(folder), (error: Error) => {
      assert.ok(expected instanceof RegExp || error instanceof expected.code, String(error));
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(readdirSync(folder).sort(), before);
  };
  const first = writer.name(0);
  await spoil(
    (f) => truncateSync(join(f, first), 5 * 8192),
    { code: FormatError as never },
    /81|of 1048576/,
  );
  await spoil((f) => truncateSync(join(f, first), 0), { code: FormatError as never }, /0 bytes of/);
  await spoil(
    (f) => {
      const other = Buffer.from(writer.segments[0] ?? Buffer.of());
      other.writeBigUInt64LE(7n, 24);
      writeFileSync(join(f, first), other);
    },
    { code: IntegrityError as never },
    /another cluster/,
  );
  await spoil(
    (f) => {
      const other = Buffer.from(writer.segments[0] ?? Buffer.of());
      other.writeUInt32LE(2, 4);
      writeFileSync(join(f, first), other);
    },
    { code: IntegrityError as never },
    /timeline 2/,
  );
});

test("a folder without a segment, and a wrong key, are errors of their own", async (t) => {
  await assert.rejects(encrypt(temporaryDirectory(t)), UsageError);
  const folder = writeFolder(t, crossing());
  await encrypt(folder);
  await assert.rejects(decrypt(folder, testKeys(2, { fill: 7 })), KeyError);
  await assert.rejects(decrypt(folder, testKeys(2, { keyringId: "00000000000000aa" })), KeyError);
});

test("waldump prints with the keyring what it printed before encryption, and tells a wrong key from damage", async (t) => {
  const [work, original] = copies(t, 17, "tl2");
  const keyring = join(work, "..", "app.keyring");
  const key = ["--keyring", keyring, "--key-file", join(work, "..", "kek.key")];
  assert.equal(runTde(["keyring", "create", ...key, "--new-key-file"]).status, 0);
  const encrypted = runTde(["wal", "encrypt", work, ...key]);
  assert.match(encrypted.stdout, /^encrypted 4 segments \(4\.0 MB\)\n$/);
  const name = "00000001000000030000000A";
  const before = runTdeBytes(["waldump", "-b", name, "-p", original]);
  assert.deepEqual(runTdeBytes(["waldump", "-b", name, "-p", work, ...key]), before);

  const other = ["--keyring", join(work, "..", "other.keyring"), ...key.slice(2)];
  assert.equal(runTde(["keyring", "create", ...other]).status, 0);
  const wrong = runTde(["waldump", name, "-p", work, ...other]);
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /needs keyring [0-9a-f]{16}, yours is keyring/);

  const bytes = readFileSync(join(work, name));
  bytes[9000] = (bytes[9000] ?? 0) ^ 1;
  writeFileSync(join(work, name), bytes);
  const damaged = runTde(["waldump", name, "-p", work, ...key]);
  assert.equal(damaged.status, 1);
  assert.match(damaged.stderr, /block 1: /);
  assert.equal(runTde(["wal", "verify", work, ...key, "--allow-plain"]).status, 3);
  assert.equal(runTde(["wal", "decrypt", work, ...key]).status, 3);
});
