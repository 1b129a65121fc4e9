/**
 * Ctrl-C and SIGTERM. An operation that writes gets an AbortSignal and stops after the step in hand, so that what
 * it leaves can be resumed; a second Ctrl-C ends the process at once, which every write is made to survive.
 */
import { ExitCode } from "./exit-codes.ts";

/** The user wants to stop. No TdeError: nothing failed. */
export class Interrupted extends Error {
  constructor() {
    super("interrupted");
    this.name = "Interrupted";
  }
}

/** From here on the first signal aborts, with an Interrupted as its reason. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(ExitCode.interrupted);
    process.stderr.write("tde: stopping after the step in hand; interrupt again to stop at once\n");
    controller.abort(new Interrupted());
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return controller.signal;
}
