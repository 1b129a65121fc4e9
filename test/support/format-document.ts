/** Reads docs/FORMAT.md: its sections, its tables and the test vectors in it. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";

const path = ["../../docs/FORMAT.md", "../../../docs/FORMAT.md"]
  .map((relative) => new URL(relative, import.meta.url))
  .find((url) => existsSync(url));
assert.ok(path !== undefined, "docs/FORMAT.md is missing");
export const FORMAT_DOCUMENT: string = readFileSync(path, "utf8");

/** All vectors of one structure; at least one. */
export function vectorsOf<T>(structure: string): T[] {
  const found = [...FORMAT_DOCUMENT.matchAll(/^```json\n(.*?)^```$/gms)]
    .map((match) => JSON.parse(match[1] ?? "") as T & { readonly structure: string })
    .filter((vector) => vector.structure === structure);
  assert.ok(found.length > 0, `no vector of a ${structure}`);
  return found;
}

/** The text under a heading, up to the next heading of any level. */
export function section(heading: string): string {
  const start = FORMAT_DOCUMENT.indexOf(`\n${heading}\n`);
  assert.ok(start >= 0, `no heading "${heading}"`);
  const rest = FORMAT_DOCUMENT.slice(start + heading.length + 2);
  const end = rest.search(/^#+ /m);
  return end < 0 ? rest : rest.slice(0, end);
}

/** The tables of a section: rows of cells, without the heading row. */
export function tablesOf(heading: string): string[][][] {
  return section(heading)
    .split(/\n\n/)
    .filter((paragraph) => paragraph.trimStart().startsWith("|"))
    .map((table) =>
      table
        .trim()
        .split("\n")
        .slice(2)
        .map((row) =>
          row
            .split(/(?<!\\)\|/)
            .slice(1, -1)
            .map((cell) => cell.trim()),
        ),
    );
}
