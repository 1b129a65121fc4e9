/**
 * Which test runs through which place of the compiled program, as V8 counts it, block by block. An edit that no test
 * runs through needs no run: nothing would notice it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { compiledPath } from "./edit.ts";

/** By offsets in a compiled file: from, to and so on; sorted, none touching the next. */
type Spans = readonly (readonly [start: number, end: number])[];

/** By file below src/, as the source is called. */
export type Covered = Readonly<Record<string, Spans>>;

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly Range[] }[];
}

/**
 * What the processes of one test ran through.
 * @param folder - where NODE_V8_COVERAGE let them write.
 * @param root - of the tree that they ran in.
 * @param files - that are of interest.
 */
export function coveredIn(folder: string, root: string, files: readonly string[]): Covered {
  const byUrl = new Map(
    files.map((file) => [pathToFileURL(join(root, compiledPath(file))).href, file]),
  );
  const covered: Record<string, Spans> = {};
  for (const name of readdirSync(folder)) {
    for (const { url, functions } of scriptsIn(join(folder, name))) {
      const file = byUrl.get(url);
      if (file === undefined) continue;
      const spans = ranThrough(functions.flatMap(({ ranges }) => ranges));
      covered[file] = united(covered[file] ?? [], spans);
    }
  }
  return covered;
}

export function covers(covered: Covered, file: string, offset: number): boolean {
  return (covered[file] ?? []).some(([start, end]) => start <= offset && offset < end);
}

/** What a process that was killed has written in part tells nothing. */
function scriptsIn(path: string): readonly ScriptCoverage[] {
  try {
    const { result } = JSON.parse(readFileSync(path, "utf8")) as { result: ScriptCoverage[] };
    return result;
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

/** Ranges lie in one another or apart; the innermost one around a place counts. */
function ranThrough(ranges: readonly Range[]): Spans {
  const sorted = [...ranges].sort(
    (a, b) => a.startOffset - b.startOffset || b.endOffset - a.endOffset,
  );
  const spans: [number, number][] = [];
  const open: Range[] = [];
  let at = 0;
  const upTo = (offset: number): void => {
    const inner = open.at(-1);
    if (inner !== undefined && inner.count > 0 && offset > at) spans.push([at, offset]);
    at = Math.max(at, offset);
  };
  const closeUntil = (offset: number): void => {
    for (let inner = open.at(-1); inner !== undefined; inner = open.at(-1)) {
      if (inner.endOffset > offset) return;
      upTo(inner.endOffset);
      open.pop();
    }
  };
  for (const range of sorted) {
    closeUntil(range.startOffset);
    upTo(range.startOffset);
    open.push(range);
  }
  closeUntil(Infinity);
  return united(spans, []);
}

function united(a: Spans, b: Spans): Spans {
  const sorted = [...a, ...b].sort(([x], [y]) => x - y);
  const spans: [number, number][] = [];
  for (const [start, end] of sorted) {
    const last = spans.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
    else spans.push([start, end]);
  }
  return spans;
}
