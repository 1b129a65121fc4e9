/**
 * The worker threads of a process, started before there is work for them: a thread takes longer to load its code than
 * a small cluster takes to check, and meanwhile the main thread opens keyring and manifest. One run after another has
 * them.
 */
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";

/**
 * What a worker makes is dead at once: most of it buffers of one page. With more room than this Node only lets more
 * of it lie about.
 */
const YOUNG_GENERATION_MIB = 8;

/**
 * With it a worker gives the memory of a page back as soon as it is done with it. Node 20 has it behind this flag, for
 * threads that start afterwards; later ones have it anyway.
 */
const HAS_TRANSFER = "transfer" in ArrayBuffer.prototype;
if (!HAS_TRANSFER) setFlagsFromString("--harmony-rab-gsab-transfer");

export class WorkerThreads {
  private readonly count: number;
  private threads: readonly Worker[] = [];
  private taken = false;
  private failure: Error | undefined;
  private tell: (error: Error) => void = () => {};

  constructor(count: number) {
    this.count = count;
    this.start();
  }

  /** Hands the threads to one run. While it has them the process does not end by itself. */
  take(): readonly Worker[] {
    if (this.taken) throw new Error("another run has the worker threads");
    if (this.threads.length === 0) this.start();
    this.taken = true;
    for (const thread of this.threads) thread.ref();
    return this.threads;
  }

  /** Calls back when a thread has ended by itself or does so later. */
  onFailure(tell: (error: Error) => void): void {
    this.tell = tell;
    if (this.failure !== undefined) tell(this.failure);
  }

  /** Takes the threads back, idle. */
  giveBack(): void {
    for (const thread of this.threads) thread.unref();
    this.tell = () => {};
    this.taken = false;
  }

  /** Ends them, whatever they are at. */
  async terminate(): Promise<void> {
    const { threads } = this;
    this.threads = [];
    this.giveBack();
    this.failure = undefined;
    await Promise.all(threads.map((thread) => thread.removeAllListeners("exit").terminate()));
  }

  private start(): void {
    this.threads = Array.from({ length: this.count }, () => {
      const thread = new Worker(workerEntry(), {
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
      });
      thread.on("error", (error) =>
        this.fail(error instanceof Error ? error : new Error(String(error))),
      );
      thread.on("exit", (code) => this.fail(new Error(`a worker thread ended with code ${code}`)));
      thread.unref();
      return thread;
    });
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.tell(error);
  }
}

/** A worker's entry is no import that the compiler rewrites: it ends as this file does. */
function workerEntry(): URL {
  return new URL(
    import.meta.url.endsWith(".ts") ? "./page-worker.ts" : "./page-worker.js",
    import.meta.url,
  );
}
