/**
 * koffi as the program loads it, and with one function of libcrypto in place of another: what a library does that is
 * broken, or that some other program has brought along.
 */
import { createRequire } from "node:module";
import type { ForeignFunctions } from "../../src/crypto/foreign-functions.ts";

export type ForeignFunction = (...args: unknown[]) => unknown;

export const koffi = createRequire(import.meta.url)("koffi") as ForeignFunctions;

/**
 * @param change - given a function's name and itself, returns what stands in for it; may throw, as koffi does for a
 *   function that is missing.
 */
export function koffiWith(
  change: (name: string, real: ForeignFunction) => ForeignFunction,
): ForeignFunctions {
  return {
    load(path) {
      const library = koffi.load(path);
      return {
        func(prototype) {
          const name = /(\w+)\(/.exec(prototype)?.[1] ?? "";
          return change(name, library.func(prototype) as ForeignFunction);
        },
      };
    },
  };
}
