/**
 * Spreads tasks over worker threads. Each worker has its own buffers and its own view of the real file system;
 * keys reach it as KeyObjects, which are never copied into its heap as bytes.
 */
import { Worker } from "node:worker_threads";
import { deserializeError, type SerializedError } from "../errors.ts";
import type { RunContext } from "./perform.ts";
import type { OnBytes, TaskRunner } from "./runner.ts";
import type { ItemResult, Task } from "./tasks.ts";

/** What a worker says. */
export type WorkerMessage =
  | { readonly kind: "bytes"; readonly bytes: number }
  | { readonly kind: "done"; readonly results: ItemResult[] }
  | { readonly kind: "failed"; readonly error: SerializedError };

interface Waiting {
  readonly task: Task;
  readonly resolve: (results: ItemResult[]) => void;
  readonly reject: (error: Error) => void;
}

export class ThreadRunner implements TaskRunner {
  readonly width: number;
  private readonly onBytes: OnBytes;
  private readonly workers: Worker[] = [];
  private readonly idle: Worker[] = [];
  private readonly working: Map<Worker, Waiting> = new Map();
  private readonly queue: Waiting[] = [];
  private failure: Error | undefined;

  constructor(jobs: number, context: RunContext, onBytes: OnBytes) {
    this.onBytes = onBytes;
    // One more than there are workers, so that none waits while the engine takes a result.
    this.width = jobs + 1;
    for (let i = 0; i < jobs; i++) {
      const worker = new Worker(workerEntry(), { workerData: context });
      worker.on("message", (message: WorkerMessage) => this.take(worker, message));
      worker.on("error", (error) =>
        this.fail(error instanceof Error ? error : new Error(String(error))),
      );
      worker.on("exit", (code) => {
        if (code !== 0) this.fail(new Error(`a worker thread ended with code ${code}`));
      });
      this.workers.push(worker);
      this.idle.push(worker);
    }
  }

  run(task: Task): Promise<ItemResult[]> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) return reject(this.failure);
      this.queue.push({ task, resolve, reject });
      this.dispatch();
    });
  }

  async close(): Promise<void> {
    for (const worker of this.workers) worker.removeAllListeners("exit");
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      const worker = this.idle.pop();
      if (worker === undefined) return;
      const waiting = this.queue.shift();
      if (waiting === undefined) return;
      this.working.set(worker, waiting);
      worker.postMessage(waiting.task);
    }
  }

  private take(worker: Worker, message: WorkerMessage): void {
    if (message.kind === "bytes") return this.onBytes(message.bytes);
    const waiting = this.working.get(worker);
    this.working.delete(worker);
    this.idle.push(worker);
    if (message.kind === "done") waiting?.resolve(message.results);
    else waiting?.reject(deserializeError(message.error));
    this.dispatch();
  }

  /** A worker that died takes its task with it; the run cannot go on. */
  private fail(error: Error): void {
    this.failure ??= error;
    for (const waiting of [...this.working.values(), ...this.queue.splice(0)])
      waiting.reject(error);
    this.working.clear();
  }
}

/** A worker's entry is no import that the compiler rewrites: it ends as this file does. */
function workerEntry(): URL {
  return new URL(
    import.meta.url.endsWith(".ts") ? "./page-worker.ts" : "./page-worker.js",
    import.meta.url,
  );
}
