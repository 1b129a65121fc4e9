/**
 * A directory in the place of another encryption that was seen there later: each has an id of its own, so that no epoch
 * tells which is the newest. What was seen last in a place does.
 */
import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";

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
