/**
 * What of the C library node:fs has no call for, on Linux and through koffi: times to the nanosecond. Where it cannot be had
 * node-file-system.ts does with less, and says so.
 */
import { loadKoffi } from "../crypto/foreign-functions.ts";

export interface Libc {
  /** @returns false where the system refused. */
  setTimes(descriptor: number, accessTimeNs: bigint, modifyTimeNs: bigint): boolean;
}

const NS_PER_SECOND = 1_000_000_000n;
/** Two struct timespec, each two longs of 64 bits. */
const TIMES_BYTES = 32;

let found: { readonly libc: Libc | undefined } | undefined;

/** Loads it with the first call. Undefined where there is no koffi, or another system. */
export function findLibc(): Libc | undefined {
  found ??= { libc: tryLibc() };
  return found.libc;
}

function tryLibc(): Libc | undefined {
  const isKnown = process.platform === "linux" && ["x64", "arm64"].includes(process.arch);
  if (!isKnown) return undefined;
  try {
    return bind();
  } catch {
    return undefined;
  }
}

function bind(): Libc {
  const program = loadKoffi().load(null);
  const futimens = program.func("int futimens(int descriptor, void *times)") as (
    descriptor: number,
    times: Buffer,
  ) => number;
  return {
    setTimes(descriptor, accessTimeNs, modifyTimeNs): boolean {
      const times = Buffer.alloc(TIMES_BYTES);
      for (const [i, time] of [accessTimeNs, modifyTimeNs].entries()) {
        // Before 1970 the seconds are rounded down, too.
        const ns = ((time % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
        times.writeBigInt64LE((time - ns) / NS_PER_SECOND, 16 * i);
        times.writeBigInt64LE(ns, 16 * i + 8);
      }
      return futimens(descriptor, times) === 0;
    },
  };
}
