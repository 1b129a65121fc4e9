/**
 * What opens the data must not lie in the data: an encryption would seal its own keyring, key file or state file, and
 * nobody could open anything any more. Commands that write refuse, those that read do not.
 */
import assert from "node:assert/strict";
import {
  cpSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

/** A keyring, its state file, its key file and a passphrase file. */
const FILES = ["app.keyring", "app.keyring.state", "kek.key", "word"];
const TABLESPACE = "pg_tblspc/16400";
let keys = "";

before(() => {
  keys = temporaryPath("keys");
  writeFileSync(join(keys, "word"), "a long one that nobody guesses\n", { mode: 0o600 });
  const made = runTde(["keyring", "create", ...keyFlags(keys), "--new-key-file"]);
  assert.equal(made.status, 0, made.stderr);
});

function keyFlags(folder: string): string[] {
  return ["--keyring", join(folder, "app.keyring"), "--key-file", join(folder, "kek.key")];
}

function tde(...args: readonly string[]): TdeResult {
  const result = runTde(args);
  assert.doesNotMatch(result.stdout + result.stderr, /bug in tde|^ {4}at /m);
  return result;
}

/** A plain cluster with a tablespace and WAL elsewhere. */
function makeSite(): string {
  const folder = temporaryPath("key-places");
  const datadir = join(folder, "data");
  copyTree(makeSmallCluster(), datadir);
  renameSync(join(datadir, "pg_wal"), join(folder, "wal"));
  symlinkSync("../wal", join(datadir, "pg_wal"));
  mkdirSync(join(folder, "space"), { mode: 0o700 });
  symlinkSync(join(folder, "space"), join(datadir, TABLESPACE));
  return datadir;
}

const PLACES: Readonly<Record<string, (datadir: string) => string>> = {
  "the data directory": (datadir) => join(datadir, "keys"),
  "the place of a tablespace": (datadir) => join(readlinkSync(join(datadir, TABLESPACE)), "keys"),
  "the place of pg_wal": (datadir) => join(datadir, "../wal/keys"),
};

for (const [what, placeOf] of Object.entries(PLACES)) {
  test(`no command writes into a directory while its keys lie in ${what}`, () => {
    const datadir = makeSite();
    const place = placeOf(datadir);
    for (const name of FILES) {
      mkdirSync(place, { mode: 0o700 });
      cpSync(join(keys, name), join(place, name), { preserveTimestamps: true });
      const there = join(place, name);
      const given = {
        "app.keyring": ["--keyring", there, "--state", join(keys, "app.keyring.state")],
        "app.keyring.state": ["--keyring", join(keys, "app.keyring"), "--state", there],
        "kek.key": ["--keyring", join(keys, "app.keyring"), "--key-file", there],
        word: ["--keyring", join(keys, "app.keyring"), "--passphrase-file", there],
      }[name];
      const secret = name === "kek.key" ? [] : ["--key-file", join(keys, "kek.key")];
      const flags = [...(given ?? []), ...secret];
      const before = treeOf(join(datadir, ".."));
      const output = join(datadir, "../new");
      const inPlace = ["encrypt-datadir", "-D", datadir];
      const others = [
        ["encrypt-datadir", "-n", "-D", datadir],
        ["encrypt-datadir", "-D", datadir, "--output", output],
        ["decrypt-datadir", "-D", datadir],
        ["decrypt-datadir", "-D", datadir, "--output", output],
        ["rotate", "--all", "-D", datadir],
        ["sync", datadir, output],
        ["sync", output, datadir],
      ];
      for (const args of name === "app.keyring" ? [inPlace, ...others] : [inPlace]) {
        const { status, stderr } = tde(...args, ...flags);
        assert.equal(status, 5, `${args.join(" ")}: ${stderr}`);
        assert.ok(stderr.includes(`"${there}" lies in "`), stderr);
        assert.match(stderr, /^tde: hint: Move it out of there first/m);
      }
      assertSameTree(treeOf(join(datadir, "..")), before, { directoryTimes: true });
      rmSync(place, { recursive: true });
    }
  });
}

test("a link outside that leads to a key inside, and a state file that does not exist yet, count, too", () => {
  const datadir = makeSite();
  const folder = join(datadir, "keys");
  cpSync(keys, folder, { recursive: true });
  const outside = temporaryPath("links");
  for (const name of ["app.keyring", "kek.key"])
    symlinkSync(join(folder, name), join(outside, name));
  const linked = tde("encrypt-datadir", "-D", datadir, ...keyFlags(outside));
  assert.match(linked.stderr, /^tde: error: keyring ".*\/app\.keyring" lies in ".*\/data", with/);
  assert.equal(linked.status, 5);
  rmSync(folder, { recursive: true });

  for (const state of [join(datadir, "new.state"), join(datadir, "../out/deep/new.state")]) {
    const output = ["--output", join(datadir, "../out"), "--tablespace-mapping"];
    const mapping = `${readlinkSync(join(datadir, TABLESPACE))}=${join(datadir, "../out.space")}`;
    const flags = [...keyFlags(keys), "--state", state, ...output, mapping];
    const run = tde("encrypt-datadir", "-D", datadir, ...flags);
    assert.match(run.stderr, /^tde: error: state file ".*new\.state" lies in "/);
    assert.equal(run.status, 5);
  }
});

test("what only reads takes keys from wherever they lie", () => {
  const datadir = makeSite();
  const done = tde("encrypt-datadir", "-D", datadir, ...keyFlags(keys));
  assert.equal(done.status, 0, done.stderr);
  const place = join(datadir, "../space/keys");
  cpSync(keys, place, { recursive: true, preserveTimestamps: true });
  for (const command of ["verify", "info"]) {
    const run = runTde([command, datadir, ...(command === "info" ? [] : keyFlags(place))]);
    assert.equal(run.status, 0, `${command}: ${run.stderr}${run.stdout}`);
  }
  const refused = tde("recover", "-D", datadir, ...keyFlags(place));
  assert.match(refused.stderr, / lies in ".*\/space", with the data that it opens/);
});

test("no keyring, key file or state file is made in a data directory", () => {
  const datadir = makeSite();
  const before = treeOf(datadir);
  const outside = temporaryPath("made");
  const named = (option: string, at: string): string[] => {
    const places = { keyring: "a.keyring", state: "a.state", "key-file": "a.key" };
    return Object.entries(places).flatMap(([name, file]) => [
      `--${name}`,
      name === option ? at : join(outside, file),
    ]);
  };
  for (const option of ["keyring", "state", "key-file"]) {
    const at = join(datadir, "base", option);
    const run = runTde(["keyring", "create", ...named(option, at), "--new-key-file"]);
    assert.match(run.stderr, /^tde: error: .* would lie in data directory ".*\/data"\ntde: hint: /);
    assert.equal(run.status, 5);
    assertSameTree(treeOf(datadir), before, { directoryTimes: true });
    assert.deepEqual([...treeOf(outside).keys()], ["."]);
  }
  const here = ["--keyring", "a.keyring", "--key-file", "a.key", "--new-key-file"];
  assert.equal(runTde(["keyring", "create", ...here], { cwd: datadir }).status, 5);
  assert.equal(runTde(["keyring", "create", ...named("", ""), "--new-key-file"]).status, 0);
});
