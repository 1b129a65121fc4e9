/**
 * Spreads tasks over worker threads. Each worker has its own buffers and its own view of the real file system;
 * keys reach it as KeyObjects, which are never copied into its heap as bytes.
 */
import { Worker } from "node:worker_threads";
import { deserializeError, type SerializedError } from "../errors.ts";
import type { RunContext } from "./perform.ts";
import type { OnBytes, TaskRunner } from "./runner.ts";
import type { ItemResult, Task } from "./tasks.ts";

/** What a worker is sent. */
export interface WorkerRequest {
  readonly id: number;
  readonly task: Task;
}

/** What a worker says. */
export type WorkerMessage =
  | { readonly kind: "bytes"; readonly bytes: number }
  | { readonly kind: "done"; readonly id: number; readonly results: ItemResult[] }
  | { readonly kind: "failed"; readonly id: number; readonly error: SerializedError };

/** Tasks that one worker has under way: it works on the pages of one while the files of another are synced. */
const TASKS_PER_WORKER = 2;

interface Waiting {
  readonly task: Task;
  readonly resolve: (results: ItemResult[]) => void;
  readonly reject: (error: Error) => void;
}

export class ThreadRunner implements TaskRunner {
  readonly width: number;
  private readonly onBytes: OnBytes;
  private readonly workers: { readonly worker: Worker; underWay: number }[] = [];
  private readonly underWay: Map<number, Waiting> = new Map();
  private readonly queue: Waiting[] = [];
  private nextId = 0;
  private failure: Error | undefined;

  constructor(jobs: number, context: RunContext, onBytes: OnBytes) {
    this.onBytes = onBytes;
    // One more than there is room for, so that no worker waits while the engine takes a result.
    this.width = jobs * TASKS_PER_WORKER + 1;
    for (let i = 0; i < jobs; i++) {
      const worker = new Worker(workerEntry(), { workerData: context });
      const entry = { worker, underWay: 0 };
      worker.on("message", (message: WorkerMessage) => this.take(entry, message));
      worker.on("error", (error) =>
        this.fail(error instanceof Error ? error : new Error(String(error))),
      );
      worker.on("exit", (code) => {
        if (code !== 0) this.fail(new Error(`a worker thread ended with code ${code}`));
      });
      this.workers.push(entry);
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
    for (const { worker } of this.workers) worker.removeAllListeners("exit");
    await Promise.all(this.workers.map(({ worker }) => worker.terminate()));
  }

  private dispatch(): void {
    for (;;) {
      const [entry] = this.workers.toSorted((a, b) => a.underWay - b.underWay);
      if (entry === undefined || entry.underWay >= TASKS_PER_WORKER) return;
      const waiting = this.queue.shift();
      if (waiting === undefined) return;
      const request: WorkerRequest = { id: this.nextId++, task: waiting.task };
      this.underWay.set(request.id, waiting);
      entry.underWay++;
      entry.worker.postMessage(request);
    }
  }

  private take(entry: { underWay: number }, message: WorkerMessage): void {
    if (message.kind === "bytes") return this.onBytes(message.bytes);
    const waiting = this.underWay.get(message.id);
    this.underWay.delete(message.id);
    entry.underWay--;
    if (message.kind === "done") waiting?.resolve(message.results);
    else waiting?.reject(deserializeError(message.error));
    this.dispatch();
  }

  /** A worker that died takes its tasks with it; the run cannot go on. */
  private fail(error: Error): void {
    this.failure ??= error;
    for (const waiting of [...this.underWay.values(), ...this.queue.splice(0)]) {
      waiting.reject(error);
    }
    this.underWay.clear();
  }
}

/** A worker's entry is no import that the compiler rewrites: it ends as this file does. */
function workerEntry(): URL {
  return new URL(
    import.meta.url.endsWith(".ts") ? "./page-worker.ts" : "./page-worker.js",
    import.meta.url,
  );
}
