/**
 * What holds between the entries of a manifest: strictly rising order of the paths' bytes, and a directory above
 * each of them. So nothing is named twice, and nothing is reached through a file or through a link other than
 * pg_wal and those in pg_tblspc. Also the join of a manifest with a walk of the directory, which needs no more
 * memory than one entry of each.
 */
import assert from "node:assert/strict";
import { type BytePath, directoryOf, displayPath } from "../bytes/byte-path.ts";
import { isMovableLink, type ManifestEntry } from "./manifest-entry.ts";

/** Follows a run of entries, in writer and reader alike. */
export class ManifestOrder {
  #previous = "";
  /** Directories that can still have entries below them, each within the range of the one before. */
  readonly #open: BytePath[] = [];

  /** Takes the next entry. @returns what is wrong with its place; undefined when nothing is. */
  take(entry: ManifestEntry): string | undefined {
    const { path } = entry;
    if (path <= this.#previous) {
      return path === this.#previous ? "it is there twice" : "it is out of order";
    }
    this.#previous = path;
    // What begins with "x/" sorts from "x/" to before "x0"; "x" and, say, "x-1" stand before that.
    while (this.#open.length > 0 && path >= `${this.#open.at(-1)}0`) this.#open.pop();
    const parent = directoryOf(path);
    if (parent !== "." && !this.#open.includes(parent)) {
      return `no line names "${displayPath(parent)}" as a directory`;
    }
    if (entry.class === "D" || (entry.class === "L" && isMovableLink(path))) this.#open.push(path);
    return undefined;
  }
}

export interface Joined<Found, Entry = ManifestEntry> {
  readonly path: BytePath;
  /** Undefined: no line of the manifest names it. */
  readonly entry: Entry | undefined;
  /** Undefined: it is missing. */
  readonly found: Found | undefined;
}

/**
 * Pairs what the manifest names with what is there.
 * @param entries - by rising path, as a manifest yields them.
 * @param found - by rising path (raw bytes), without what has no lines: sidecars, manifest, journal, lock.
 */
export function* joinByPath<Found extends WithPath, Entry extends WithPath = ManifestEntry>(
  entries: Iterable<Entry>,
  found: Iterable<Found>,
): Generator<Joined<Found, Entry>> {
  const left = rising(entries);
  const right = rising(found);
  try {
    let entry = nextOf(left);
    let thing = nextOf(right);
    while (entry !== undefined || thing !== undefined) {
      const path = lower(entry?.path, thing?.path);
      const here = entry?.path === path ? entry : undefined;
      const there = thing?.path === path ? thing : undefined;
      yield { path, entry: here, found: there };
      if (here !== undefined) entry = nextOf(left);
      if (there !== undefined) thing = nextOf(right);
    }
  } finally {
    // Whoever stops early lets both sides close what they hold open.
    left.return(undefined);
    right.return(undefined);
  }
}

interface WithPath {
  readonly path: BytePath;
}

function lower(a: BytePath | undefined, b: BytePath | undefined): BytePath {
  const path = a === undefined || (b !== undefined && b < a) ? b : a;
  assert(path !== undefined);
  return path;
}

function nextOf<T>(iterator: Iterator<T>): T | undefined {
  const result = iterator.next();
  return result.done === true ? undefined : result.value;
}

function* rising<T extends WithPath>(items: Iterable<T>): Generator<T> {
  let previous = "";
  for (const item of items) {
    // The message is made only for a failure: there may be millions of items.
    if (item.path <= previous) assert.fail(`out of order: ${displayPath(item.path)}`);
    previous = item.path;
    yield item;
  }
}
