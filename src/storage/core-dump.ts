/**
 * Keeps the memory of this process, in which keys and plaintext are, out of core dumps. Node cannot set the limit of their
 * size (setrlimit) or forbid them (prctl); but Linux lets a process say which kinds of memory belong into a core, and none
 * is an answer. What is left of a core then is its header and the registers. core(5), "Controlling which mappings are written
 * to the core dump".
 */
import { writeFileSync } from "node:fs";

const FILTER = "/proc/self/coredump_filter";

/** Of this process and all that it starts; does nothing where the system has no such thing. */
export function keepMemoryOutOfCores(): void {
  try {
    writeFileSync(FILTER, "0");
  } catch {
    // Another system, or no /proc: docs/SECURITY.md says what helps everywhere.
  }
}
