/** Runs bin/tde.js as a process, without anything of this environment that could open a keyring. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The launcher, seen from the compiled tests in dist/ and from the sources alike. */
export const tdeProgram: string =
  ["../../", "../../../"]
    .map((up) => fileURLToPath(new URL(`${up}bin/tde.js`, import.meta.url)))
    .find((path) => existsSync(path)) ?? "";

export interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

export function runTde(args: readonly string[], options: RunOptions): Run {
  const { status, stdout, stderr } = spawnSync(process.execPath, [tdeProgram, ...args], {
    cwd: options.cwd,
    env: { PATH: process.env["PATH"] ?? "", ...options.env },
    input: options.input ?? "",
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}
