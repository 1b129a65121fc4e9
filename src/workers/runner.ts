/**
 * Who carries out tasks: worker threads, or the calling thread itself. The engine cannot tell them apart.
 */
import type { ItemResult, Task, WritingTask } from "./tasks.ts";

export interface TaskRunner {
  /** How many tasks are worth having under way. */
  readonly width: number;
  /** How much a task holds, where it is not the usual: small tasks show what a crash between two of them leaves. */
  readonly limits?: TaskLimits | undefined;
  /** Rejects with the TdeError that stopped the task. */
  run(task: Task): Promise<ItemResult[]>;
  close(): Promise<void>;
}

export interface TaskLimits {
  readonly files: number;
  readonly bytes: number;
  /** From this size on a relation file is spread over several tasks. */
  readonly largeFileBytes: number;
  /** How much of a large file each of them holds, about. */
  readonly rangeBytes: number;
}

export type OnBytes = (bytes: number) => void;

/**
 * Runs tasks as they come, as many at a time as the runner is wide, and hands each result on in the order in
 * which the tasks came: the engine writes a manifest in path order, and a journal one entry after the other.
 * The first failure stops the drawing of tasks; those under way are waited for before it is thrown.
 */
export async function runInOrder<T>(
  runner: TaskRunner,
  tasks: Iterable<{ readonly task: Exclude<Task, WritingTask>; readonly context: T }>,
  take: (results: ItemResult[], context: T) => void | Promise<void>,
): Promise<void> {
  const line = new Line<T>(runner);
  try {
    for (const { task, context } of tasks) {
      line.add(task, context);
      if (line.isFull) await line.takeFirst(take);
    }
    while (!line.isEmpty) await line.takeFirst(take);
  } finally {
    await line.settle();
  }
}

/** A writing task, as runWriting takes it. */
export interface Writing<T> {
  readonly task: WritingTask;
  readonly context: T;
  /** The next task writes to the same files. */
  readonly goesOn?: boolean | undefined;
}

/** What is done with the new files. */
export interface TakeWritten<T> {
  /** A last write to the files of a task, which are synced; called in the order of the tasks. */
  readonly complete?: ((results: ItemResult[], context: T) => Promise<void>) | undefined;
  /** They have been read back, and are what they should be; called in the order of the tasks. */
  readonly take: (results: ItemResult[], context: T) => void | Promise<void>;
}

/**
 * As runInOrder, for tasks that write new files. A file counts only after it was read back: opened anew, authenticated to
 * its last tag, and held against what it was made from. That begins when nothing is written to the file any more, so that
 * a write which went to the wrong place of it is found, too.
 */
export async function runWriting<T>(
  runner: TaskRunner,
  tasks: Iterable<Writing<T>>,
  { complete, take }: TakeWritten<T>,
): Promise<void> {
  const writing = new Line<Writing<T>>(runner);
  const readingBack = new Line<{ readonly results: ItemResult[]; readonly context: T }>(runner);
  /** Of a file that later tasks write to. */
  let waiting: { readonly of: Writing<T>; readonly results: ItemResult[] }[] = [];
  const takeWritten = async (results: ItemResult[], of: Writing<T>): Promise<void> => {
    await complete?.(results, of.context);
    waiting.push({ of, results });
    if (of.goesOn === true) return;
    for (const { of: written, results: made } of waiting) {
      const items = written.task.items.map((item, i) => ({
        item,
        plainDigest: made[i]?.plainDigest,
      }));
      const task: Task = { kind: "read-back", written: written.task.kind, items };
      readingBack.add(task, { results: made, context: written.context });
    }
    waiting = [];
    while (readingBack.isFull) await readingBack.takeFirst(takeReadBack);
  };
  const takeReadBack = async (
    _readBack: ItemResult[],
    { results, context }: { readonly results: ItemResult[]; readonly context: T },
  ): Promise<void> => take(results, context);
  try {
    for (const each of tasks) {
      writing.add(each.task, each);
      if (writing.isFull) await writing.takeFirst(takeWritten);
    }
    while (!writing.isEmpty) await writing.takeFirst(takeWritten);
    while (!readingBack.isEmpty) await readingBack.takeFirst(takeReadBack);
  } finally {
    await writing.settle();
    await readingBack.settle();
  }
}

/** Tasks under way, in their order. */
class Line<T> {
  private readonly runner: TaskRunner;
  private readonly underWay: { readonly context: T; readonly results: Promise<ItemResult[]> }[] =
    [];

  constructor(runner: TaskRunner) {
    this.runner = runner;
  }

  get isEmpty(): boolean {
    return this.underWay.length === 0;
  }

  /** Whether there are more of them than the runner is wide. */
  get isFull(): boolean {
    return this.underWay.length > this.runner.width;
  }

  add(task: Task, context: T): void {
    const results = this.runner.run(task);
    // A rejection is seen when its turn comes; until then it must not count as unhandled.
    results.catch(() => {});
    this.underWay.push({ context, results });
  }

  async takeFirst(
    take: (results: ItemResult[], context: T) => void | Promise<void>,
  ): Promise<void> {
    const first = this.underWay.shift();
    if (first !== undefined) await take(await first.results, first.context);
  }

  /** Waits for what is under way, whatever comes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.underWay.map(({ results }) => results));
  }
}
