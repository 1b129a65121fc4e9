/**
 * The seam holds: whatever is written goes through the FileSystem interface, so that the crash harness sees it. Only
 * its implementation for the real disk may name a function of node:fs that changes something; the demo makes clusters
 * of its own. Workers get no file system but that one.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SOURCE = fileURLToPath(
  new URL(import.meta.url.endsWith(".js") ? "../../../src" : "../../src", import.meta.url),
);
const THE_REAL_DISK = "storage/node-file-system.ts";
/** openSync opens /dev/tty, to ask for a passphrase. */
const READING = [
  "readdirSync",
  "readFileSync",
  "readlinkSync",
  "readSync",
  "fstatSync",
  "openSync",
  "statSync",
];
/** Text by the megabyte, in order with messages: to a descriptor that is open already. */
const TO_STDOUT = "cli/standard-output.ts: writeSync";
/** What of the process itself may be in a core, in /proc. */
const TO_THE_KERNEL = "storage/core-dump.ts: writeFileSync";
/** Whoever may make a file system of its own; all others are given one. */
const MAKERS =
  /^(cli|demo)\/|^(workers\/page|engine\/waldump\/waldump)-worker\.ts$|^storage\/node-file-system\.ts$/;

function sources(): { path: string; text: string }[] {
  return readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => ({ path, text: readFileSync(join(SOURCE, path), "utf8") }));
}

test("outside of the real file system, node:fs is imported by name, and only what reads", () => {
  const offences: string[] = [];
  for (const { path, text } of sources()) {
    if (path === THE_REAL_DISK || path.startsWith("demo/")) continue;
    for (const [line, names] of text.matchAll(/^import ([^;]*?) from "(?:node:)?fs[^"]*";/gms)) {
      const listed = /^\{(.*)\}$/s.exec(names ?? "")?.[1]?.split(",") ?? [line];
      for (const name of listed.map((one) => one.trim()).filter((one) => one !== "")) {
        const offence = `${path}: ${name}`;
        const isAllowed = [TO_STDOUT, TO_THE_KERNEL].includes(offence);
        if (!READING.includes(name) && !isAllowed) offences.push(offence);
      }
    }
  }
  assert.deepEqual(offences, []);
});

test("nothing else in src/ can run another program or thread that writes, but by name", () => {
  const found = sources()
    .filter(({ text }) => /from "node:(child_process|worker_threads)"/.test(text))
    .map(({ path }) => path)
    .filter((path) => !path.startsWith("demo/"))
    .sort();
  assert.deepEqual(found, [
    "engine/waldump/chunk-threads.ts", // starts the next one, and speaks to it
    "engine/waldump/waldump-worker.ts", // reads WAL, and writes nothing
    "keyring/providers/command.ts", // the user's own program
    "storage/lock.ts", // asks whether this is the main thread
    "workers/page-worker.ts",
    "workers/thread-runner.ts", // speaks to them
    "workers/worker-threads.ts", // starts them
  ]);
});

test("a file system is made where a command or a worker begins, and handed on", () => {
  const makers = sources()
    .filter(({ text }) => text.includes("NodeFileSystem("))
    .map(({ path }) => path);
  assert.ok(makers.length > 0);
  assert.deepEqual(
    makers.filter((path) => !MAKERS.test(path)),
    [],
  );
});
