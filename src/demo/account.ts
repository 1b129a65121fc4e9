/**
 * The account that the demo gives of itself: numbered steps, plain sentences, and real commands with their real
 * output. It runs the installed `bin/tde.js` as a process of its own, as a user would.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { StateError } from "../errors.ts";

export interface CommandResult {
  /** Exit code; null when a signal ended it. */
  readonly status: number | null;
  /** Standard output, then standard error. */
  readonly output: string;
}

/** Something turned out otherwise than the demo says: a bug in tde, or in the demo. */
export class Surprise extends Error {
  override readonly name = "Surprise";
}

/** More lines of one command's output than this are counted instead of shown. */
const MOST_LINES = 30;

export class Account {
  readonly #out: (text: string) => void;
  readonly #folder: string;
  readonly #started = performance.now();
  #steps = 0;

  /**
   * @param out - takes one line without its end.
   * @param folder - where commands run.
   */
  constructor(out: (text: string) => void, folder: string) {
    this.#out = out;
    this.#folder = folder;
  }

  step(title: string): void {
    this.#steps += 1;
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(1);
    this.#out("");
    this.#out(`${this.#steps}. ${title}  [${seconds} s]`);
  }

  say(text: string): void {
    for (const line of text.split("\n")) this.#out(`   ${line}`);
  }

  /** Output of a program, set off from our own words. */
  quote(text: string): void {
    const lines = text.trimEnd().split("\n");
    for (const line of lines.slice(0, MOST_LINES)) this.#out(`   | ${line}`);
    if (lines.length > MOST_LINES) this.#out(`   | ... ${lines.length - MOST_LINES} lines more`);
  }

  /**
   * Shows and runs `tde` with these arguments.
   * @throws {Surprise} when it ends with another exit code.
   */
  tde(args: readonly string[], expectedStatus: number): CommandResult {
    this.#out(`   $ ${["tde", ...args].map(shellWord).join(" ")}`);
    return this.#run(process.execPath, [launcher(), ...args], expectedStatus);
  }

  /** Shows and runs any other program. */
  program(path: string, args: readonly string[], expectedStatus: number): CommandResult {
    this.#out(`   $ ${[path, ...args].map(shellWord).join(" ")}`);
    return this.#run(path, args, expectedStatus);
  }

  /** @throws {Surprise} when the account would not be true. */
  expect(holds: boolean, otherwise: string): void {
    if (!holds) throw new Surprise(otherwise);
  }

  #run(path: string, args: readonly string[], expectedStatus: number): CommandResult {
    const { status, stdout, stderr, error } = spawnSync(path, args, {
      cwd: this.#folder,
      encoding: "utf8",
      env: environment(),
      maxBuffer: 1 << 26,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const output = [stdout, stderr, error?.message].filter(Boolean).join("");
    if (output !== "") this.quote(output);
    this.#out(`   exit code ${status}`);
    if (status !== expectedStatus) {
      throw new Surprise(`the exit code was ${status} where ${expectedStatus} was expected`);
    }
    return { status, output };
  }
}

/** The caller's own TDE_KEYRING, PGDATA and the like must not meddle. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(TDE_|PG)/.test(name));
  return { ...Object.fromEntries(kept), NO_COLOR: "1" };
}

/** bin/tde.js, from dist/src/demo or from src/demo. */
function launcher(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (; folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, "bin", "tde.js");
    if (existsSync(path)) return path;
  }
  throw new StateError("bin/tde.js is missing from this installation", {
    hint: "Install tde again.",
  });
}

function shellWord(word: string): string {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
