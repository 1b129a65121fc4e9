/**
 * What a mutation run has found so far, kept beside what was compiled: a run that was interrupted goes on, and only
 * what the change of a file can have an influence on is tried once more.
 */
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Covered } from "./coverage.ts";
import { ROOT } from "./edit.ts";

/** killed: a test turned red. hung: one took far longer. survived: none noticed. uncovered: none runs through it. */
export type Outcome = "killed" | "hung" | "survived" | "uncovered";

export interface Verdict {
  readonly id: string;
  readonly outcome: Outcome;
  /** The test that noticed. */
  readonly by?: string | undefined;
  /** By the clock. */
  readonly seconds: number;
}

/** A test as it is without any change. */
export interface Baseline {
  readonly test: string;
  readonly isGreen: boolean;
  readonly cpuSeconds: number;
  readonly covered: Covered;
}

interface Line {
  readonly source: string;
  readonly tests: string;
  readonly verdict?: Verdict;
  readonly baseline?: Baseline;
}

const FOLDER = join(ROOT, "dist/mutate");

export class Ledger {
  readonly #path = join(FOLDER, "ledger.jsonl");
  readonly #source = digestOf("dist/src");
  readonly #tests = digestOf("dist/test");
  readonly #verdicts = new Map<string, Verdict>();
  readonly #baselines = new Map<string, Baseline>();

  /** @param isFresh - forget what earlier runs found. */
  constructor(isFresh: boolean) {
    mkdirSync(FOLDER, { recursive: true });
    if (isFresh) rmSync(this.#path, { force: true });
    if (!existsSync(this.#path)) return;
    for (const text of readFileSync(this.#path, "utf8").split("\n")) this.#take(text);
  }

  #take(text: string): void {
    let line: Line;
    try {
      line = JSON.parse(text) as Line;
    } catch {
      return; // Cut off when the run was ended.
    }
    if (line.source !== this.#source) return;
    const { verdict, baseline } = line;
    const sameTests = line.tests === this.#tests;
    // Tests come and hardly ever go: what one of them has noticed another run need not see again.
    if (verdict !== undefined && (sameTests || verdict.by !== undefined))
      this.#verdicts.set(verdict.id, verdict);
    if (baseline !== undefined && sameTests) this.#baselines.set(baseline.test, baseline);
  }

  verdictOn(id: string): Verdict | undefined {
    return this.#verdicts.get(id);
  }

  baselineOf(test: string): Baseline | undefined {
    return this.#baselines.get(test);
  }

  noteVerdict(verdict: Verdict): void {
    this.#verdicts.set(verdict.id, verdict);
    this.#append({ verdict });
  }

  noteBaseline(baseline: Baseline): void {
    this.#baselines.set(baseline.test, baseline);
    this.#append({ baseline });
  }

  #append(what: Pick<Line, "verdict" | "baseline">): void {
    const line: Line = { source: this.#source, tests: this.#tests, ...what };
    appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
  }
}

/** Over everything compiled below a folder but the mutation run itself, which decides nothing. */
function digestOf(folder: string): string {
  const hash = createHash("sha256");
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(js|wasm)$/.test(name) && !name.startsWith("mutate/"))
    .sort();
  for (const name of names) {
    hash.update(`${name}\n`).update(readFileSync(join(ROOT, folder, name)));
  }
  return hash.digest("hex");
}
