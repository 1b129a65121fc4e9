/**
 * Spreads tasks over worker threads. Each worker has its own buffers and its own view of the real file system;
 * keys reach it as KeyObjects, which are never copied into its heap as bytes.
 */
import type { Worker } from "node:worker_threads";
import { deserializeError, type SerializedError } from "../errors.ts";
import type { RunContext } from "./perform.ts";
import type { OnBytes, TaskRunner } from "./runner.ts";
import type { ItemResult, Task } from "./tasks.ts";
import type { WorkerThreads } from "./worker-threads.ts";

/** What a worker is sent: first what a run has in common, then its tasks. */
export type WorkerRequest =
  | { readonly kind: "run"; readonly context: RunContext }
  | { readonly kind: "task"; readonly id: number; readonly task: Task };

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

interface Entry {
  readonly worker: Worker;
  underWay: number;
}

export class ThreadRunner implements TaskRunner {
  readonly width: number;
  private readonly threads: WorkerThreads;
  private readonly onBytes: OnBytes;
  private readonly workers: readonly Entry[];
  private readonly underWay: Map<number, Waiting> = new Map();
  private readonly queue: Waiting[] = [];
  private nextId = 0;
  private failure: Error | undefined;

  /** @param threads - theirs until close; no other runner can have them meanwhile. */
  constructor(threads: WorkerThreads, context: RunContext, onBytes: OnBytes) {
    this.threads = threads;
    this.onBytes = onBytes;
    this.workers = threads.take().map((worker) => ({ worker, underWay: 0 }));
    // One more than there is room for, so that no worker waits while the engine takes a result.
    this.width = this.workers.length * TASKS_PER_WORKER + 1;
    const request: WorkerRequest = { kind: "run", context };
    for (const entry of this.workers) {
      entry.worker.on("message", (message: WorkerMessage) => this.take(entry, message));
      entry.worker.postMessage(request);
    }
    threads.onFailure((error) => this.fail(error));
  }

  run(task: Task): Promise<ItemResult[]> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) return reject(this.failure);
      this.queue.push({ task, resolve, reject });
      this.dispatch();
    });
  }

  async close(): Promise<void> {
    for (const { worker } of this.workers) worker.removeAllListeners("message");
    // A thread that died, or that is still at something, is no use to a later run.
    const idle = this.failure === undefined && this.underWay.size === 0;
    if (idle) this.threads.giveBack();
    else await this.threads.terminate();
  }

  private dispatch(): void {
    for (;;) {
      const [entry] = this.workers.toSorted((a, b) => a.underWay - b.underWay);
      if (entry === undefined || entry.underWay >= TASKS_PER_WORKER) return;
      const waiting = this.queue.shift();
      if (waiting === undefined) return;
      const id = this.nextId++;
      const request: WorkerRequest = { kind: "task", id, task: waiting.task };
      this.underWay.set(id, waiting);
      entry.underWay++;
      entry.worker.postMessage(request);
    }
  }

  private take(entry: Entry, message: WorkerMessage): void {
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
