/**
 * A copy of the compiled program and its tests in which one file at a time is another, and running tests in it. What
 * is not compiled (fixtures, documents, packages) is the repository's own, behind links.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { compiledPath, ROOT } from "./edit.ts";

/** red: a test failed. hung: it used far more time than it does otherwise. */
export type Colour = "green" | "red" | "hung";

export interface TestRun {
  readonly colour: Colour;
  /** Of processors, in seconds, the children's too; 0 where it was ended before its time. */
  readonly cpuSeconds: number;
}

export interface TestLimits {
  /** Of processor time, for each process. A busy machine has no part in it. */
  readonly cpuSeconds: number;
  /** For what waits and never wakes. */
  readonly wallSeconds: number;
}

/** What the program is started from: in the copy it comes from the single files, one of which is another. */
const ENTRIES: Readonly<Record<string, string>> = {
  "tde.js": 'export * from "../src/cli/main.js";\n',
  "page-worker.js": 'import "../src/workers/page-worker.js";\n',
  "waldump-worker.js": 'import "../src/engine/waldump/waldump-worker.js";\n',
  "wal-server.cjs":
    'exports.serve = async (argv) => (await import("../src/cli/wal-server.js")).serve(argv);\n',
};
const LINKED = ["src", "test", "docs", "fixtures", "node_modules"];
const COPIED = ["bin", "package.json", "CHANGELOG.md", "README.md"];

export class MutantTree {
  readonly root: string;
  private changed: string | undefined;
  private running: ChildProcess | undefined;

  /** @param under - a folder, best in memory. */
  constructor(under: string) {
    this.root = mkdtempSync(join(under, "tde-mutant-"));
    for (const name of ["dist/src", "dist/test", ...COPIED]) {
      cpSync(join(ROOT, name), join(this.root, name), { recursive: true });
    }
    for (const name of LINKED) symlinkSync(join(ROOT, name), join(this.root, name));
    mkdirSync(join(this.root, "dist/bundle"));
    for (const [name, text] of Object.entries(ENTRIES))
      writeFileSync(join(this.root, "dist/bundle", name), text);
  }

  /** @param file - below src/; whatever was changed before is as it was again. */
  change(file: string, text: string): void {
    this.restore();
    writeFileSync(join(this.root, compiledPath(file)), text);
    this.changed = file;
  }

  restore(): void {
    if (this.changed === undefined) return;
    const path = compiledPath(this.changed);
    writeFileSync(join(this.root, path), readFileSync(join(ROOT, path)));
    this.changed = undefined;
  }

  /**
   * Runs one compiled test file to its end, or to its first failure.
   * @param test - below test/, as the source is called without `.ts`.
   * @param coverage - a folder where the processes leave what they ran through.
   */
  async run(test: string, limits: TestLimits, coverage?: string): Promise<TestRun> {
    const temporary = join(this.root, "tmp");
    mkdirSync(temporary, { recursive: true });
    try {
      return await this.runIn(temporary, test, limits, coverage);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  }

  private runIn(
    temporary: string,
    test: string,
    { cpuSeconds, wallSeconds }: TestLimits,
    coverage: string | undefined,
  ): Promise<TestRun> {
    // `times` is all that a shell needs to tell how much its children used.
    const script = `ulimit -t ${Math.ceil(cpuSeconds)}; "$0" --test-reporter=tap "$1"; code=$?; times >&2; exit $code`;
    const file = join(this.root, "dist/test", `${test}.js`);
    const child = spawn("/bin/sh", ["-c", script, process.execPath, file], {
      cwd: this.root,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: {
        ...process.env,
        TMPDIR: temporary,
        ...(coverage === undefined ? {} : { NODE_V8_COVERAGE: coverage }),
      },
    });
    this.running = child;
    return new Promise((resolve, reject) => {
      let colour: Colour = "green";
      let line = "";
      let told = "";
      const stop = (as: Colour): void => {
        if (colour === "green") colour = as;
        this.stop();
      };
      const timer = setTimeout(() => stop("hung"), wallSeconds * 1000);
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        line = (line + text).slice(-4000);
        if (/^\s*not ok /m.test(line)) stop("red");
        line = line.slice(line.lastIndexOf("\n") + 1);
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        told = (told + text).slice(-200);
      });
      child.on("error", reject);
      child.on("close", (code) => {
        clearTimeout(timer);
        this.stop();
        this.running = undefined;
        // The shell names the signal that ended a program: 24 is SIGXCPU, 9 comes where that is caught.
        if (colour === "green" && code !== 0)
          colour = code === 128 + 24 || code === 128 + 9 ? "hung" : "red";
        resolve({ colour, cpuSeconds: secondsIn(told) });
      });
    });
  }

  /** Ends what runs, with everything that it has started. */
  private stop(): void {
    const { running } = this;
    if (running?.pid === undefined) return;
    try {
      process.kill(-running.pid, "SIGKILL");
    } catch {
      // All of them have ended.
    }
  }

  remove(): void {
    this.stop();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Of the children, in what `times` prints: a line of its own, user and system, as 0m1.25s. */
function secondsIn(told: string): number {
  const last = told.trim().split("\n").at(-1) ?? "";
  let seconds = 0;
  for (const [, minutes, rest] of last.matchAll(/(\d+)m([\d.]+)s/g))
    seconds += 60 * Number(minutes) + Number(rest);
  return seconds;
}
