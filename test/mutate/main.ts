/**
 * `npm run mutate`: breaks the program in one place at a time, and tells which breaks no test notices.
 *
 *   npm run mutate -- [--rules 600] [--seed 1] [--only TEXT] [--jobs 2] [--fresh]
 *
 * Two kinds of edits: rows, which someone thought of, each with the test that must turn red, and what rules find in the
 * code that no byte may get lost in (a sample of it; `--rules all` takes everything). Beside what was compiled stands
 * what earlier runs found, so that an interrupted run goes on; --fresh forgets it. Exit code 1: a break that nothing
 * noticed, and that survivors.ts gives no reason for.
 */
import { availableParallelism, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { runCampaign } from "./campaign.ts";
import { type Edit, editOfRow } from "./edit.ts";
import { Ledger, type Outcome, type Verdict } from "./ledger.ts";
import { MutantTree } from "./mutant-tree.ts";
import { ROWS } from "./rows.ts";
import { filesInScope, sampleOfRules, testPool, testsNamed } from "./scope.ts";
import { reasonFor } from "./survivors.ts";

const { values } = parseArgs({
  options: {
    rules: { type: "string", default: "600" },
    seed: { type: "string", default: "1" },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: String(availableParallelism()) },
    fresh: { type: "boolean", default: false },
  },
});

const started = Date.now();
const files = filesInScope();
const count = values.rules === "all" ? Infinity : Number(values.rules);
const edits = [
  ...ROWS.map(editOfRow).map(withWholeNames),
  ...sampleOfRules(files, count, Number(values.seed)),
].filter(({ what }) => what.includes(values.only));

const stop = new AbortController();
const trees = Array.from({ length: Number(values.jobs) }, () => new MutantTree(tmpdir()));
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    stop.abort(new Error("interrupted; the same command goes on"));
    for (const tree of trees) tree.remove();
  });
}
try {
  const verdicts = await runCampaign(edits, {
    trees,
    ledger: new Ledger(values.fresh),
    pool: count > 0 ? testPool() : [],
    files,
    say: (line) => process.stderr.write(`${line}\n`),
    signal: stop.signal,
  });
  report(verdicts);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  for (const tree of trees) tree.remove();
}

/** Rows name tests by the beginning of their paths. */
function withWholeNames(edit: Edit): Edit {
  const tests = testsNamed(edit.tests ?? []);
  if (tests.length === 0) throw new Error(`no test is called ${edit.tests?.join(", ")}`);
  return { ...edit, tests };
}

function report(verdicts: readonly Verdict[]): void {
  const byId = new Map(edits.map((edit) => [edit.id, edit]));
  const rows = new Set(ROWS.map((row) => editOfRow(row).id));
  const of = (some: readonly Verdict[], outcome: Outcome): number =>
    some.filter((verdict) => verdict.outcome === outcome).length;
  const lines: string[] = [];
  for (const [name, some] of [
    ["rows", verdicts.filter(({ id }) => rows.has(id))],
    ["by rule", verdicts.filter(({ id }) => !rows.has(id))],
  ] as const) {
    lines.push(
      `${name}: ${some.length} edits, ${of(some, "killed")} killed, ${of(some, "hung")} hung, ` +
        `${of(some, "survived")} survived, ${of(some, "uncovered")} in code that no test runs through`,
    );
  }
  const unnoticed = verdicts.filter(({ by }) => by === undefined);
  const open = unnoticed.filter(({ id }) => reasonFor(id) === undefined);
  lines.push(`${unnoticed.length - open.length} of the unnoticed have a reason`);
  for (const { id, outcome } of open) lines.push(`${outcome}: ${byId.get(id)?.what ?? id}`);
  const seconds = verdicts.reduce((sum, verdict) => sum + verdict.seconds, 0);
  lines.push(
    `${Math.round((Date.now() - started) / 1000)} s; the edits took ${Math.round(seconds)} s ` +
      `one after the other, those of earlier runs included`,
  );
  process.stdout.write(`${lines.join("\n")}\n`);
  if (open.length > 0) process.exitCode = 1;
}
