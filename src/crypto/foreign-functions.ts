/**
 * Functions of C libraries that are in the process already, called through koffi, an optional dependency: whoever uses it
 * has another way for where it is missing.
 */
import { createRequire } from "node:module";

/** As much of koffi as is used. */
export interface ForeignFunctions {
  /** @param path - null is the running program. */
  load(path: null): {
    /** @throws where there is no such symbol. */
    func(prototype: string): unknown;
  };
}

/** The same, with errno of the last call. */
export interface ForeignCalls extends ForeignFunctions {
  errno(): number;
}

/**
 * Not before it is needed: it takes longer to load than a small cluster to check.
 * @throws where it is not installed, or does not load.
 */
export function loadKoffi(): ForeignCalls {
  return createRequire(import.meta.url)("koffi") as ForeignCalls;
}
