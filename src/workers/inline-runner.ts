/**
 * Carries out tasks in the calling thread, one after the other, over any file system: for small directories, for
 * one job, and for tests that stop the disk at every operation.
 */
import type { FileSystem } from "../storage/file-system.ts";
import { type RunContext, TaskPerformer } from "./perform.ts";
import type { OnBytes, TaskRunner } from "./runner.ts";
import type { ItemResult, Task } from "./tasks.ts";

export class InlineRunner implements TaskRunner {
  readonly width = 0;
  private readonly performer: TaskPerformer;

  constructor(fs: FileSystem, context: RunContext, onBytes: OnBytes) {
    this.performer = new TaskPerformer(fs, context, onBytes);
  }

  run(task: Task): Promise<ItemResult[]> {
    return this.performer.perform(task);
  }

  async close(): Promise<void> {}
}
