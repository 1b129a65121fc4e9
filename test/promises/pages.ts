/** What the documents promise, block by block. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** A promise of a document: a part of its text, which stands there once, and the tests that hold it. */
export interface Kept {
  readonly says: string;
  /** Each as `path below test/ without .test.ts: part of the test's title`. */
  readonly tests: readonly string[];
}

/** A paragraph, an item of a list or a row of a table. */
export interface Block {
  readonly section: string;
  /** In one line, with single blanks. */
  readonly text: string;
}

export function readPage(root: string, name: string): Block[] {
  const blocks: { section: string; text: string }[] = [];
  let section = "";
  let open: { section: string; text: string } | undefined;
  let isCode = false;
  for (const line of readFileSync(join(root, "docs", name), "utf8").split("\n")) {
    if (line.startsWith("```")) isCode = !isCode;
    if (isCode || line.startsWith("```") || line.trim() === "") {
      open = undefined;
      continue;
    }
    if (line.startsWith("#")) {
      section = line.replace(/^#+ /, "");
      open = undefined;
    } else if (/^(\||- |\d+\. )/.test(line) || open === undefined) {
      open = { section, text: line };
      blocks.push(open);
    } else {
      open.text += ` ${line.trim()}`;
    }
  }
  return blocks
    .filter(({ text }) => !isHeading(text))
    .map((block) => ({ ...block, text: block.text.replaceAll(/\s+/g, " ") }));
}

/** The line under a table's first one. That first one, its heading, says what columns mean, and promises nothing. */
function isHeading(text: string): boolean {
  return /^\| (-+ \||step )/.test(text);
}
