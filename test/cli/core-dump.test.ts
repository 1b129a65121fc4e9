/**
 * The memory of a process that has keys in it does not get into a core dump. A kernel writes none of it for a process whose
 * filter is empty, as core(5) says; that tde has it so is seen in /proc, while it waits for its passphrase.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runTdeThreaded, TDE_PROGRAM } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const HAS_FILTER = existsSync("/proc/self/coredump_filter");
const EMPTY = "00000000\n";

function folderWithPassphrase(t: TestContext): string {
  const folder = temporaryDirectory(t);
  const args = ["keyring", "create", "--keyring", "app.keyring", "--passphrase-fd", "0"];
  const { status, stderr } = runTdeThreaded(args, { cwd: folder, input: "a passphrase\n" });
  assert.equal(status, 0, stderr);
  return folder;
}

/** Of a process that waits: what it has once it has begun. */
async function filterOf(child: ChildProcess): Promise<string> {
  let filter = "";
  for (let i = 0; i < 600 && child.exitCode === null && filter !== EMPTY; i++) {
    await sleep(100);
    filter = readFileSync(`/proc/${child.pid}/coredump_filter`, "latin1");
  }
  return filter;
}

for (const args of [
  ["keyring", "new-key"],
  ["wal", "restore", "archive/000000010000000000000001", "restored"],
  ["waldump", "-"],
]) {
  test(`no memory of tde ${args[0]} is in a core dump`, async (t) => {
    if (!HAS_FILTER) return t.skip("this system has no filter for core dumps");
    const folder = folderWithPassphrase(t);
    // A stream of WAL is what the last one waits for.
    const secret =
      args[0] === "waldump" ? [] : ["--keyring", "app.keyring", "--passphrase-fd", "0"];
    const child = spawn(process.execPath, [TDE_PROGRAM, ...args, ...secret], {
      cwd: folder,
      stdio: ["pipe", "ignore", "ignore"],
    });
    t.after(() => child.kill("SIGKILL"));
    assert.equal(await filterOf(child), EMPTY);
  });
}
