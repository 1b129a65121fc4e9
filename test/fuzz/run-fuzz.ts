/**
 * Runs the fuzzing in a process of its own, with a small heap, and ends it when a round takes too long.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RecordCounts } from "./fuzz-records.ts";

export interface FuzzOrder {
  /** Of the first round; each further round has the next one. */
  readonly seed: number;
  /** Damaged records after which no further round begins. */
  readonly records: number;
  /** Time after which no further round begins. */
  readonly seconds: number;
  /** Damaged files that each round gives to the command line. */
  readonly filesPerRound: number;
  /** Exists and is empty. What the process makes in it, it removes. */
  readonly folder: string;
}

/** What the process says before and after each round. */
export interface FuzzReport {
  readonly seed: number;
  readonly counts?: RecordCounts;
  readonly files?: number;
  readonly memoryKb?: number;
}

export interface FuzzResult extends RecordCounts {
  rounds: number;
  files: number;
  /** The largest that the process became. */
  memoryKb: number;
  /** What went wrong, with the seed of its round; undefined where nothing did. */
  problem?: string;
}

/** Much less than Node takes by itself: what grows with the WAL does not fit. */
const HEAP_MB = 96;
/** A round takes less than a second. */
const ROUND_TIMEOUT_MS = 60_000;
const PROGRAM = fileURLToPath(
  new URL(import.meta.url.endsWith(".js") ? "fuzz-process.js" : "fuzz-process.ts", import.meta.url),
);

/** @param onRound - called after each round with what there is so far. */
export async function runFuzz(
  order: FuzzOrder,
  onRound: (result: FuzzResult) => void = () => undefined,
): Promise<FuzzResult> {
  const result: FuzzResult = {
    rounds: 0,
    mutated: 0,
    described: 0,
    refused: 0,
    files: 0,
    memoryKb: 0,
  };
  const child = fork(PROGRAM, [JSON.stringify(order)], {
    execArgv: [`--max-old-space-size=${HEAP_MB}`],
    env: { ...process.env, TZ: "UTC" },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let seed = order.seed;
  let hangs = false;
  /** The end of what it wrote: messages about damaged WAL, and at last the stack of a crash. */
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-4000);
  });
  const watch = (): NodeJS.Timeout =>
    setTimeout(() => {
      hangs = true;
      child.kill("SIGKILL");
    }, ROUND_TIMEOUT_MS);
  let watchdog = watch();
  child.on("message", (message: FuzzReport) => {
    clearTimeout(watchdog);
    watchdog = watch();
    ({ seed } = message);
    if (message.counts === undefined) return;
    result.rounds++;
    result.mutated += message.counts.mutated;
    result.described += message.counts.described;
    result.refused += message.counts.refused;
    result.files += message.files ?? 0;
    result.memoryKb = message.memoryKb ?? 0;
    onRound(result);
  });
  const [status, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(watchdog);
  if (hangs) result.problem = `seed ${seed}: no end within ${ROUND_TIMEOUT_MS / 1000} s`;
  else if (status !== 0) result.problem = `seed ${seed}: ended with ${signal ?? status}: ${said}`;
  return result;
}
