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
  truncateSync,
  writeSync,
  closeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { extract } from "tar";
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

/** Runs tde as pg_waldump ran, and compares output, messages, exit code and saved pages. */
export function checkCase(set: WaldumpCases, expected: WaldumpCase): void {
  const scratch = mkdtempSync(join(set.folder, "case-"));
  const cwd = expected.cwd === "fresh" ? scratch : join(set.folder, expected.cwd);
  for (const step of expected.setup ?? []) carryOut(step, set.folder, scratch);
  const save = join(scratch, "saved");
  const argv = expected.argv.map((argument) => argument.replace("@SAVE@", save));
  const { status, stdout, stderr } = runTdeBytes(["waldump", ...argv], {
    cwd,
    env: { TZ: "UTC" },
  });
  if (expected.stderr !== undefined) {
    assert.equal(stderr.toString(), expected.stderr.replaceAll("pg_waldump", "tde waldump"));
  }
  if (expected.rc !== undefined) assert.equal(status, expected.rc);
  if (expected.stdout !== undefined) assert.equal(stdout.toString("latin1"), expected.stdout);
  if (expected.stdout_sha256 !== undefined) assert.equal(sha256(stdout), expected.stdout_sha256);
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
