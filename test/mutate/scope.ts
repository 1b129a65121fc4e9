/** What a mutation run is about: which files, which tests, and which of the edits that rules find. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../fuzz/random.ts";
import { isProgram } from "./campaign.ts";
import { type Edit, ROOT } from "./edit.ts";
import { editsByRule, type Rule, RULES } from "./rules.ts";

/** Below src/: where an unnoticed mistake loses a byte, leaks a secret, or calls something verified that is not. */
const SCOPE = [
  "crypto/",
  "format/",
  "keyring/",
  "storage/",
  "engine/directory-run.ts",
  "engine/recover.ts",
  "engine/run/",
];

/** Below test/: tests that look at them, without those that take minutes. */
const POOL = [
  "crypto/",
  "datadir/sealed-file",
  "engine/crash-cuts",
  "engine/file-in-ranges",
  "engine/replayed-journal",
  "engine/rotate.",
  "engine/sync",
  "engine/tampering",
  "engine/wal-readable",
  "format/",
  "keyring/",
  "storage/",
];

/** How many of a hundred edits by rule are of each: those that hold back or write first. */
const SHARES: Readonly<Record<Rule, number>> = {
  guard: 26,
  call: 24,
  equality: 10,
  edge: 8,
  logic: 9,
  number: 8,
  truth: 4,
  label: 2,
  sum: 4,
  branch: 5,
};

/** Below src/, sorted. */
export function filesInScope(): string[] {
  return readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".as.ts"))
    .filter((name) => SCOPE.some((part) => name.startsWith(part)))
    .sort();
}

/** Compiled test files, below test/ and without ending, that begin so. A `.` at the end stands for the name's end. */
export function testsNamed(parts: readonly string[]): string[] {
  const compiled = join(ROOT, "dist/test");
  return readdirSync(compiled, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js"))
    .filter((name) => existsSync(join(ROOT, "test", name.replace(/\.js$/, ".ts"))))
    .filter((name) => parts.some((part) => name.startsWith(part)))
    .sort()
    .map((name) => name.replace(/\.js$/, ""));
}

export function testPool(): string[] {
  return testsNamed(POOL);
}

/**
 * Edits by rule, spread over rules and files.
 * @param count - about how many; all of them where it is infinite.
 */
export function sampleOfRules(files: readonly string[], count: number, seed: number): Edit[] {
  const all = files.flatMap(editsByRule);
  if (!Number.isFinite(count)) return all.filter((edit) => isProgram(edit.compile()));
  const random = seededRandom(seed);
  const chosen = new Set<Edit>();
  for (const rule of RULES) {
    const left = all.filter((edit) => edit.rule === rule);
    for (let wanted = Math.round((count * SHARES[rule]) / 100); wanted > 0 && left.length > 0;) {
      const [edit] = left.splice(random.below(left.length), 1);
      if (edit === undefined || !isProgram(edit.compile())) continue;
      chosen.add(edit);
      wanted--;
    }
  }
  return all.filter((edit) => chosen.has(edit));
}
