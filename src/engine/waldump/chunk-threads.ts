/**
 * Chunks of WAL read by worker threads. A thread takes some tens of milliseconds to start, so there are none for
 * less WAL than one thread reads in that time.
 */
import { Worker } from "node:worker_threads";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { deserializeError, type SerializedError } from "../../errors.ts";
import type { ChunkContext, ChunkResult, ChunkTask } from "./chunk.ts";
import type { Location } from "./locate.ts";
import type { ChunkRunner } from "./print-chunks.ts";
import type { WalKeys } from "./wal-files.ts";
import { WaldumpError, type WaldumpErrorDetails } from "./waldump-error.ts";

/** What a thread is started with. */
export interface ThreadContext {
  readonly context: ChunkContext;
  readonly location: Location;
}

/** What was thrown, as plain data. */
export type ThrownData =
  | { readonly kind: "waldump"; readonly message: string; readonly details: WaldumpErrorDetails }
  | { readonly kind: "other"; readonly error: SerializedError };

export type ThreadResult = Omit<ChunkResult, "error"> & { readonly error: ThrownData | undefined };

/** What a thread says: that it met an encrypted file and has no keys yet, or what came of its oldest task. */
export type FromThread = "needs-keys" | ThreadResult;
/** What it is told. */
export type ToThread = { readonly task: ChunkTask } | { readonly keys: DataKeys | undefined };

export type StartThreads = (
  count: number,
  context: ThreadContext,
  keys: WalKeys,
) => Promise<ChunkRunner>;

/** Chunks that one thread has: it begins the next one while the text of the one before is written. */
const CHUNKS_PER_THREAD = 2;

/** Its text, in memory for each chunk under way, is two to four times as long. */
const CHUNK_BYTES = 2 ** 21;

interface Waiting {
  readonly resolve: (result: ChunkResult) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  /** In the order in which the thread has them. */
  readonly waiting: Waiting[];
}

export class ChunkThreads implements ChunkRunner {
  readonly width: number;
  readonly chunkBytes: number = CHUNK_BYTES;
  readonly #threads: readonly Thread[];
  readonly #keys: WalKeys;
  #failure: Error | undefined;

  constructor(count: number, context: ThreadContext, keys: WalKeys) {
    this.#keys = keys;
    this.width = count * CHUNKS_PER_THREAD;
    this.#threads = Array.from({ length: count }, () => this.#start(context));
  }

  run(task: ChunkTask): Promise<ChunkResult> {
    return new Promise((resolve, reject) => {
      const [thread] = this.#threads.toSorted((a, b) => a.waiting.length - b.waiting.length);
      if (thread === undefined || this.#failure !== undefined) return reject(this.#failure);
      thread.waiting.push({ resolve, reject });
      tell(thread.worker, { task }, task.spare === undefined ? [] : [task.spare]);
    });
  }

  /** Ends the threads, whatever they are at. */
  async close(): Promise<void> {
    await Promise.all(
      this.#threads.map(({ worker }) => worker.removeAllListeners("exit").terminate()),
    );
  }

  #start(context: ThreadContext): Thread {
    const worker = new Worker(workerEntry(), { workerData: context });
    const thread: Thread = { worker, waiting: [] };
    worker.on("message", (message: FromThread) => {
      if (message === "needs-keys") {
        void this.#giveKeys(worker);
        return;
      }
      const { error } = message;
      thread.waiting.shift()?.resolve({ ...message, error: error && thrown(error) });
    });
    worker.on("error", (error) =>
      this.#fail(error instanceof Error ? error : new Error(String(error))),
    );
    worker.on("exit", (code) => this.#fail(new Error(`a worker thread ended with code ${code}`)));
    return thread;
  }

  async #giveKeys(worker: Worker): Promise<void> {
    try {
      tell(worker, { keys: await this.#keys() });
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { waiting } of this.#threads) {
      for (const { reject } of waiting.splice(0)) reject(this.#failure);
    }
  }
}

function tell(worker: Worker, message: ToThread, transfer: readonly ArrayBuffer[] = []): void {
  worker.postMessage(message, transfer);
}

function thrown(data: ThrownData): Error {
  if (data.kind === "waldump") return new WaldumpError(data.message, data.details);
  return deserializeError(data.error);
}

/** A worker's entry is no import that the compiler rewrites: it ends as this file does. */
function workerEntry(): URL {
  return new URL(
    import.meta.url.endsWith(".ts") ? "./waldump-worker.ts" : "./waldump-worker.js",
    import.meta.url,
  );
}
