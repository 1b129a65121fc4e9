/**
 * A mutation run: each edit by itself in a copy of the program, and the tests that might notice, the nearest and
 * quickest first, until one of them does.
 */
import { parse } from "acorn";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { covers, coveredIn } from "./coverage.ts";
import type { Edit } from "./edit.ts";
import type { Baseline, Ledger, Verdict } from "./ledger.ts";
import { type Colour, type MutantTree, type TestLimits } from "./mutant-tree.ts";

export interface CampaignOptions {
  /** One for each that run at a time. */
  readonly trees: readonly MutantTree[];
  readonly ledger: Ledger;
  /** Below test/, without `.ts`: where what a rule did may be noticed. */
  readonly pool: readonly string[];
  /** Below src/: whose coverage is of interest. */
  readonly files: readonly string[];
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Of processor time: what a test may take that takes next to none otherwise, and how often what it takes. */
const LEAST_CPU_SECONDS = 10;
const CPU_FACTOR = 4;
/** By the clock: generous, because others may use the machine. */
const LEAST_WALL_SECONDS = 240;
const WALL_FACTOR = 20;
/** Tests of an edit that none of them notices may take so much together; the first is run whatever it takes. */
const MOST_CPU_SECONDS_PER_EDIT = 60;

/** @throws {Error} when a test that rows name is red without any change. */
export async function runCampaign(
  edits: readonly Edit[],
  options: CampaignOptions,
): Promise<Verdict[]> {
  const { trees, ledger, pool, say, signal } = options;
  const named = edits.flatMap(({ tests }) => tests ?? []);
  const wanted = [...new Set([...named, ...pool])];
  await inTurn(trees, wanted, signal, async (tree, test) => {
    if (ledger.baselineOf(test) !== undefined) return;
    const baseline = await baselineIn(tree, test, options.files);
    ledger.noteBaseline(baseline);
    say(`${test}: ${baseline.cpuSeconds.toFixed(1)} s${baseline.isGreen ? "" : ", RED"}`);
  });
  const red = [...new Set(named)].filter((test) => ledger.baselineOf(test)?.isGreen === false);
  if (red.length > 0) throw new Error(`red without any change: ${red.join(", ")}`);

  const verdicts: Verdict[] = [];
  let done = 0;
  await inTurn(trees, edits, signal, async (tree, edit) => {
    const verdict = ledger.verdictOn(edit.id) ?? (await judge(tree, edit, options));
    verdicts.push(verdict);
    done++;
    if (verdict.outcome === "survived" || verdict.outcome === "uncovered")
      say(`${done}/${edits.length} ${verdict.outcome}: ${edit.what}`);
    else if (done % 25 === 0) say(`${done}/${edits.length}`);
  });
  return verdicts;
}

async function judge(
  tree: MutantTree,
  edit: Edit,
  { ledger, pool, signal }: CampaignOptions,
): Promise<Verdict> {
  const { id } = edit;
  const tests = edit.tests ?? testsThrough(edit, pool, ledger);
  const started = Date.now();
  let verdict: Verdict | undefined;
  tree.change(edit.file, edit.compile());
  try {
    for (const test of tests) {
      const run = await tree.run(test, limitsOf(ledger.baselineOf(test)));
      signal.throwIfAborted();
      if (run.colour === "green") continue;
      const outcome = run.colour === "red" ? "killed" : "hung";
      verdict = { id, outcome, by: test, seconds: secondsSince(started) };
      break;
    }
  } finally {
    tree.restore();
  }
  const outcome = tests.length === 0 ? "uncovered" : "survived";
  verdict ??= { id, outcome, seconds: secondsSince(started) };
  ledger.noteVerdict(verdict);
  return verdict;
}

function secondsSince(started: number): number {
  return (Date.now() - started) / 1000;
}

/** The tests that run through the place of an edit: those of its own folder first, then by what they take. */
function testsThrough(edit: Edit, pool: readonly string[], ledger: Ledger): string[] {
  const folder = `${edit.file.split("/")[0]}/`;
  const through = pool
    .map((test) => ledger.baselineOf(test))
    .filter((baseline) => baseline !== undefined)
    .filter(({ isGreen, covered }) => isGreen && covers(covered, edit.file, edit.offset));
  const isNear = ({ test }: Baseline): boolean => test.startsWith(folder);
  through.sort((a, b) => Number(isNear(b)) - Number(isNear(a)) || a.cpuSeconds - b.cpuSeconds);
  let sum = 0;
  return through
    .filter(({ cpuSeconds }, i) => i === 0 || (sum += cpuSeconds) <= MOST_CPU_SECONDS_PER_EDIT)
    .map(({ test }) => test);
}

async function baselineIn(
  tree: MutantTree,
  test: string,
  files: readonly string[],
): Promise<Baseline> {
  const folder = mkdtempSync(join(tree.root, "coverage-"));
  try {
    const { colour, cpuSeconds } = await tree.run(test, NO_LIMITS, folder);
    const covered = coveredIn(folder, tree.root, files);
    return { test, isGreen: isGreen(colour), cpuSeconds, covered };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const NO_LIMITS: TestLimits = { cpuSeconds: 1200, wallSeconds: 3600 };

function isGreen(colour: Colour): boolean {
  return colour === "green";
}

function limitsOf(baseline: Baseline | undefined): TestLimits {
  const usual = baseline?.cpuSeconds ?? 0;
  return {
    cpuSeconds: LEAST_CPU_SECONDS + CPU_FACTOR * usual,
    wallSeconds: LEAST_WALL_SECONDS + WALL_FACTOR * usual,
  };
}

/** Whether what an edit makes is a program at all. */
export function isProgram(text: string): boolean {
  try {
    parse(text, { ecmaVersion: 2023, sourceType: "module" });
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** Works through a list with each tree, an entry at a time, in the list's order. */
async function inTurn<T>(
  trees: readonly MutantTree[],
  list: readonly T[],
  signal: AbortSignal,
  work: (tree: MutantTree, entry: T) => Promise<void>,
): Promise<void> {
  const entries = list.values();
  await Promise.all(
    trees.map(async (tree) => {
      for (const entry of entries) {
        signal.throwIfAborted();
        await work(tree, entry);
      }
    }),
  );
}
