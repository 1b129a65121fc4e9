/**
 * What reports and errors call a relation: its name beside the path, where the catalog can be read and is the one that
 * the manifest names; the path alone, and why, where not.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCatalogCluster } from "../support/fixture-catalog.ts";
import { edit, flipBit, sidecarOf } from "../support/forger.ts";
import { BLOCK_SIZE, copyOf } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];
const PG_TYPE = "base/1/1247";
const PG_CLASS = "base/1/1259";
/** In block 2, behind its header. */
const BIT = 8 * (2 * BLOCK_SIZE + 5000);
let keys = "";
let encrypted = "";

before(() => {
  keys = temporaryPath("keys");
  encrypted = makeSmallCatalogCluster();
  assert.equal(run("keyring", "create", ...KEYS, "--new-key-file").status, 0);
  assert.equal(run("encrypt-datadir", "-D", encrypted, ...KEYS).status, 0);
});

function run(...args: readonly string[]): TdeResult {
  return runTde(args, { cwd: keys });
}

function damaged(...paths: readonly string[]): string {
  const datadir = copyOf(encrypted);
  for (const path of paths) flipBit(join(datadir, path), BIT);
  return datadir;
}

test("verify names the relation beside its path, in text and in JSON", () => {
  const args = ["verify", "-D", damaged(PG_TYPE), ...KEYS];
  const { status, stdout } = run(...args);
  assert.equal(status, 3);
  assert.match(stdout, /^tag: template1\.pg_catalog\.pg_type \(base\/1\/1247\) block 2 /m);
  const { problems } = JSON.parse(run(...args, "--format", "json").stdout);
  assert.ok(problems.length > 0);
  for (const { path, relation } of problems)
    assert.deepEqual([path, relation], [PG_TYPE, "template1.pg_catalog.pg_type"]);
});

for (const [what, change, why] of [
  [
    "does not authenticate",
    (datadir: string) => flipBit(join(datadir, PG_CLASS), BIT),
    /base\/1\/1259 block 2/,
  ],
  [
    "is not the one that the manifest names",
    (datadir: string) =>
      edit(join(datadir, "base/1/pg_filenode.map"), (bytes) => bytes.subarray(0, 100)),
    /"base\/1\/pg_filenode.map": it has 100 bytes where the manifest says/,
  ],
] as const) {
  test(`where a catalog ${what}, verify lists everything by path, and says why once`, () => {
    const datadir = damaged(PG_TYPE);
    change(datadir);
    const { status, stdout } = run("verify", "-D", datadir, ...KEYS);
    assert.equal(status, 3);
    assert.match(stdout, /^tag: base\/1\/1247 block 2 /m);
    const notes = stdout.split("\n").filter((line) => /relations are not named/.test(line));
    assert.equal(notes.length, 1);
    assert.match(notes[0] ?? "", why);
  });
}

test("without a key verify names no sealed relation, and says why", () => {
  const datadir = damaged(PG_TYPE);
  const { stdout } = run("verify", "--checksums-only", "-D", datadir);
  assert.match(stdout, /^checksum: base\/1\/1247 block 2/m);
  assert.match(stdout, /^note: relations are not named.*no keyring was given/m);
});

for (const jobs of ["1", "2"]) {
  test(`an error of a command that writes names the relation, with --jobs ${jobs}`, () => {
    const datadir = damaged(PG_TYPE);
    for (const command of [["rotate", "--all"], ["decrypt-datadir"]]) {
      const { status, stderr } = run(...command, "-D", datadir, "-j", jobs, ...KEYS);
      assert.equal(status, 3);
      assert.match(
        stderr,
        /^tde: error: template1\.pg_catalog\.pg_type \(base\/1\/1247\) block 2: /m,
      );
    }
  });
}

test("an error keeps its text where names cannot be read, with the reason before it", () => {
  const datadir = damaged(PG_TYPE);
  edit(sidecarOf(join(datadir, PG_CLASS)), (bytes) => bytes.subarray(0, BLOCK_SIZE - 1));
  const { status, stderr } = run("rotate", "--relation", PG_TYPE, "-D", datadir, ...KEYS);
  assert.equal(status, 3);
  assert.match(stderr, /^tde: error: base\/1\/1247 block 2: /m);
  assert.equal(stderr.split("relations are not named").length, 2);
});

test("a refusal because of the scope names the relation, too", () => {
  const { status, stderr } = run(
    "encrypt-datadir",
    "-D",
    encrypted,
    "--relation",
    "base/1/1255",
    ...KEYS,
  );
  assert.equal(status, 5);
  assert.match(
    stderr,
    /template1\.pg_catalog\.\w+ \("base\/1\/\d+"\) is encrypted, but not in the scope/,
  );
});
