/**
 * The entry of a worker thread: carries out one task after another, and reports bytes done now and then.
 */
import assert from "node:assert/strict";
import { parentPort } from "node:worker_threads";
import { serializeError } from "../errors.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { TaskPerformer } from "./perform.ts";
import type { WorkerMessage, WorkerRequest } from "./thread-runner.ts";

/** A message for each chunk would cost more than it tells. */
const REPORT_BYTES = 2 ** 24;

const port = parentPort;
if (port === null) throw new Error("page-worker runs as a worker thread only");
const post = (message: WorkerMessage): void => port.postMessage(message);

let unreported = 0;
let performer: TaskPerformer | undefined;

port.on("message", (request: WorkerRequest) => {
  if (request.kind === "run") {
    performer = new TaskPerformer(new NodeFileSystem(), request.context, (bytes) => {
      unreported += bytes;
      if (unreported >= REPORT_BYTES) reportBytes();
    });
    return;
  }
  const { id, task } = request;
  assert(performer !== undefined, "a run comes before its tasks");
  performer
    .perform(task)
    .then(
      (results): WorkerMessage => ({ kind: "done", id, results }),
      (error: unknown): WorkerMessage => ({ kind: "failed", id, error: serializeError(error) }),
    )
    .then((message) => {
      reportBytes();
      post(message);
    })
    .catch((error: unknown) => {
      throw error;
    });
});

function reportBytes(): void {
  if (unreported > 0) post({ kind: "bytes", bytes: unreported });
  unreported = 0;
}
