/**
 * Who carries out tasks: worker threads, or the calling thread itself. The engine cannot tell them apart.
 */
import type { ItemResult, Task } from "./tasks.ts";

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
  tasks: Iterable<{ readonly task: Task; readonly context: T }>,
  take: (results: ItemResult[], context: T) => void | Promise<void>,
): Promise<void> {
  const underWay: { readonly context: T; readonly results: Promise<ItemResult[]> }[] = [];
  const takeFirst = async (): Promise<void> => {
    const first = underWay.shift();
    if (first !== undefined) await take(await first.results, first.context);
  };
  try {
    for (const { task, context } of tasks) {
      const results = runner.run(task);
      // A rejection is seen when its turn comes; until then it must not count as unhandled.
      results.catch(() => {});
      underWay.push({ context, results });
      if (underWay.length > runner.width) await takeFirst();
    }
    while (underWay.length > 0) await takeFirst();
  } finally {
    await Promise.allSettled(underWay.map(({ results }) => results));
  }
}
