/**
 * A directory in the place of another encryption that was seen there later: each has an id of its own, so that no epoch
 * tells which is the newest. What was seen last in a place does.
 */
import assert from "node:assert/strict";
import { renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { copyTree } from "../support/tree.ts";

interface Site {
  readonly folder: string;
  readonly at: (name: string) => string;
  readonly tde: (...args: string[]) => TdeResult;
  readonly done: (...args: string[]) => void;
}

function site(): Site {
  const folder = temporaryPath("places");
  const tde = (...args: string[]): TdeResult => runTde(args, { cwd: folder, env: KEYS });
  const done = (...args: string[]): void => {
    const { status, stderr } = tde(...args);
    assert.equal(status, 0, stderr);
  };
  done("keyring", "create", "--new-key-file");
  return { folder, at: (name) => join(folder, name), tde, done };
}

/** Every command that judges the directory refuses it. */
function assertNotCurrent({ tde }: Site, name: string, says: RegExp): void {
  for (const args of [
    ["verify", "-D", name],
    ["decrypt-datadir", "-D", name, "-n"],
    ["encrypt-datadir", "-D", name, "-n"],
  ]) {
    const { status, stdout, stderr } = tde(...args);
    assert.match(stdout + stderr, says);
    assert.equal(status, 3, args.join(" "));
  }
}

test("a copy of a directory that was decrypted since is not taken for the newest in its place", () => {
  const own = site();
  const { at, done } = own;
  copyTree(makeSmallCluster(), at("data"));
  done("encrypt-datadir", "-D", "data");
  copyTree(at("data"), at("copy"));
  done("decrypt-datadir", "-D", "data");
  renameSync(at("data"), at("plain"));
  renameSync(at("copy"), at("data"));
  assertNotCurrent(own, "data", /was decrypted here, and this is a copy of it from before/);
  done("verify", "-D", "data", "--accept-older");
});

test("a copy of another directory is not taken for the newest in the place of one, by whatever link it is reached", () => {
  const own = site();
  const { at, done } = own;
  copyTree(makeSmallCluster(), at("p"));
  copyTree(makeSmallCluster(), at("q"));
  for (const name of ["p", "q"]) done("encrypt-datadir", "-D", name);
  // What is written to the other later does not make its copies newer here.
  for (const name of ["p", "q"]) done("rotate", "--all", "-D", name);
  renameSync(at("p"), at("kept"));
  copyTree(at("q"), at("elsewhere"));
  done("verify", "-D", "elsewhere");
  symlinkSync(at("elsewhere"), at("p"));
  assertNotCurrent(own, "p", /is in the place of [0-9a-f]{32}, another encryption/);
  rmSync(at("p"));
  renameSync(at("elsewhere"), at("p"));
  assertNotCurrent(own, "p", /is in the place of [0-9a-f]{32}, another encryption/);
});

test("a copy that is decrypted does not set the keys free that its original needs", () => {
  const { at, tde, done } = site();
  copyTree(makeSmallCluster(), at("data"));
  done("encrypt-datadir", "-D", "data");
  copyTree(at("data"), at("copy"));
  done("decrypt-datadir", "-D", "copy");
  done("keyring", "new-key");
  done("keyring", "retire-key", "1");
  for (const args of [
    ["destroy-key", "1", "-n"],
    ["destroy-key", "1"],
  ]) {
    const { status, stderr } = tde("keyring", ...args);
    assert.match(stderr, /key 1 is used by directory/);
    assert.notEqual(status, 0);
  }
  done("decrypt-datadir", "-D", "data", "--accept-older");
  done("keyring", "destroy-key", "1");
});

test("an older encryption of a cluster in the place of the newest is taken only where that is accepted", async () => {
  const folder = temporaryPath("nights");
  const tde = (...args: string[]): TdeResult => runTde(args, { cwd: folder, env: KEYS });
  const done = (...args: string[]): void => {
    const { status, stderr } = tde(...args);
    assert.equal(status, 0, stderr);
  };
  const plain = makeSmallCluster();
  done("keyring", "create", "--new-key-file");
  done("encrypt-datadir", "-D", plain, "--output", "night1");
  // Times are kept in seconds.
  await setTimeout(1100);
  done("encrypt-datadir", "-D", plain, "--output", "night2");
  done("verify", "-D", "night1");
  done("verify", "-D", "night2");
  renameSync(join(folder, "night2"), join(folder, "kept"));
  renameSync(join(folder, "night1"), join(folder, "night2"));
  const says = /is in the place of [0-9a-f]{32}, another encryption, which was seen there on /;
  for (const args of [
    ["verify", "-D", "night2"],
    ["decrypt-datadir", "-D", "night2", "-n"],
    ["rotate", "--all", "-D", "night2", "-n"],
  ]) {
    const { status, stdout, stderr } = tde(...args);
    assert.match(stdout + stderr, says);
    assert.equal(status, 3, args.join(" "));
  }
  done("verify", "-D", "night2", "--accept-older");
  done("decrypt-datadir", "-D", "night2", "--accept-older");
});

const KEYS = { TDE_KEYRING: "app.keyring", TDE_KEY_FILE: "kek.key" };
