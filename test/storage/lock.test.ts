import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { StateError } from "../../src/errors.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { acquireLock } from "../../src/storage/lock.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { type ProcessFate, realProcesses } from "../../src/storage/process-table.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";

const fs = new NodeFileSystem();
const purpose = { what: 'keyring "k"', command: "tde test" };
const racer = fileURLToPath(new URL("./lock-racer.js", import.meta.url));

/** A lock as another process would have left it. */
function foreignLock(changes: Readonly<Record<string, unknown>>): string {
  const record = {
    ...realProcesses.self(),
    token: "00",
    command: "tde rotate",
    since: "2026-11-20T10:00:00.000Z",
    ...changes,
  };
  return `${JSON.stringify(record)}\n`;
}

/** The id of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ["-e", ""]).pid;
}

test("a lock is exclusive until it is released", (t) => {
  const path = bytePath(join(temporaryDirectory(t), "lock"));
  const lock = acquireLock(fs, path, purpose);
  assert.throws(() => acquireLock(fs, path, purpose), StateError);
  lock.release();
  lock.release();
  assert.equal(fs.stat(path), undefined);
  acquireLock(fs, path, purpose).release();
});

test("a lock that is another's by the time it is released stays", (t) => {
  const path = join(temporaryDirectory(t), "lock");
  const others = foreignLock({ pid: 1, token: "the other's" });
  const lock = acquireLock(fs, bytePath(path), purpose);
  // Taken for dead while this process was stopped, and taken over.
  writeFileSync(path, others);
  lock.release();
  assert.equal(readFileSync(path, "utf8"), others);
  // So is one that was replaced by another of this process, which forgot the first.
  rmSync(path);
  const second = acquireLock(fs, bytePath(path), purpose);
  lock.release();
  assert.ok(existsSync(path));
  second.release();
  assert.ok(!existsSync(path));
});

test("the lock of a dead process that another one takes over meanwhile is not removed", (t) => {
  const path = join(temporaryDirectory(t), "lock");
  const others = foreignLock({ pid: 1, token: "the other's" });
  const alive = new Set([1]);
  /** Somebody is faster between our look at the dead lock and its removal: when we take the claim. */
  class RacingFileSystem extends NodeFileSystem {
    override create(at: BytePath, mode: number): OpenFile {
      const file = super.create(at, mode);
      if (at !== path) writeFileSync(path, others);
      return file;
    }
  }
  writeFileSync(path, foreignLock({ pid: 2 }));
  const processes = {
    self: () => realProcesses.self(),
    judge: ({ pid }: { readonly pid: number }): ProcessFate => (alive.has(pid) ? "alive" : "dead"),
  };
  assert.throws(
    () => acquireLock(new RacingFileSystem(), bytePath(path), purpose, processes),
    StateError,
  );
  assert.equal(readFileSync(path, "utf8"), others);
});

test("the lock of a running process is refused with who holds it and since when", (t) => {
  const path = join(temporaryDirectory(t), "lock");
  writeFileSync(path, foreignLock({ pid: 1 }));
  const alive = { self: () => realProcesses.self(), judge: (): ProcessFate => "alive" };
  assert.throws(() => acquireLock(fs, bytePath(path), purpose, alive), {
    name: "StateError",
    message:
      'another tde (pid 1, tde rotate, since 2026-11-20T10:00:00.000Z) is working on keyring "k"',
  });
  assert.ok(existsSync(path));
});

test("the lock of a dead process, of one with the same id, or of another boot is taken over", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "lock");
  const left = [{ pid: deadPid() }, { pid: process.pid, start: "1" }, { pid: 1, boot: "another" }];
  for (const changes of left) {
    writeFileSync(path, foreignLock(changes));
    const lock = acquireLock(fs, bytePath(path), purpose);
    assert.equal(JSON.parse(readFileSync(path, "utf8")).pid, process.pid);
    lock.release();
    assert.deepEqual(readdirSync(folder), []);
  }
});

test("the lock of another host or container is refused, and the hint names the file to remove", (t) => {
  const path = join(temporaryDirectory(t), "lock");
  for (const changes of [{ host: `${hostname()}-2` }, { namespace: "pid:[1]" }]) {
    writeFileSync(path, foreignLock(changes));
    assert.throws(
      () => acquireLock(fs, bytePath(path), purpose),
      (error) => error instanceof StateError && error.hint?.includes(`remove "${path}"`) === true,
    );
  }
});

test("an empty or cut lock file is dead after a while, a foreign one is never removed", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "lock");
  const whole = foreignLock({ pid: 1 });
  for (const content of ["", whole.slice(0, 40), "\0".repeat(100)]) {
    writeFileSync(path, content);
    acquireLock(fs, bytePath(path), purpose).release();
    assert.deepEqual(readdirSync(folder), []);
  }
  for (const content of ["something else\n", '{"pid":-1}\n', "x".repeat(5000)]) {
    writeFileSync(path, content);
    assert.throws(() => acquireLock(fs, bytePath(path), purpose), StateError);
    assert.equal(readFileSync(path, "utf8"), content);
  }
});

test("what is left of a takeover is in nobody's way, or is named with what to do", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "lock");
  const dead = foreignLock({ pid: deadPid() });
  let claim = "";
  class NotingFileSystem extends NodeFileSystem {
    override create(at: BytePath, mode: number): OpenFile {
      if (at !== path) claim = at;
      return super.create(at, mode);
    }
  }
  writeFileSync(path, dead);
  acquireLock(new NotingFileSystem(), bytePath(path), purpose).release();
  for (const content of ["", `k${dead.slice(1)}`, "something else\n"]) {
    writeFileSync(path, dead);
    writeFileSync(claim, content);
    acquireLock(fs, bytePath(path), purpose).release();
    assert.deepEqual(readdirSync(folder), [], content);
  }
  writeFileSync(path, dead);
  writeFileSync(claim, foreignLock({ host: "another" }));
  assert.throws(
    () => acquireLock(fs, bytePath(path), purpose),
    (error) => error instanceof StateError && error.hint?.includes(`remove "${claim}"`) === true,
  );
  assert.equal(readFileSync(path, "utf8"), dead);
});

test("no message shows control characters of a lock file", (t) => {
  const path = join(temporaryDirectory(t), "lock");
  writeFileSync(path, foreignLock({ host: "h\u001b[2J" }));
  assert.throws(
    () => acquireLock(fs, bytePath(path), purpose),
    (error) => error instanceof StateError && !error.message.includes("\u001b"),
  );
});

test("a taking or takeover stopped anywhere leaves a lock that the next one gets", (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, "lock");
  for (const before of [undefined, foreignLock({ pid: deadPid() })]) {
    for (let stopAt = 1, done = false; !done; stopAt++) {
      if (before !== undefined) writeFileSync(path, before);
      try {
        acquireLock(new StoppingFileSystem(stopAt), bytePath(path), purpose).release();
        done = true;
      } catch (error) {
        assert.ok(error instanceof Stopped);
      }
      acquireLock(fs, bytePath(path), purpose).release();
      assert.deepEqual(readdirSync(folder), [], `stopped at ${stopAt}`);
    }
  }
});

/** Starts a process that counts up a number in a file, under the lock; resolves to its output. */
function race(folder: string, rounds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [racer, folder, String(rounds)]);
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.on("error", reject);
    child.on("close", () => resolve(output));
  });
}

test("of several processes that find a dead lock exactly one at a time gets it", async (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, "counter"), "0");
  const rounds = 40;
  const outputs = await Promise.all([1, 2, 3].map(() => race(folder, rounds)));
  assert.deepEqual(outputs, ["", "", ""]);
  assert.equal(readFileSync(join(folder, "counter"), "utf8"), String(3 * rounds));
  assert.deepEqual(readdirSync(folder).sort(), ["counter", "lock"]);
});

test("a process that was killed and that nobody has asked for holds no lock", async () => {
  // What takes the shell's place asks for no children.
  const parent = spawn("sh", ["-c", "sleep 60 & echo $!; exec sleep 60"]);
  try {
    const [output] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(output.toString());
    const fieldsOf = (): string[] => {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    };
    const holder = { ...realProcesses.self(), pid, start: fieldsOf()[19] ?? "" };
    assert.equal(realProcesses.judge(holder), "alive");
    process.kill(pid, "SIGKILL");
    while (fieldsOf()[0] !== "Z") await setTimeout(5);
    assert.equal(realProcesses.judge(holder), "dead");
  } finally {
    parent.kill("SIGKILL");
  }
});
