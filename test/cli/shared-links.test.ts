/** What the state file remembers of places, and what is said of links, as a user meets it. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { copyTree } from "../support/tree.ts";

const TABLESPACE = "pg_tblspc/16400";
const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

function site(): { datadir: string; copy: string; tde: (...args: string[]) => TdeResult } {
  const folder = temporaryPath("shared-links");
  const [datadir, copy, space] = ["data", "copy", "space"].map((name) => join(folder, name));
  assert.ok(datadir !== undefined && copy !== undefined && space !== undefined);
  copyTree(makeSmallCluster(), datadir);
  mkdirSync(space, { mode: 0o700 });
  symlinkSync(space, join(datadir, TABLESPACE));
  const tde = (...args: string[]): TdeResult => runTde([...args, ...KEYS], { cwd: folder });
  assert.equal(tde("keyring", "create", "--new-key-file").status, 0);
  const made = tde("encrypt-datadir", "-D", datadir);
  assert.equal(made.status, 0, made.stderr);
  assert.ok(
    made.stderr.includes(`${TABLESPACE} leads to "${space}": what is there is encrypted, too\n`),
    made.stderr,
  );
  return { datadir, copy, tde };
}

test("a copy that was looked at is a copy still: its links lead into the original, and nothing is written there", () => {
  const { datadir, copy, tde } = site();
  copyTree(datadir, copy);
  assert.equal(tde("verify", "-D", copy).status, 0);
  for (const args of [["decrypt-datadir"], ["decrypt-datadir", "-n"], ["rotate", "--all"]]) {
    const run = tde(...args, "-D", copy);
    assert.match(run.stderr, / lead to the same place, ".*\/space"\ntde: hint: The copy's links/);
    assert.equal(run.status, 5);
  }
  // The original is not there any more: the copy takes its place.
  rmSync(datadir, { recursive: true });
  const run = tde("decrypt-datadir", "-D", copy);
  assert.equal(run.status, 0, run.stderr);
});

test("a place where a directory was before is one that a copy's links may not lead into either", () => {
  const { datadir, copy, tde } = site();
  const space = readlinkSync(join(datadir, TABLESPACE));
  // A copy of its own, which is the newest state by now.
  copyTree(datadir, `${copy}_2`);
  cpSync(space, `${space}_2`, { recursive: true });
  rmSync(join(`${copy}_2`, TABLESPACE));
  symlinkSync(`${space}_2`, join(`${copy}_2`, TABLESPACE));
  copyTree(datadir, copy);
  const rotated = tde("rotate", "--all", "-D", `${copy}_2`, "--accept-moved");
  assert.equal(rotated.status, 0, rotated.stderr);
  const run = tde("decrypt-datadir", "-D", copy, "--accept-older");
  assert.match(run.stderr, / lead to the same place, ".*\/space"\ntde: hint: The copy's links/);
  assert.equal(run.status, 5);
});

test("--accept-moved is taken where something is written behind links, and nowhere else", () => {
  const { datadir, copy, tde } = site();
  const space = readlinkSync(join(datadir, TABLESPACE));
  cpSync(space, `${space}_2`, { recursive: true });
  renameSync(datadir, copy);
  rmSync(join(copy, TABLESPACE));
  symlinkSync(`${space}_2`, join(copy, TABLESPACE));
  const rotate = ["rotate", "--all", "-D", copy];
  const repeated = ["encrypt-datadir", "-D", copy];
  for (const command of [rotate, repeated]) {
    const refused = tde(...command);
    assert.match(
      refused.stderr,
      /led elsewhere .*: ciphertext would be written there\n.*--accept-m/,
    );
    assert.equal(refused.status, 3);
    const accepted = tde(...command, "--accept-moved");
    assert.equal(accepted.status, 0, accepted.stderr);
  }
  const output = ["--output", join(copy, "../out"), "--accept-moved"];
  for (const [command, other] of [
    [["encrypt-datadir", "-D", copy, ...output], "--output"],
    [["decrypt-datadir", "-D", copy, ...output], "--output"],
    [["rotate", "--wal", copy, "--accept-moved"], "--wal"],
  ] as const) {
    const run = tde(...command);
    assert.ok(run.stderr.includes(`is about writing in place, and ${other} is given`), run.stderr);
    assert.equal(run.status, 2);
  }
});
