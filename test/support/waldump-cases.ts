/**
 * Recorded runs of the real pg_waldump, to be repeated by tde: those of fixtures/waldump, and those of the larger set
 * that its README speaks of.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeSync,
  closeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { extract } from "tar";
import { runWaldump } from "../../src/cli/waldump-action.ts";
import { readFixture } from "./fixtures.ts";
import { runTdeBytes } from "./tde.ts";

export interface WaldumpCase {
  readonly name: string;
  readonly argv: readonly string[];
  /** A folder of the unpacked set, or `fresh`: a new one, made by `setup`. */
  readonly cwd: string;
  readonly rc?: number;
  readonly stderr?: string;
  readonly stdout?: string;
  readonly stdout_sha256?: string;
  readonly setup?: readonly SetupStep[];
  readonly saved_file?: string;
}

interface SetupStep {
  readonly op: "copy" | "truncate" | "write" | "zero" | "mkdir" | "tar";
  readonly from?: string;
  readonly to?: string;
  readonly file?: string;
  readonly size?: number;
  readonly offset?: number;
  readonly length?: number;
  readonly hex?: string;
  readonly dir?: string;
  readonly members?: readonly string[];
  readonly fmt?: string;
}

export interface WaldumpCases {
  readonly cases: readonly WaldumpCase[];
  /** Where the set is unpacked. */
  readonly folder: string;
  /** The set itself, for outputs beside it. */
  readonly source: string | undefined;
}

export const SMALL_SET_MAJORS = [13, 15, 17, 18, 19] as const;

export function unpackSmallSet(
  major: (typeof SMALL_SET_MAJORS)[number],
  folder: string,
): WaldumpCases {
  const unpacker = extract({ sync: true, cwd: folder, preserveOwner: false });
  unpacker.end(brotliDecompressSync(readFixture(`waldump/${major}.tar.br`)));
  return { folder, source: undefined, cases: readCases(join(folder, "cases.json")) };
}

/** @param source - the larger set's folder of one major. */
export function unpackWholeSet(source: string, folder: string): WaldumpCases {
  execFileSync("tar", ["-xJf", join(source, "wal.tar.xz"), "-C", folder]);
  return { folder, source, cases: readCases(join(source, "cases.json")) };
}

function readCases(path: string): WaldumpCase[] {
  const { cases } = JSON.parse(readFileSync(path, "utf8")) as { cases: WaldumpCase[] };
  // tde's own help and version are its own.
  return cases.filter(({ name }) => !/^(help|version)/.test(name));
}

interface CaseResult {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** Runs tde in this folder, with UTC as its time zone. */
export type RunCase = (argv: readonly string[], cwd: string) => CaseResult | Promise<CaseResult>;

/** As a process of its own, as a user would. */
export const runAsProcess: RunCase = (argv, cwd) =>
  runTdeBytes(["waldump", ...argv], { cwd, env: { TZ: "UTC" } });

/** In this process, whose folder and environment change meanwhile: some hundred runs a second. */
export const runHere: RunCase = async (argv, cwd) => {
  const before = { cwd: process.cwd(), zone: process.env["TZ"], pgdata: process.env["PGDATA"] };
  const stdout: Buffer[] = [];
  let stderr = "";
  process.chdir(cwd);
  process.env["TZ"] = "UTC";
  delete process.env["PGDATA"];
  try {
    const status = await runWaldump(argv, {
      write: (bytes) => stdout.push(Buffer.from(bytes)) > 0,
      say: (line) => void (stderr += line),
    });
    return { status, stdout: Buffer.concat(stdout), stderr: Buffer.from(stderr) };
  } finally {
    process.chdir(before.cwd);
    restoreVariable("TZ", before.zone);
    restoreVariable("PGDATA", before.pgdata);
  }
};

function restoreVariable(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

/** Runs tde as pg_waldump ran, and compares output, messages, exit code and saved pages. */
export async function checkCase(
  set: WaldumpCases,
  expected: WaldumpCase,
  run: RunCase,
): Promise<void> {
  const scratch = mkdtempSync(join(set.folder, "case-"));
  const cwd = expected.cwd === "fresh" ? scratch : join(set.folder, expected.cwd);
  for (const step of expected.setup ?? []) carryOut(step, set.folder, scratch);
  const save = join(scratch, "saved");
  const argv = expected.argv.map((argument) => argument.replace("@SAVE@", save));
  const { status, stdout, stderr } = await run(argv, cwd);
  const { name } = expected;
  if (expected.stderr !== undefined) {
    assert.equal(stderr.toString(), expected.stderr.replaceAll("pg_waldump", "tde waldump"), name);
  }
  if (expected.rc !== undefined) assert.equal(status, expected.rc, name);
  if (expected.stdout !== undefined) assert.equal(stdout.toString("latin1"), expected.stdout, name);
  if (expected.stdout_sha256 !== undefined) {
    assert.equal(sha256(stdout), expected.stdout_sha256, name);
  }
  if (expected.saved_file !== undefined && set.source !== undefined) {
    const list = execFileSync("xz", ["-dc", join(set.source, expected.saved_file)]).toString();
    const saved = existsSync(save)
      ? readdirSync(save).map((name) => {
          const bytes = readFileSync(join(save, name));
          return [name, bytes.length, sha256(bytes)].join("\t");
        })
      : [];
    assert.deepEqual(saved.sort(), list.trim().split("\n").sort());
  }
  rmSync(scratch, { recursive: true });
}

function carryOut(step: SetupStep, set: string, scratch: string): void {
  const at = (name: string | undefined): string => join(scratch, name ?? "");
  switch (step.op) {
    case "copy":
      mkdirSync(dirname(at(step.to)), { recursive: true });
      copyFileSync(join(set, step.from ?? ""), at(step.to));
      break;
    case "mkdir":
      mkdirSync(at(step.dir), { recursive: true });
      break;
    case "truncate":
      truncateSync(at(step.file), step.size);
      break;
    case "write":
      overwrite(at(step.file), Buffer.from(step.hex ?? "", "hex"), step.offset ?? 0);
      break;
    case "zero":
      overwrite(at(step.file), Buffer.alloc(step.length ?? 0), step.offset ?? 0);
      break;
    case "tar": {
      const packer = { tar: [], gz: ["-z"], zst: ["--zstd"] }[step.fmt ?? "tar"] ?? [];
      execFileSync("tar", [
        "--format=ustar",
        "-c",
        ...packer,
        "-f",
        at(step.to),
        "-C",
        join(set, step.dir ?? ""),
        ...(step.members ?? []),
      ]);
    }
  }
}

function overwrite(path: string, bytes: Buffer, offset: number): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
