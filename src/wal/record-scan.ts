/**
 * The memory that WAL is read into, and the inner loop over its records in WebAssembly: CRCs, and the counting of
 * whole runs of records. The module works on this memory, which files are read straight into: nothing is copied.
 * Source of the module: record-scan.as.ts.
 */
import { readFileSync } from "node:fs";
import { crc32c } from "../postgres/crc32c.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "./record-header.ts";
import { TALLIES_LENGTH } from "./statistics.ts";
import type { WalFormat } from "./wal-format.ts";

// The part of the WebAssembly interface that is used here: the types of Node 20 leave it out.
interface WasmMemory {
  readonly buffer: ArrayBuffer;
}
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => WasmMemory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { env: { memory: WasmMemory } }) => { exports: unknown };
};

interface Exports {
  prepare(rmgrCount: number, customRmgrs: number, hole: number, compressed: number): void;
  recordCrc(record: number, totalLength: number): number;
  tally(
    record: number,
    end: number,
    lsnLow: number,
    lsnHigh: number,
    prevLow: number,
    prevHigh: number,
    tallies: number,
  ): number;
  last(): number;
}

const WASM_PAGE_BYTES = 65536;
export const WINDOW_BYTES: number = 2 ** 18;
const SCRATCH_BYTES = 2 ** 16;
/** Multiples of 8 all of them; the tables of the CRC come first (crc32c.as.ts). */
const TALLIES_OFFSET = 2 ** 14;
/** Behind 4096 tallies of 24 bytes. */
const WINDOW_OFFSET = 2 ** 17;
const SCRATCH_OFFSET = WINDOW_OFFSET + WINDOW_BYTES;
const MEMORY_BYTES = SCRATCH_OFFSET + SCRATCH_BYTES;

let compiled: object | undefined;

export class RecordScan {
  /** Pages of a segment. */
  readonly window: Buffer;
  /** For a record that crosses pages. */
  readonly scratch: Buffer;
  /** What `tally` counts in, for Statistics. */
  readonly tallies: Float64Array;
  readonly #memory: ArrayBuffer;
  readonly #module: Exports;

  constructor({ builtinRmgrCount, customRmgrs, image }: WalFormat) {
    const pages = Math.ceil(MEMORY_BYTES / WASM_PAGE_BYTES);
    // Fixed size: growing would detach the buffers that are shown.
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    compiled ??= new WebAssembly.Module(readFileSync(moduleUrl()));
    this.#module = new WebAssembly.Instance(compiled, { env: { memory } }).exports as Exports;
    this.#memory = memory.buffer;
    this.window = Buffer.from(memory.buffer, WINDOW_OFFSET, WINDOW_BYTES);
    this.scratch = Buffer.from(memory.buffer, SCRATCH_OFFSET, SCRATCH_BYTES);
    this.tallies = new Float64Array(memory.buffer, TALLIES_OFFSET, TALLIES_LENGTH);
    this.#module.prepare(
      builtinRmgrCount,
      customRmgrs ? 1 : 0,
      image.hasHole,
      image.pglz | image.lz4 | image.zstd,
    );
  }

  /**
   * What a record's CRC has to be.
   * @param bytes - `window`, `scratch`, or any other; the record begins at `start` and is there as a whole.
   */
  recordCrc(bytes: Buffer, start: number, totalLength: number): number {
    if (bytes.buffer === this.#memory) {
      return this.#module.recordCrc(bytes.byteOffset + start, totalLength) >>> 0;
    }
    const data = crc32c(bytes, start + RECORD_HEADER_BYTES, start + totalLength);
    return crc32c(bytes, start, start + RECORD_HEADER.crc, data);
  }

  /**
   * Counts records of a page in the window, from `start` on, in `tallies`: those that are whole before `end` and
   * without fault. The count stops before any other, and before the end of a segment that was switched.
   * @param lsnHigh - with lsnLow: of `start`. prevHigh and prevLow: of the record before.
   * @returns where the first one begins that was not counted; `start` where none was.
   */
  tally(
    start: number,
    end: number,
    lsnHigh: number,
    lsnLow: number,
    prevHigh: number,
    prevLow: number,
  ): number {
    const next = this.#module.tally(
      WINDOW_OFFSET + start,
      WINDOW_OFFSET + end,
      lsnLow,
      lsnHigh,
      prevLow,
      prevHigh,
      TALLIES_OFFSET,
    );
    return next - WINDOW_OFFSET;
  }

  /** Where the record is that `tally` counted last, if it counted one. */
  lastTallied(): number {
    return this.#module.last() - WINDOW_OFFSET;
  }
}

/** Beside this file when it runs compiled; in dist/ when Node runs the source itself. */
function moduleUrl(): URL {
  const here = import.meta.url.endsWith(".ts") ? "../../dist/src/wal/" : "./";
  return new URL(`${here}record-scan.wasm`, import.meta.url);
}
