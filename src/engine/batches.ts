/**
 * Cuts a stream of files into tasks: many small files in one, a large file in several ranges. Results come back
 * in the order of the files, each file's ranges joined.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { splitRange, wholeRange } from "../datadir/relation-job.ts";
import { slotsPerChunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import { runInOrder, runWriting, type TaskLimits, type TaskRunner } from "../workers/runner.ts";
import {
  type Item,
  type ItemResult,
  MAX_PROBLEMS_PER_FILE,
  type RelationItem,
  sizeOf,
  type CheckTask,
  type WritingTask,
} from "../workers/tasks.ts";

const DEFAULT_LIMITS: TaskLimits = {
  files: 128,
  bytes: 2 ** 25,
  largeFileBytes: 2 ** 26,
  rangeBytes: 2 ** 25,
};

/** A file to work on, or, without an item, something that only keeps its place in the order. */
export interface Planned<E> {
  readonly item: Item | undefined;
  readonly extra: E;
}

export interface Done<E> {
  readonly extra: E;
  readonly result: ItemResult | undefined;
}

export interface BatchOptions<T extends CheckTask | WritingTask = CheckTask> {
  readonly blockSizeBytes: number;
  readonly task: (items: readonly Item[]) => T;
  /** Whether large files are spread over the workers; a digest without a check reads too little for that. */
  readonly splitLarge: boolean;
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
 * Looks at all planned files.
 * @param take - gets the files of each batch that are complete, in order. What it does is done before the next
 *   batch's files come.
 */
export async function runBatches<E>(
  runner: TaskRunner,
  planned: Iterable<Planned<E>>,
  options: BatchOptions,
  take: (done: readonly Done<E>[]) => void,
): Promise<void> {
  const tasks = cut(planned, options, runner.limits ?? DEFAULT_LIMITS);
  await runInOrder(runner, tasks, joining(take));
}

/** As runBatches, for new files: what `take` gets has been read back, and is what it should be. */
export async function writeBatches<E>(
  runner: TaskRunner,
  planned: Iterable<Planned<E>>,
  options: BatchOptions<WritingTask>,
  take: (done: readonly Done<E>[]) => void,
): Promise<void> {
  const tasks = cut(planned, options, runner.limits ?? DEFAULT_LIMITS);
  await runWriting(runner, tasks, { take: joining(take) });
}

/** Puts the results of ranges together before a file is taken. */
function joining<E>(
  take: (done: readonly Done<E>[]) => void,
): (results: readonly ItemResult[], members: readonly Member<E>[]) => void {
  let unfinished: ItemResult | undefined;
  return (results, members) => {
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
      if (!partial) done.push({ extra, result: joined && whole(joined) });
    }
    take(done);
  };
}

interface Batch<E, T> {
  readonly task: T;
  readonly context: readonly Member<E>[];
  /** The next batch is of the same file. */
  readonly goesOn: boolean;
}

function* cut<E, T extends CheckTask | WritingTask>(
  planned: Iterable<Planned<E>>,
  options: BatchOptions<T>,
  limits: TaskLimits,
): Generator<Batch<E, T>> {
  const { blockSizeBytes, signal } = options;
  // Ranges are whole chunks.
  const wholeChunk = slotsPerChunk(blockSizeBytes);
  let items: Item[] = [];
  let members: Member<E>[] = [];
  let bytes = 0;
  const batch = (goesOn = false): Batch<E, T> => {
    const made = { task: options.task(items), context: members, goesOn };
    [items, members, bytes] = [[], [], 0];
    return made;
  };
  for (const { item, extra } of planned) {
    signal?.throwIfAborted();
    if (
      options.splitLarge &&
      item?.kind === "relation" &&
      item.files.sizeBytes >= limits.largeFileBytes
    ) {
      if (members.length > 0) yield batch();
      const shared = options.prepareLarge?.(item) ?? item;
      const slotsPerRange = Math.ceil(limits.rangeBytes / blockSizeBytes / wholeChunk) * wholeChunk;
      const ranges = splitRange(wholeRange(item.files.sizeBytes, blockSizeBytes), slotsPerRange);
      for (const [i, range] of ranges.entries()) {
        signal?.throwIfAborted();
        items.push({ ...shared, range });
        const partial = i < ranges.length - 1;
        members.push({ extra, hasItem: true, partial });
        yield batch(partial);
      }
      continue;
    }
    members.push({ extra, hasItem: item !== undefined, partial: false });
    if (item !== undefined) {
      items.push(item);
      bytes += sizeOf(item);
    }
    if (items.length >= limits.files || bytes >= limits.bytes || members.length >= 8 * limits.files)
      yield batch();
  }
  if (members.length > 0) yield batch();
}

function join(a: ItemResult, b: ItemResult): ItemResult {
  const keys = new Map(a.keys);
  for (const [keyId, count] of b.keys ?? []) keys.set(keyId, (keys.get(keyId) ?? 0) + count);
  const problems: Problem[] = [...(a.problems ?? []), ...(b.problems ?? [])];
  const sum = (
    field: "pages" | "zeroPages" | "newestPages" | "wrongChecksums" | "problemCount",
  ): number => (a[field] ?? 0) + (b[field] ?? 0);
  return {
    path: a.path,
    keys,
    digest: a.digest ?? b.digest,
    fileSalt: a.fileSalt ?? b.fileSalt,
    rangeDigests: [...(a.rangeDigests ?? []), ...(b.rangeDigests ?? [])],
    digestedRanges: a.digestedRanges ?? b.digestedRanges,
    sizeBytes: a.sizeBytes ?? b.sizeBytes,
    pages: sum("pages"),
    zeroPages: sum("zeroPages"),
    newestPages: sum("newestPages"),
    wrongChecksums: sum("wrongChecksums"),
    changed: [...(a.changed ?? []), ...(b.changed ?? [])],
    problems: problems.slice(0, MAX_PROBLEMS_PER_FILE),
    problemCount: sum("problemCount"),
  };
}

/**
 * The digest of a file that was checked in ranges comes of another read of its sidecar: it stands for what was checked
 * only where both reads had the same bytes. Ranges that were not read to their end have a problem already.
 */
function whole(result: ItemResult): ItemResult {
  const { digestedRanges, rangeDigests = [], problems = [], problemCount = 0 } = result;
  const sameBytes =
    digestedRanges === undefined ||
    rangeDigests.length < digestedRanges.length ||
    rangeDigests.every((digest, i) => digest === digestedRanges[i]);
  if (sameBytes) return result;
  const message = "the sidecar was not the same in two reads";
  const problem: Problem = { kind: "sidecar", path: displayPath(result.path), message };
  return { ...result, problems: [...problems, problem], problemCount: problemCount + 1 };
}
