/** What `tde info` and `tde inspect` print and with which exit code: text, JSON, and no content that was not asked for. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCatalogCluster } from "../support/fixture-catalog.ts";
import { flipBit } from "../support/forger.ts";
import { BLOCK_SIZE, copyOf, ORDINARY, OTHER as TYPES } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];
let keys = "";
let plain = "";
let encrypted = "";

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCatalogCluster();
  encrypted = copyOf(plain);
  tde("keyring", "create", ...KEYS, "--new-key-file");
  tde("encrypt-datadir", "-D", encrypted, ...KEYS);
});

function run(...args: readonly string[]): TdeResult {
  return runTde(args, { cwd: keys });
}

/** What a command that succeeds prints. */
function tde(...args: readonly string[]): string {
  const { status, stdout, stderr } = run(...args);
  assert.equal(status, 0, stderr);
  return stdout;
}

test("info tells a plain and an encrypted directory in its first line, and needs no keyring", () => {
  assert.match(tde("info", plain), /^".*": plain data directory\n/);
  const text = tde("info", "-D", encrypted);
  assert.match(text, /^".*": encrypted data directory\n/);
  assert.match(text, /^As the manifest says, which "tde verify" proves/m);
  assert.match(text, /^key 1: \d+ pages/m);
});

test("info as JSON says that nothing is authenticated, and what verify says of the same directory", () => {
  const info = JSON.parse(tde("info", encrypted, "--format", "json"));
  const verified = JSON.parse(tde("verify", "-D", encrypted, ...KEYS, "--format", "json"));
  assert.equal(info.state, "encrypted");
  const { authenticated, directoryId, keyringId, epoch, root, scope } = info.manifest;
  assert.equal(authenticated, false);
  const { directoryId: id, keyringId: ring, epoch: now, root: verifiedRoot } = verified;
  assert.deepEqual(
    [directoryId, keyringId, epoch, root, scope],
    [id, ring, now, verifiedRoot, "all"],
  );
});

test("a page's rows are shown with a keyring, and their bytes only with --data", () => {
  const page = readFileSync(join(plain, ORDINARY)).subarray(0, BLOCK_SIZE);
  // A piece of the first row's content.
  const secret = page.subarray(BLOCK_SIZE - 40, BLOCK_SIZE - 16).toString("hex");
  const args = ["inspect", encrypted, ORDINARY];
  const locked = tde(...args);
  assert.match(locked, /^sealed under key 1; without a keyring its content is not shown/m);
  assert.doesNotMatch(locked, /infomask/);
  const opened = tde(...args, ...KEYS);
  assert.match(opened, /^sealed under key 1; its tag holds\n/m);
  assert.match(opened, /^lp +state .* infomask$/m);
  assert.ok(!opened.includes(secret));
  assert.ok(!tde(...args, ...KEYS, "--format", "json").includes(secret));
  assert.ok(tde(...args, ...KEYS, "--data").includes(secret));
});

test("a page that does not authenticate is not shown, and the exit code is verify's", () => {
  const datadir = copyOf(encrypted);
  flipBit(join(datadir, ORDINARY), 5000 * 8);
  const damaged = run("inspect", datadir, ORDINARY, ...KEYS, "--format", "json");
  const json = JSON.parse(damaged.stdout);
  assert.deepEqual([damaged.status, json.authenticated, json.items], [3, false, undefined]);
  tde("keyring", "create", "--keyring", "other.keyring", "--key-file", "kek.key");
  const other = run(
    "inspect",
    encrypted,
    ORDINARY,
    "--keyring",
    "other.keyring",
    "--key-file",
    "kek.key",
  );
  assert.deepEqual([other.status, /NOT authentic/.test(other.stdout)], [4, true]);
});

test("the directory may come by -D, and --entry and --sidecar take the path in either place", () => {
  const entry = tde("inspect", "-D", encrypted, "--entry", "PG_VERSION");
  assert.equal(tde("inspect", encrypted, "PG_VERSION", "--entry"), entry);
  assert.match(entry, /^class: R, readable by design$/m);
  assert.match(tde("inspect", "-D", encrypted, "--sidecar", ORDINARY, ...KEYS), /^its MAC holds$/m);
  const json = JSON.parse(tde("inspect", encrypted, ORDINARY, "--entry", "--format", "json"));
  assert.deepEqual([json.class, json.authenticated, json.keys.length], ["P", false, 1]);
});

test("a name shows the same as its file's path: page, fork, sidecar and line of the manifest", () => {
  const name = "template1.pg_catalog.pg_type";
  for (const datadir of [plain, encrypted]) {
    const show = (...args: readonly string[]): string => tde("inspect", datadir, ...args, ...KEYS);
    assert.equal(show(name, "--block", "3"), show(TYPES, "--block", "3"));
    assert.equal(show(name, "--fork", "vm"), show(`${TYPES}_vm`));
  }
  for (const what of ["--sidecar", "--entry"]) {
    const byPath = tde("inspect", encrypted, TYPES, what, ...KEYS);
    assert.equal(tde("inspect", encrypted, name, what, ...KEYS), byPath);
  }
});

for (const [args, status, message] of [
  [["inspect"], 2, /neither relation nor file is named/],
  [["inspect", "ENCRYPTED", "base/1/1"], 2, /there is no file "base\/1\/1"/],
  [["inspect", "ENCRYPTED", ORDINARY, "--fork", "vm"], 2, /--fork goes with a relation's name/],
  [["inspect", "PLAIN", "template1.pg_catalog.pg_tipe"], 2, /no relation.*\n.*nearest: .*pg_type/],
  [["inspect", "PLAIN", "template1.pg_catalog.pg_*"], 2, /means \d+ relations/],
  [["inspect", "ENCRYPTED", "nothing.conf", "--entry"], 4, /no keyring was given/],
  [["inspect", "ENCRYPTED", "pg_catalog.pg_type"], 4, /no keyring was given.*\n.*Paths work/],
  [["inspect", "ENCRYPTED", ORDINARY, "--block", "x"], 2, /It must be a block number/],
  [["inspect", "ENCRYPTED", ORDINARY, "--block", "9999"], 2, /has no block 9999/],
  [["inspect", "ENCRYPTED", ORDINARY, "--entry", "--block", "1"], 2, /--entry shows a line/],
  [["inspect", "PLAIN", ORDINARY, "--sidecar"], 5, /has no sidecar/],
  [["inspect", "PLAIN", ORDINARY, "--entry"], 5, /has no "tde.manifest"/],
  [["info", "/nowhere"], 5, /is not a directory/],
] as const) {
  test(`tde ${args.join(" ")} ends with ${status} and says why`, () => {
    const places: Readonly<Record<string, string>> = { ENCRYPTED: encrypted, PLAIN: plain };
    const result = run(...args.map((arg) => places[arg] ?? arg));
    assert.match(result.stderr, message);
    assert.deepEqual([result.status, result.stdout], [status, ""]);
    assert.doesNotMatch(result.stderr, /^ {4}at /m);
  });
}
