/**
 * One single change of the program, and what it makes of a compiled file. Edits that a person wrote change the source,
 * whose text they quote; those that a rule makes change what was compiled from it, where no type is in the way.
 */
import { transformSync } from "esbuild";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A mutation that someone thought of. */
export interface Row {
  /** Below src/. */
  readonly file: string;
  /** What the program does then. */
  readonly what: string;
  /** Text of the source that occurs once. */
  readonly from: string;
  readonly to: string;
  /** Each the beginning of a path below test/: one of these tests must turn red. */
  readonly tests: readonly string[];
}

export interface Edit {
  /** Unique, and the same in the next run while the code is the same. */
  readonly id: string;
  /** Below src/, as the source is called. */
  readonly file: string;
  /** For people, in one line. */
  readonly what: string;
  /** The whole compiled file with the change in it. */
  readonly compile: () => string;
  /** Of a row: where to look for the test that turns red. Of a rule: whatever covers the place. */
  readonly tests: readonly string[] | undefined;
  /** In the compiled file, of a rule's edit. */
  readonly offset: number;
}

/** The repository, seen from the compiled tests. */
export const ROOT: string = fileURLToPath(new URL("../../../", import.meta.url));

export function sourceOf(file: string): string {
  return readFileSync(join(ROOT, "src", file), "utf8");
}

/** How often a text occurs in another, overlapping ones included. */
export function occurrences(text: string, part: string): number {
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) count++;
  return count;
}

/** @throws {Error} when the row's text is not there once: the code has moved on, and the row must follow. */
export function mutated({ file, what, from, to }: Row, source: string): string {
  const count = occurrences(source, from);
  if (count !== 1) {
    throw new Error(
      `stale row: in src/${file} this text occurs ${count} times, not once:\n${from}\n(${what}). ` +
        "Quote the text that does the same now, or take the row out with a reason if nothing does.",
    );
  }
  return source.replace(from, () => to);
}

/** @throws {Error} as `mutated`. */
export function editOfRow(row: Row): Edit {
  const { file, what, tests } = row;
  return {
    id: `${file}: ${what}`,
    file,
    what: `${file}: ${what}`,
    tests,
    offset: 0,
    compile: () => compiled(mutated(row, sourceOf(file))),
  };
}

/** As the compiler does it, but for layout: types go, and imports name what was compiled. */
export function compiled(source: string): string {
  const { code } = transformSync(source, { loader: "ts", format: "esm", target: "es2023" });
  return code.replace(/^(.*\bfrom ".+)\.ts";$/gm, '$1.js";');
}

/** Where the compiled form of a source file lies, below the repository or a copy of it. */
export function compiledPath(file: string): string {
  return join("dist/src", file.replace(/\.ts$/, ".js"));
}
