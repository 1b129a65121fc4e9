/** One command line for the real pg_waldump and for tde, and what each of them makes of it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { TDE_PROGRAM } from "./tde.ts";

interface Dump {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

const LARGEST_OUTPUT_BYTES = 2 ** 28;

/**
 * Asserts that both print the same bytes to standard output, the same messages, and end with the same exit code.
 * @param pgWaldump - the program's path.
 * @returns what they printed.
 */
export function assertSameDump(pgWaldump: string, args: readonly string[]): Buffer {
  const expected = run(pgWaldump, args);
  const ours = run(process.execPath, [TDE_PROGRAM, "waldump", ...args]);
  const what = args.join(" ");
  if (!ours.stdout.equals(expected.stdout)) {
    const [our, their] = firstDifference(ours.stdout, expected.stdout);
    assert.equal(our, their, what);
  }
  assert.equal(ours.stderr, expected.stderr.replaceAll("pg_waldump", "tde waldump"), what);
  assert.equal(ours.status, expected.status, what);
  return expected.stdout;
}

function run(program: string, args: readonly string[]): Dump {
  const { status, stdout, stderr } = spawnSync(program, args, {
    env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" },
    maxBuffer: LARGEST_OUTPUT_BYTES,
  });
  // A program whose loader stands before it names itself by its path.
  const words = stderr.toString("latin1").replace(/^\S*\/pg_waldump: /gm, "pg_waldump: ");
  return { status, stdout, stderr: words };
}

/** The first line of each in which they differ. */
function firstDifference(ours: Buffer, theirs: Buffer): [string, string] {
  const [a, b] = [ours, theirs].map((bytes) => bytes.toString("latin1").split("\n"));
  const at = a?.findIndex((line, i) => line !== b?.[i]) ?? 0;
  return [a?.[at] ?? "", b?.[at] ?? `no line ${at + 1}`];
}
