// `npm test`: runs the compiled test files (Node 20's `node --test` takes no globs) but those of test/live, which start
// PostgreSQL and take as long as all others: `npm run live`. Arguments select files by substring.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { freemem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const compiled = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "test");
const wanted = process.argv.slice(2);
const source = (name) =>
  join(dirname(fileURLToPath(import.meta.url)), name.replace(/\.js$/, ".ts"));
const files = readdirSync(compiled, { recursive: true })
  .filter((name) => name.endsWith(".test.js") && existsSync(source(name)))
  .filter((name) =>
    wanted.length === 0 ? !name.startsWith("live/") : wanted.some((part) => name.includes(part)),
  )
  .sort((a, b) => (a < b ? -1 : 1))
  .map((name) => join(compiled, name));
if (files.length === 0) {
  console.error(`no test matches ${wanted.join(", ")}`);
  process.exit(1);
}
// This reporter repeats at the end what failed, wherever the output goes.
const options = ["--test", "--test-concurrency=2", "--test-reporter=spec"];
const { status } = spawnSync(process.execPath, [...options, ...files], {
  stdio: "inherit",
  env: { ...process.env, TMPDIR: process.env.TMPDIR ?? folderInMemory() },
});
process.exitCode = status ?? 1;

/**
 * Where the tests keep their files unless TMPDIR says where: in memory, if there is much of it. Most of the time of a
 * test on real clusters is syncs to a disk, which prove nothing while the power stays on; a disk that loses what was
 * not synced is simulated (support/crash-disk.ts). Undefined: on the disk.
 */
function folderInMemory() {
  const memory = "/dev/shm";
  const neededBytes = 6 * 2 ** 30;
  try {
    const { bavail, bsize } = statfsSync(memory);
    const hasRoom = Math.min(bavail * bsize, freemem()) >= neededBytes;
    return hasRoom && canRunPrograms(memory) ? memory : undefined;
  } catch {
    return undefined;
  }
}

/** Key commands and hooks of the tests are scripts; containers often mount this folder so that none runs in it. */
function canRunPrograms(folder) {
  const trial = mkdtempSync(join(folder, "tde-test-"));
  try {
    writeFileSync(join(trial, "script"), "#!/bin/sh\n", { mode: 0o700 });
    return spawnSync(join(trial, "script")).status === 0;
  } finally {
    rmSync(trial, { recursive: true });
  }
}
