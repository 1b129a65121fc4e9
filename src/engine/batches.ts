/**
 * Cuts a stream of files into tasks: many small files in one, a large file in several ranges. Results come back
 * in the order of the files, each file's ranges joined.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { splitRange, wholeRange } from "../datadir/relation-job.ts";
import type { Problem } from "../format/problem.ts";
import { runInOrder, type TaskRunner } from "../workers/runner.ts";
import {
  type Item,
  type ItemResult,
  MAX_PROBLEMS_PER_FILE,
  type RelationItem,
  type Task,
} from "../workers/tasks.ts";

const BATCH_FILES = 128;
const BATCH_BYTES = 2 ** 25;
/** From this size on a relation file is spread over the workers. */
const LARGE_FILE_BYTES = 2 ** 26;
/** Ranges of a large file hold about this much. */
const RANGE_BYTES = 2 ** 25;

/** A file to work on, or, without an item, something that only keeps its place in the order. */
export interface Planned<E> {
  readonly item: Item | undefined;
  readonly extra: E;
}

export interface Done<E> {
  readonly extra: E;
  readonly result: ItemResult | undefined;
}

export interface BatchOptions {
  readonly blockSizeBytes: number;
  /** Slots in a chunk: ranges are whole chunks. */
  readonly slotsPerChunk: number;
  readonly task: (items: readonly Item[]) => Task;
  /** Called before the ranges of a large file; returns the item that they share. */
  readonly prepareLarge?: ((item: RelationItem) => RelationItem) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Member<E> {
  readonly extra: E;
  readonly hasItem: boolean;
  /** More ranges of this file follow in later tasks. */
  readonly partial: boolean;
}

/**
 * Runs all planned files.
 * @param take - gets the files of each batch that are complete, in order. What it does is done before the next
 *   batch's files come.
 */
export async function runBatches<E>(
  runner: TaskRunner,
  planned: Iterable<Planned<E>>,
  options: BatchOptions,
  take: (done: readonly Done<E>[]) => void,
): Promise<void> {
  let unfinished: ItemResult | undefined;
  await runInOrder(runner, cut(planned, options), (results, members) => {
    const done: Done<E>[] = [];
    let next = 0;
    for (const { extra, hasItem, partial } of members) {
      if (!hasItem) {
        done.push({ extra, result: undefined });
        continue;
      }
      const result = results[next++];
      const joined =
        unfinished === undefined || result === undefined ? result : join(unfinished, result);
      unfinished = partial ? joined : undefined;
      if (!partial) done.push({ extra, result: joined });
    }
    take(done);
  });
}

function* cut<E>(
  planned: Iterable<Planned<E>>,
  options: BatchOptions,
): Generator<{ task: Task; context: Member<E>[] }> {
  const { blockSizeBytes, slotsPerChunk, signal } = options;
  let items: Item[] = [];
  let members: Member<E>[] = [];
  let bytes = 0;
  const batch = (): { task: Task; context: Member<E>[] } => {
    const made = { task: options.task(items), context: members };
    [items, members, bytes] = [[], [], 0];
    return made;
  };
  for (const { item, extra } of planned) {
    signal?.throwIfAborted();
    if (item?.kind === "relation" && item.files.sizeBytes >= LARGE_FILE_BYTES) {
      if (members.length > 0) yield batch();
      const shared = options.prepareLarge?.(item) ?? item;
      const slotsPerRange = Math.ceil(RANGE_BYTES / blockSizeBytes / slotsPerChunk) * slotsPerChunk;
      const ranges = splitRange(wholeRange(item.files.sizeBytes, blockSizeBytes), slotsPerRange);
      for (const [i, range] of ranges.entries()) {
        signal?.throwIfAborted();
        items.push({ ...shared, range });
        members.push({ extra, hasItem: true, partial: i < ranges.length - 1 });
        yield batch();
      }
      continue;
    }
    members.push({ extra, hasItem: item !== undefined, partial: false });
    if (item !== undefined) {
      items.push(item);
      bytes += sizeOf(item);
    }
    if (items.length >= BATCH_FILES || bytes >= BATCH_BYTES || members.length >= 8 * BATCH_FILES)
      yield batch();
  }
  if (members.length > 0) yield batch();
}

export function sizeOf(item: Item): number {
  return item.kind === "relation" ? item.files.sizeBytes : item.sizeBytes;
}

/** Whether a file is spread over the workers, so that its new files must exist before. */
export function isLarge(item: Item): boolean {
  return item.kind === "relation" && item.files.sizeBytes >= LARGE_FILE_BYTES;
}

function join(a: ItemResult, b: ItemResult): ItemResult {
  const keys = new Map(a.keys);
  for (const [keyId, count] of b.keys ?? []) keys.set(keyId, (keys.get(keyId) ?? 0) + count);
  const problems: Problem[] = [...(a.problems ?? []), ...(b.problems ?? [])];
  const sum = (field: "pages" | "zeroPages" | "wrongChecksums" | "problemCount"): number =>
    (a[field] ?? 0) + (b[field] ?? 0);
  return {
    path: a.path as BytePath,
    keys,
    digest: a.digest ?? b.digest,
    sizeBytes: a.sizeBytes ?? b.sizeBytes,
    pages: sum("pages"),
    zeroPages: sum("zeroPages"),
    wrongChecksums: sum("wrongChecksums"),
    problems: problems.slice(0, MAX_PROBLEMS_PER_FILE),
    problemCount: sum("problemCount"),
  };
}
