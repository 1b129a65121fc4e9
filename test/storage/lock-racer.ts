/**
 * One of several processes in lock.test.ts: adds 1 to a number under the lock, again and again. Instead of
 * releasing it leaves the lock of a dead process behind, so that every round is a takeover. An update that gets
 * lost shows in the number.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { StateError } from "../../src/errors.ts";
import { acquireLock, type Lock } from "../../src/storage/lock.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { realProcesses } from "../../src/storage/process-table.ts";

const [folder = "", rounds = "0"] = process.argv.slice(2);
const path = join(folder, "lock");
const counter = join(folder, "counter");

function acquirePatiently(): Lock {
  for (;;) {
    try {
      return acquireLock(new NodeFileSystem(), bytePath(path), { what: "x", command: "racer" });
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
    }
  }
}

for (let round = 0; round < Number(rounds); round++) {
  acquirePatiently();
  const before = Number(readFileSync(counter, "utf8"));
  // Long enough for another process to come in between, if it could.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  writeFileSync(counter, String(before + 1));
  const record = {
    ...realProcesses.self(),
    start: "1",
    token: String(round),
    command: "",
    since: "",
  };
  writeFileSync(path, `${JSON.stringify({ ...record, nonce: `${process.pid}.${round}` })}\n`);
}
