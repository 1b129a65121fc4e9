/**
 * What of the C library node:fs has no call for, on Linux and through koffi: times to the nanosecond, and extended attributes.
 * Where it cannot be had node-file-system.ts does with less, and says so.
 */
import { loadKoffi } from "../crypto/foreign-functions.ts";

export interface Libc {
  /** @returns false where the system refused. */
  setTimes(descriptor: number, accessTimeNs: bigint, modifyTimeNs: bigint): boolean;
  /** Names of extended attributes; none on a file system that has no such thing. Undefined where the system refused. */
  listAttributes(descriptor: number): string[] | undefined;
  /** Undefined where there is none of that name, or the system refused. */
  getAttribute(descriptor: number, name: string): Buffer | undefined;
  /** @returns false where the system refused. */
  setAttribute(descriptor: number, name: string, value: Buffer): boolean;
  removeAttribute(descriptor: number, name: string): boolean;
}

/** What the kernel allows for all names of a file, and for one value. */
const ATTRIBUTES_LIMIT_BYTES = 65536;
/** Of Linux on x86-64 and arm64. */
const ENOTSUP = 95;

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

type Call<Args extends unknown[]> = (descriptor: number, ...args: Args) => number;

function bind(): Libc {
  const koffi = loadKoffi();
  const program = koffi.load(null);
  const futimens = program.func("int futimens(int descriptor, void *times)") as Call<[Buffer]>;
  const list = program.func(
    "int64_t flistxattr(int descriptor, void *list, uint64_t size)",
  ) as Call<[Buffer, number]>;
  const get = program.func(
    "int64_t fgetxattr(int descriptor, void *name, void *value, uint64_t size)",
  ) as Call<[Buffer, Buffer, number]>;
  const set = program.func(
    "int fsetxattr(int descriptor, void *name, void *value, uint64_t size, int flags)",
  ) as Call<[Buffer, Buffer, number, number]>;
  const remove = program.func("int fremovexattr(int descriptor, void *name)") as Call<[Buffer]>;
  const buffer = Buffer.alloc(ATTRIBUTES_LIMIT_BYTES);
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
    listAttributes(descriptor): string[] | undefined {
      const count = list(descriptor, buffer, buffer.length);
      if (count < 0) return koffi.errno() === ENOTSUP ? [] : undefined;
      const names = buffer.toString("latin1", 0, count).split("\0");
      return names.filter((name) => name !== "");
    },
    getAttribute(descriptor, name): Buffer | undefined {
      const count = get(descriptor, terminated(name), buffer, buffer.length);
      return count < 0 ? undefined : Buffer.from(buffer.subarray(0, count));
    },
    setAttribute: (descriptor, name, value) =>
      set(descriptor, terminated(name), value, value.length, 0) === 0,
    removeAttribute: (descriptor, name) => remove(descriptor, terminated(name)) === 0,
  };
}

/** A name as C has it; one character is one byte. */
function terminated(name: string): Buffer {
  return Buffer.from(`${name}\0`, "latin1");
}
