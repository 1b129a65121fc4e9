/**
 * The entry of a worker thread that reads chunks of WAL, one after the other.
 */
import { parentPort, workerData } from "node:worker_threads";
import { serializeError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { NodeFileSystem } from "../../storage/node-file-system.ts";
import { ChunkPrinter } from "./chunk.ts";
import type { FromThread, ThreadContext, ThrownData, ToThread } from "./chunk-threads.ts";
import { DirectorySource } from "./source.ts";
import { WaldumpError } from "./waldump-error.ts";

const port = parentPort;
if (port === null) throw new Error("waldump-worker runs as a worker thread only");
const say = (message: FromThread, transfer: readonly ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer);

/** Asked for once; where they cannot be had, the main thread ends the run. */
let keys: Promise<DataKeys | undefined> | undefined;
let takeKeys: (keys: DataKeys | undefined) => void = () => {};
const keysFromMain = (): Promise<DataKeys | undefined> => {
  keys ??= new Promise((resolve) => {
    takeKeys = resolve;
    say("needs-keys");
  });
  return keys;
};

const { context, location } = workerData as ThreadContext;
const source = new DirectorySource(new NodeFileSystem(), location, false, keysFromMain);
const printer = new ChunkPrinter(context, source);

/** One at a time: they share the printer. */
let last: Promise<void> = Promise.resolve();
port.on("message", (message: ToThread) => {
  if ("keys" in message) {
    takeKeys(message.keys);
    return;
  }
  last = last.then(async () => {
    const { error, ...result } = await printer.print(message.task);
    say({ ...result, error: error === undefined ? error : data(error) }, [
      result.text.buffer as ArrayBuffer,
    ]);
  });
});

function data(error: unknown): ThrownData {
  if (!(error instanceof WaldumpError)) return { kind: "other", error: serializeError(error) };
  const { message, detail, tryHelp } = error;
  return { kind: "waldump", message, details: { detail, tryHelp } };
}
