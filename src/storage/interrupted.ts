/**
 * Calls that a signal interrupted (EINTR): nothing is wrong and nothing was done, so they are made again.
 *
 * Without a limit. The system interrupts a call as often as signals come, and what ends a loop of interrupts is that
 * they cease; a limit would only turn a busy timer or a stopped and continued process into a failed run. A user's own
 * interrupt is no way out of the loop either: it is heeded between two steps.
 *
 * Never for close: after EINTR Linux has released the descriptor, and a second close could hit a file that another
 * thread has opened since. Nor for calls that POSIX does not let be interrupted, such as rename and unlink: where a
 * network file system does it all the same, the first attempt may have happened, and recovery looks what is there.
 */

/** Makes a call until no signal interrupts it. */
export function uninterrupted<T>(call: () => T): T {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (!wasInterrupted(error)) throw error;
    }
  }
}

/** Whether an error of the system is EINTR. */
export function wasInterrupted(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EINTR";
}
