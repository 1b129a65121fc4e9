/**
 * One encrypted file by itself: with its sidecar and the keyring it is inspected, verified and decrypted without its data
 * directory, and every answer says what that leaves unproved.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { before, test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptDetached } from "../../src/engine/decrypt-detached.ts";
import { verifyDetached } from "../../src/engine/verify-detached.ts";
import { NO_BACKEND } from "../../src/format/identity.ts";
import { temporaryPath } from "../support/cluster.ts";
import { flipBit } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { sealBytes } from "../support/relation-bytes.ts";
import { KEYS } from "../support/running-tde.ts";
import {
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  SmallEngine,
} from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const FORK = "base/1/1255_fsm";
const WHOLE = "pg_wal/000000010000000000000001";

let keys = "";
let plain = "";
let encrypted = "";
let segment = "";

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCluster();
  segment = addSegments(plain).paths[1] ?? "";
  encrypted = copyOf(plain);
  assert.equal(runTde(["keyring", "create", ...KEYS, "--new-key-file"], { cwd: keys }).status, 0);
  const { status, stderr } = runTde(["encrypt-datadir", encrypted, ...KEYS], { cwd: keys });
  assert.equal(status, 0, stderr);
});

/** A folder with a copy of one encrypted file, its sidecar if it has one, and keys. */
function detached(t: TestContext, path: string, name = basename(path)): string {
  const folder = temporaryDirectory(t);
  for (const file of readdirSync(keys)) copyFileSync(join(keys, file), join(folder, file));
  copyFileSync(join(encrypted, path), join(folder, name));
  const sidecarOf = (of: string): string => `${of}_tde`;
  if (existsSync(join(encrypted, sidecarOf(path))))
    copyFileSync(join(encrypted, sidecarOf(path)), join(folder, sidecarOf(name)));
  return folder;
}

function tde(folder: string, ...args: readonly string[]): TdeResult {
  return runTde([...args, ...KEYS], { cwd: folder });
}

const NOT_PROVED =
  /^NOT PROVED: that it is the newest state.*\nNOT PROVED: that all of it is of one time.*\nNOT PROVED: that it belongs where it lies/m;

for (const path of [ORDINARY, LARGE, ODD, FORK, WHOLE]) {
  test(`${path} is verified and comes back by itself, also under another name`, (t) => {
    for (const name of [basename(path), "renamed"]) {
      const folder = detached(t, path, name);
      const verified = tde(folder, "verify", "--file", name);
      assert.equal(verified.status, 0, verified.stderr);
      assert.match(verified.stdout, /^verified: every tag of \d+ pages/m);
      assert.match(verified.stdout, NOT_PROVED);
      assert.match(verified.stdout, new RegExp(`says that it is ${path} of cluster \\d+`));
      assert.equal(/another name here/.test(verified.stdout), name === "renamed");
      const command = name === "renamed" ? "decrypt" : "decrypt-datadir";
      const { status, stdout, stderr } = tde(folder, command, "--file", name, "--output", "out");
      assert.equal(status, 0, stderr);
      assert.match(stdout, /every tag held/);
      assert.match(stdout, NOT_PROVED);
      assert.ok(readFileSync(join(folder, "out")).equals(readFileSync(join(plain, path))));
      assert.equal(statSync(join(folder, "out")).mode & 0o7777, 0o600);
      assert.deepEqual(
        readdirSync(folder).filter((file) => /tdenew|lock/.test(file)),
        [],
      );
    }
  });
}

test("a page and a sidecar page are inspected by themselves, with --file or where no directory is named", (t) => {
  const folder = detached(t, ORDINARY);
  const byOption = tde(folder, "inspect", "--file", "1259", "--block", "1");
  assert.equal(byOption.status, 0, byOption.stderr);
  assert.match(byOption.stdout, /^1259 block 1 .*\nsealed under key 1; its tag holds$/m);
  assert.match(byOption.stdout, NOT_PROVED);
  assert.equal(tde(folder, "inspect", "1259", "--block", "1").stdout, byOption.stdout);
  const sidecar = tde(folder, "inspect", "1259", "--sidecar");
  assert.match(sidecar.stdout, /^1259_tde page 0 of 1, the last one\nits MAC holds$/m);
  const { shown, notProved } = JSON.parse(
    tde(folder, "inspect", "1259", "--sidecar", "--format", "json").stdout,
  );
  assert.equal(shown.belongsTo, ORDINARY);
  assert.equal(notProved.length, 3);
  assert.equal(tde(folder, "inspect", "1259", "--block", "100000").status, 2);
});

test("without a key checksums and form are checked, and no more is said", (t) => {
  const folder = detached(t, ORDINARY);
  const { status, stdout } = runTde(["verify", "--file", "1259", "--checksums-only"], {
    cwd: folder,
  });
  assert.equal(status, 0);
  assert.match(stdout, /checksums are right: .*; without a key nothing more was checked/);
  assert.doesNotMatch(stdout, /^verified/m);
});

test("damage is found by each command, names its block, and leaves no output", (t) => {
  for (const path of [ORDINARY, WHOLE]) {
    for (const suffix of path === WHOLE ? [""] : ["", "_tde"]) {
      const folder = detached(t, path);
      const name = basename(path);
      flipBit(join(folder, name + suffix), 8 * (suffix === "" ? 8192 + 5000 : 300));
      const verified = tde(folder, "verify", "--file", name);
      assert.equal(verified.status, 3, verified.stdout);
      assert.match(verified.stdout, /^NOT verified: /m);
      const before = readdirSync(folder);
      assert.equal(tde(folder, "decrypt", "--file", name, "--output", "out").status, 3);
      assert.equal(tde(folder, "decrypt", "-n", "--file", name, "--output", "out").status, 3);
      assert.deepEqual(readdirSync(folder), before);
      const json = JSON.parse(tde(folder, "verify", "--file", name, "--format", "json").stdout);
      assert.equal(json.ok, false);
      if (suffix === "" && path === ORDINARY) {
        assert.equal(json.problems[0].block, 1);
        assert.equal(tde(folder, "inspect", name, "--block", "1").status, 3);
        assert.equal(tde(folder, "inspect", name, "--block", "2").status, 0);
      }
    }
  }
});

test("the sidecar of another file, and another keyring, do not pass", (t) => {
  const folder = detached(t, ORDINARY);
  copyFileSync(join(encrypted, "base/1/1247_tde"), join(folder, "1259_tde"));
  assert.equal(tde(folder, "verify", "--file", "1259").status, 3);
  const other = detached(t, ORDINARY);
  const keyring = ["--keyring", "other.keyring", "--key-file", "kek.key"];
  assert.equal(runTde(["keyring", "create", ...keyring], { cwd: other }).status, 0);
  for (const args of [
    ["verify", "--file", "1259"],
    ["decrypt", "--file", "1259", "--output", "out"],
  ])
    assert.equal(runTde([...args, ...keyring], { cwd: other }).status, 4);
  assert.ok(!existsSync(join(other, "out")));
});

test("nothing that exists is overwritten, and what is no such file is refused with the reason", (t) => {
  const folder = detached(t, ORDINARY);
  const refused = (code: number, message: RegExp, ...args: readonly string[]): void => {
    const { status, stderr } = tde(folder, ...args);
    assert.equal(status, code, stderr);
    assert.match(stderr, message);
  };
  writeFileSync(join(folder, "out"), "precious");
  refused(5, /"out" is there already/, "decrypt", "--file", "1259", "--output", "out");
  refused(5, /"1259" is there already/, "decrypt", "--file", "1259", "--output", "1259");
  assert.equal(readFileSync(join(folder, "out"), "utf8"), "precious");
  refused(2, /--file needs --output/, "decrypt", "--file", "1259");
  refused(2, /no directory/, "decrypt", "--file", "1259", "--output", "none/out");
  refused(2, /a data directory is named/, "verify", "--file", "1259", "-D", encrypted);
  refused(2, /--expect-root is about/, "verify", "--file", "1259", "--expect-root", "0".repeat(64));
  refused(
    2,
    /--accept-moved is about/,
    "decrypt",
    "--file",
    "1259",
    "--output",
    "o",
    "--accept-moved",
  );
  refused(2, /there is no file "none"/, "verify", "--file", "none");
  refused(2, /is a sidecar/, "verify", "--file", "1259_tde");
  renameSync(join(folder, "1259_tde"), join(folder, "gone"));
  refused(5, /has no sidecar "1259_tde"/, "verify", "--file", "1259");
  writeFileSync(join(folder, "1259_tde"), Buffer.alloc(8192));
  refused(6, /does not begin as a sidecar/, "verify", "--file", "1259");
  const wal = detached(t, segment);
  const { status, stderr } = tde(wal, "verify", "--file", basename(segment));
  assert.equal(status, 2);
  assert.match(stderr, /is a WAL segment[^]*tde wal decrypt/);
});

test("a dry run checks that the output is free, and writes nothing", (t) => {
  const folder = detached(t, ORDINARY);
  const before = readdirSync(folder);
  const { status, stdout } = tde(folder, "decrypt", "-n", "--file", "1259", "--output", "out");
  assert.equal(status, 0);
  assert.match(stdout, /would decrypt/);
  assert.deepEqual(readdirSync(folder), before);
});

for (const blockSizeBytes of [1024, 2048, 4096, 16384, 32768]) {
  test(`the block size of ${blockSizeBytes} comes from the sidecar, and blocks are counted within the fork`, async (t) => {
    const folder = temporaryDirectory(t);
    const original = Buffer.alloc(300 * blockSizeBytes + 17, "rows ");
    original.fill(0, blockSizeBytes, 2 * blockSizeBytes);
    const dataKeys = testKeys(2);
    const identity = {
      systemIdentifier: 7n,
      tablespaceOid: 1663,
      databaseOid: 5,
      relfilenumber: 16384n,
      fork: "main",
      relationSegment: 1,
      firstBlock: 131072,
      backend: NO_BACKEND,
    } as const;
    const { keyringId } = dataKeys;
    const facts = { blockSizeBytes, dataChecksums: false, keys: dataKeys, keyringId, epoch: 9n };
    const { stored, sidecar } = sealBytes(facts, identity, original);
    writeFileSync(join(folder, "16384.1"), stored);
    writeFileSync(join(folder, "16384_tde.1"), sidecar);
    const { engine } = new SmallEngine();
    const path = bytePath(join(folder, "16384.1"));
    const { ok, pages, file } = await verifyDetached(engine, dataKeys, path);
    assert.deepEqual([ok, pages, file.hasOwnName], [true, 301, true]);
    assert.equal(file.belongsTo, "base/5/16384.1");
    const output = bytePath(join(folder, "out"));
    const { bytes } = await decryptDetached(engine, dataKeys, { path, output, dryRun: false });
    assert.equal(bytes, original.length);
    assert.ok(readFileSync(join(folder, "out")).equals(original));
  });
}

test("what is there by the time that the output gets its name is not overwritten either", async (t) => {
  const folder = detached(t, ORDINARY);
  const { engine, keyContext } = new SmallEngine();
  const datadir = copyOf(plain);
  await new SmallEngine().encrypt(datadir);
  mkdirSync(join(folder, "late"));
  const output = bytePath(join(folder, "late/out"));
  const path = bytePath(join(datadir, ORDINARY));
  const startRunner: typeof engine.startRunner = (...args) => {
    writeFileSync(output, "precious");
    return engine.startRunner(...args);
  };
  const request = { path, output, dryRun: false };
  await assert.rejects(decryptDetached({ ...engine, startRunner }, keyContext.keys, request), {
    message: /is there already/,
  });
  assert.deepEqual(readdirSync(join(folder, "late")), ["out"]);
  assert.equal(readFileSync(output, "utf8"), "precious");
});
