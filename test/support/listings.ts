/** Listings of real data directories (fixtures/listings), and the short form in which their classes are compared. */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { bytePath } from "../../src/bytes/byte-path.ts";
import type { Classification } from "../../src/datadir/classify.ts";
import type { Major } from "../../src/postgres/version.ts";
import type { FileKind } from "../../src/storage/file-system.ts";
import { readFixture } from "./fixtures.ts";

export interface ListedEntry {
  readonly path: BytePath;
  readonly kind: FileKind;
  /** What a link says. */
  readonly target: string | undefined;
}

export const CATALOG_VERSIONS: Readonly<Record<Major, number>> = {
  13: 202007201,
  14: 202107181,
  15: 202209061,
  16: 202307071,
  17: 202406281,
  18: 202506291,
  19: 202610061,
};

/** Every entry below one data directory, by rising path; a tablespace's under pg_tblspc. */
export function readListing(major: Major): ListedEntry[] {
  return readFixture(`listings/${major}.txt`)
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [kind, rest] = line.split("\t") as [FileKind, string];
      const [path, target] = rest.split(" -> ");
      return { kind, path: bytePath(path ?? ""), target };
    });
}

/** One line for all paths that differ only in numbers: path, class, count; by path. */
export function summarize(
  entries: Iterable<{ readonly path: BytePath; readonly classification: Classification }>,
): string {
  const counts = new Map<string, number>();
  for (const { path, classification } of entries) {
    const line = `${withoutNumbers(path)}  ${describe(classification)}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  }
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([line, count]) => `${line}  ${count}\n`)
    .join("");
}

/** Also numbers of hexadecimal digits, where they are the whole name. */
function withoutNumbers(path: string): string {
  return path.replace(/(?<=^|\/)[0-9A-F]{4,}(?=$|[/._])/g, "N").replace(/[0-9]+/g, "N");
}

/** The class in a few words: everything that matters but the numbers. */
export function describe(classification: Classification): string {
  const expendable =
    "expendable" in classification && classification.expendable ? " expendable" : "";
  const name = classification.class;
  if (name === "relation") return `relation ${classification.file.fork}${expendable}`;
  if (name === "link") return classification.followed ? "link followed" : "link";
  if (name === "own") return `own ${classification.file}`;
  if (name === "sidecar" || name === "working") {
    return `${name} of ${classification.of}${expendable}`;
  }
  return `${name}${expendable}`;
}
