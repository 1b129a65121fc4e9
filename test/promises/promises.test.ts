import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { FORMAT } from "./format.ts";
import { type Block, type Kept, readPage } from "./pages.ts";
import { RELIABILITY } from "./reliability.ts";

const ROOT = fileURLToPath(
  new URL(import.meta.url.endsWith(".js") ? "../../.." : "../..", import.meta.url),
);

const PAGES: readonly {
  readonly name: string;
  readonly kept: readonly Kept[];
  /** Whether a block promises something. */
  readonly promises: (block: Block) => boolean;
}[] = [
  {
    name: "RELIABILITY.md",
    kept: RELIABILITY,
    promises: ({ section }) => section !== "The harness" && section !== "Not covered",
  },
  {
    name: "FORMAT.md",
    kept: FORMAT,
    promises: ({ section, text }) =>
      section !== "The tde format, version 1" &&
      (/\bMUST\b(?! reject$)/.test(text) || section.includes("MUST reject")),
  },
];

for (const { name, kept, promises } of PAGES) {
  const blocks = readPage(ROOT, name);

  test(`each promise of ${name} has tests that hold it`, () => {
    const bare = blocks
      .filter(promises)
      .filter(({ text }) => !kept.some(({ says }) => text.includes(says)))
      .map(({ section, text }) => `${section}: ${text.slice(0, 120)}`);
    assert.deepEqual(bare, []);
  });

  test(`what is told to be held stands in ${name}, once`, () => {
    for (const { says, tests } of kept) {
      assert.equal(blocks.filter(({ text }) => text.includes(says)).length, 1, says);
      assert.ok(tests.length > 0, says);
    }
  });

  test(`the tests that hold ${name} are there`, () => {
    const missing = kept.flatMap(({ tests }) => tests).filter((named) => !isThere(named));
    assert.deepEqual(missing, []);
  });
}

/** @param named - `path below test/ without .test.ts: part of a title`, without what a title is filled with. */
function isThere(named: string): boolean {
  const [path = "", ...rest] = named.split(": ");
  const source = join(ROOT, "test", `${path}.test.ts`);
  return existsSync(source) && titlesIn(source).some((title) => title.includes(rest.join(": ")));
}

function titlesIn(source: string): string[] {
  const found = readFileSync(source, "utf8").matchAll(/\btest\(\s*("|`)((?:(?!\1)[^\\]|\\.)*)\1/g);
  return [...found].map(([, , title = ""]) => title);
}
