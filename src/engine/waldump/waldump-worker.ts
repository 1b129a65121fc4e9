/**
 * The entry of a worker thread that reads chunks of WAL, one after the other.
 */
import { parentPort, workerData } from "node:worker_threads";
import { serializeError } from "../../errors.ts";
import { NodeFileSystem } from "../../storage/node-file-system.ts";
import { ChunkPrinter, type ChunkTask } from "./chunk.ts";
import type { ThreadContext, ThreadResult, ThrownData } from "./chunk-threads.ts";
import { DirectorySource } from "./source.ts";
import { WaldumpError } from "./waldump-error.ts";

const port = parentPort;
if (port === null) throw new Error("waldump-worker runs as a worker thread only");

const { context, location } = workerData as ThreadContext;
const source = new DirectorySource(new NodeFileSystem(), location, false);
const printer = new ChunkPrinter(context, source);

/** One at a time: they share the printer. */
let last: Promise<void> = Promise.resolve();
port.on("message", (task: ChunkTask) => {
  last = last.then(async () => {
    const { error, ...result } = await printer.print(task);
    const message: ThreadResult = { ...result, error: error === undefined ? error : data(error) };
    port.postMessage(message, [result.text.buffer as ArrayBuffer]);
  });
});

function data(error: unknown): ThrownData {
  if (!(error instanceof WaldumpError)) return { kind: "other", error: serializeError(error) };
  const { message, detail, tryHelp } = error;
  return { kind: "waldump", message, details: { detail, tryHelp } };
}
