/**
 * A state file that is missing is said by every command that would have used it, whatever else it then does: what nobody
 * remembers, no command can notice. The table has each command that takes --state; a new one fails until it is in it.
 */
import assert from "node:assert/strict";
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import type { Command } from "commander";
import { buildProgram } from "../../src/cli/program.ts";
import { temporaryPath } from "../support/cluster.ts";
import { unpackFixture } from "../support/fixture.ts";
import { copyOf, makeSmallCluster, ORDINARY } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const home = temporaryPath("missing-state");
const KEYRING = join(home, "keyring");
const STATE = `${KEYRING}.state`;
const KEYS = ["--keyring", KEYRING, "--key-file", join(home, "key")];
let wal = "";
let segment = "";

let plain = "";
let encrypted = "";

interface Case {
  /** @param folder - a new one; `d` in it is an encrypted directory, `p` a plain one, `w` WAL, `a` an archive. */
  readonly args: (folder: string) => readonly string[];
  readonly status: number;
  /** Absent: it says that the state file is missing. */
  readonly silent?: string;
}

const d = (folder: string): readonly string[] => ["-D", join(folder, "d"), ...KEYS];

const CASES: Readonly<Record<string, Case>> = {
  "encrypt-datadir": { args: (f) => ["-D", join(f, "p"), ...KEYS], status: 0 },
  "encrypt-datadir -n": { args: (f) => ["-n", "-D", join(f, "p"), ...KEYS], status: 0 },
  "encrypt-datadir --output": {
    args: (f) => ["-D", join(f, "p"), "--output", join(f, "o"), ...KEYS],
    status: 0,
  },
  "decrypt-datadir": { args: d, status: 0 },
  "decrypt-datadir -n": { args: (f) => ["-n", ...d(f)], status: 0 },
  "decrypt-datadir --output": { args: (f) => [...d(f), "--output", join(f, "o")], status: 0 },
  "decrypt-datadir --relation": {
    args: (f) => [...d(f), "--relation", ORDINARY, "--output", join(f, "o")],
    status: 0,
  },
  verify: { args: d, status: 0 },
  info: { args: () => [], status: 0, silent: "it opens no keyring" },
  ls: { args: (f) => [...d(f), "--by", "tablespace"], status: 7 },
  inspect: { args: (f) => [...d(f), ORDINARY], status: 0 },
  rotate: { args: (f) => ["--all", ...d(f)], status: 0 },
  "rotate -n": { args: (f) => ["--all", "-n", ...d(f)], status: 0 },
  "rotate --wal": { args: (f) => ["--wal", join(f, "a"), ...KEYS], status: 0 },
  sync: { args: (f) => [join(f, "p"), join(f, "d"), ...KEYS], status: 0 },
  recover: { args: d, status: 0 },
  // As pg_waldump ends where a segment is not full.
  waldump: { args: (f) => [...KEYS, join(f, "a", segment)], status: 1 },
  "wal archive": {
    args: (f) => [join(f, "w", segment), join(f, "new", segment), ...KEYS],
    status: 0,
  },
  "wal restore": {
    args: (f) => [join(f, "a", segment), join(f, "restored"), ...KEYS],
    status: 0,
    silent: "a server that recovers calls it for each segment, and nothing of it is asked",
  },
  "wal verify": { args: (f) => [join(f, "a"), ...KEYS], status: 0 },
  "wal encrypt": { args: (f) => [join(f, "w"), ...KEYS], status: 0 },
  "wal decrypt": { args: (f) => [join(f, "w"), ...KEYS], status: 0 },
  "keyring create": { args: () => [], status: 0, silent: "it begins the state file" },
  "keyring show": { args: () => KEYS, status: 0 },
  "keyring check": { args: () => KEYS, status: 4 },
  "keyring new-key": { args: () => KEYS, status: 0 },
  "keyring list-recipients": { args: () => [], status: 0, silent: "it opens no keyring" },
  "keyring add-recipient": {
    args: (f) => [...KEYS, "--to-key-file", join(f, "k2"), "--new-key-file"],
    status: 0,
  },
  "keyring remove-recipient": { args: () => ["2", ...KEYS], status: 0 },
  "keyring rewrap": {
    args: (f) => ["1", ...KEYS, "--to-key-file", join(f, "k2"), "--new-key-file"],
    status: 0,
  },
  "keyring retire-key": { args: () => ["1", ...KEYS], status: 0 },
  "keyring destroy-key": { args: () => ["1", ...KEYS], status: 5 },
  "keyring destroy-key -n": { args: () => ["1", "-n", ...KEYS], status: 5 },
  "keyring destroy-key -D": { args: (f) => ["1", ...d(f)], status: 5 },
  "keyring forget-directory": { args: () => ["0".repeat(32), ...KEYS], status: 2 },
};

before(() => {
  mkdirSync(join(home, "archive"), { recursive: true });
  const make = (...args: readonly string[]): void => {
    const { status, stderr } = runTde([...args, ...KEYS]);
    assert.equal(status, 0, stderr);
  };
  make("keyring", "create", "--new-key-file");
  make("keyring", "add-recipient", "--to-key-file", join(home, "other"), "--new-key-file");
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  make("encrypt-datadir", "-D", encrypted);
  make("keyring", "new-key");
  const { datadir } = unpackFixture(17, temporaryPath("missing-state-wal"));
  wal = join(datadir, "pg_wal");
  [segment = ""] = readdirSync(wal)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .toSorted();
  make("wal", "archive", join(wal, segment), join(home, "archive", segment));
  cpSync(KEYRING, `${KEYRING}.kept`);
  cpSync(STATE, `${STATE}.kept`);
});

/** A new folder with all that commands work on, and a keyring whose state file was lost. */
function lost(): string {
  const folder = temporaryPath("lost");
  copyTree(plain, join(folder, "p"));
  copyTree(encrypted, join(folder, "d"));
  copyTree(join(home, "archive"), join(folder, "a"));
  mkdirSync(join(folder, "w"));
  cpSync(join(wal, segment), join(folder, "w", segment));
  mkdirSync(join(folder, "new"));
  cpSync(`${KEYRING}.kept`, KEYRING);
  rmSync(STATE, { force: true });
  return folder;
}

for (const [name, { args, status, silent }] of Object.entries(CASES)) {
  if (silent !== undefined && args("").length === 0) continue;
  test(`without its state file ${name} ${silent === undefined ? "says so" : `says nothing: ${silent}`}`, () => {
    const folder = lost();
    const words = name.split(" ").filter((word) => !word.startsWith("-"));
    const { status: ended, stdout, stderr } = runTde([...words, ...args(folder)]);
    assert.equal(ended, status, stderr);
    const says = `${stdout}${stderr}`.includes(`there is no state file "${STATE}"`);
    assert.equal(says, silent === undefined, `${stdout}${stderr}`);
    // Where nothing but results is wanted, too.
    if (silent === undefined && name !== "verify") {
      const again = runTde([...words, ...args(lost()), "-q"]);
      assert.match(again.stderr, /warning: there is no state file/);
    }
  });
}

test("the table has every command that takes --state", () => {
  const named = new Set(Object.keys(CASES).map((name) => name.replace(/ -.*$/, "")));
  const taking = commandsOf(buildProgram()).filter(({ command }) =>
    command.options.some(({ long }) => long === "--state"),
  );
  assert.ok(taking.length > 15);
  for (const { path } of taking) assert.ok(named.has(path), path);
});

function commandsOf(command: Command, before = ""): { command: Command; path: string }[] {
  return command.commands.flatMap((child) => {
    const path = `${before}${child.name()}`;
    return child.commands.length > 0 ? commandsOf(child, `${path} `) : [{ command: child, path }];
  });
}

test("a state file that another command begins anew does not let destroy-key pass", () => {
  for (const first of ["encrypt-datadir", "keyring new-key", "keyring retire-key", "wal verify"]) {
    const folder = lost();
    const { args } = CASES[first] ?? assert.fail();
    runTde([...first.split(" "), ...args(folder)]);
    assert.ok(existsSync(STATE), first);
    for (const dryRun of [["-n"], []]) {
      const refused = runTde(["keyring", "destroy-key", "1", ...KEYS, ...dryRun]);
      assert.equal(refused.status, 5, first);
      assert.match(
        refused.stderr,
        /nothing tells whether key 1 is still in use: the state file was begun/,
      );
    }
  }
});

test("--without-state does not let destroy-key take a key from a directory that is named", () => {
  const folder = lost();
  const refused = runTde(["keyring", "destroy-key", "1", "--without-state", ...d(folder)]);
  assert.equal(refused.status, 5);
  assert.match(refused.stderr, /key 1 is used by \d+ files/);
});

test("keyring check tells to bring it back, instead of backing it up", () => {
  lost();
  const { stdout, status } = runTde(["keyring", "check", ...KEYS]);
  assert.equal(status, 4);
  assert.match(stdout, /state file ".*" is missing: bring it back/);
});

test("a state file that is damaged is named, with the option that goes on without it, which does", () => {
  const folder = lost();
  cpSync(`${KEYRING}.state.kept`, STATE);
  appendFileSync(STATE, "x");
  const datadir = join(folder, "d");
  for (const damaged of [[], ["--damaged", "keep"]]) {
    const { status, stderr } = runTde(["decrypt-datadir", "-D", datadir, ...KEYS, ...damaged]);
    assert.equal(status, 3, stderr);
    assert.match(stderr, /state file .* is not used/);
    assert.match(stderr, /give --without-state/);
    assert.doesNotMatch(stderr, /--damaged/);
  }
  const { status, stderr } = runTde(["decrypt-datadir", "-D", datadir, ...KEYS, "--without-state"]);
  assert.equal(status, 0, stderr);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("keyring check says that a state file was begun anew, and that it knows nothing of before", () => {
  const folder = lost();
  const check = (): TdeResult => runTde(["keyring", "check", ...KEYS]);
  const missing = check();
  assert.equal(missing.status, 4);
  assert.match(missing.stdout, /PROBLEM: state file .* is missing/);
  assert.doesNotMatch(missing.stdout, /all is well/);
  assert.equal(runTde(["verify", ...d(folder)]).status, 0);
  const { status, stdout } = check();
  assert.equal(status, 0, stdout);
  assert.match(stdout, /note: the state file was begun on .*: what was known before is not in it/);
});
