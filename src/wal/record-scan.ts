/**
 * The memory that WAL is read into, and the inner loops over its records in WebAssembly, which work on this memory:
 * nothing is copied. This class has the CRCs; those that take whole runs of records are below it. Source of the
 * module: record-scan.as.ts.
 */
import { instantiateWasm } from "../bytes/wasm-module.ts";
import { crc32c } from "../postgres/crc32c.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "./record-header.ts";
import type { WalFormat } from "./wal-format.ts";

export interface RecordScanModule {
  prepare(rmgrCount: number, customRmgrs: number, hole: number, compressed: number): void;
  recordCrc(record: number, totalLength: number): number;
  recordCrcs(records: number, count: number, origin: number, window: number, headers: number): void;
  tally(
    record: number,
    end: number,
    lsnLow: number,
    lsnHigh: number,
    prevLow: number,
    prevHigh: number,
    tallies: number,
  ): number;
  lastTallied(): number;
  prepareParts(rows: number, records: number, secrets: number): void;
  parts(
    record: number,
    end: number,
    lsnLow: number,
    lsnHigh: number,
    prevLow: number,
    prevHigh: number,
    origin: number,
  ): number;
  storedParts(record: number, end: number, origin: number): number;
  partRecordCount(): number;
  partSecretCount(): number;
  lastOfParts(): number;
}

export const WINDOW_BYTES: number = 2 ** 18;
const SCRATCH_BYTES = 2 ** 16;
/** Multiples of 8 all of them. The tables of the CRC come first (crc32c.as.ts), then what a subclass needs. */
export const RESULTS_OFFSET: number = 2 ** 14;
export const WINDOW_OFFSET: number = 2 ** 17;
const SCRATCH_OFFSET = WINDOW_OFFSET + WINDOW_BYTES;
const MEMORY_BYTES = SCRATCH_OFFSET + SCRATCH_BYTES;

/** Takes no runs: every record is shown by itself. */
export class RecordScan {
  /** Pages of a segment. */
  readonly window: Buffer;
  /** For a record that crosses pages. */
  readonly scratch: Buffer;
  protected readonly memory: ArrayBuffer;
  protected readonly module: RecordScanModule;

  constructor({ builtinRmgrCount, customRmgrs, image }: WalFormat) {
    const { exports, memory } = instantiateWasm<RecordScanModule>(
      import.meta.url,
      "record-scan",
      MEMORY_BYTES,
    );
    this.module = exports;
    this.memory = memory;
    this.window = Buffer.from(memory, WINDOW_OFFSET, WINDOW_BYTES);
    this.scratch = Buffer.from(memory, SCRATCH_OFFSET, SCRATCH_BYTES);
    this.module.prepare(
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
    if (bytes.buffer === this.memory) {
      return this.module.recordCrc(bytes.byteOffset + start, totalLength) >>> 0;
    }
    const data = crc32c(bytes, start + RECORD_HEADER_BYTES, start + totalLength);
    return crc32c(bytes, start, start + RECORD_HEADER.crc, data);
  }

  /**
   * Takes records of a page in the window, from `start` on: those that are whole before `end` and without fault. It
   * stops before any other, and before the end of a segment that was switched.
   * @param _lsnHigh - with lsnLow: of `start`. prevHigh and prevLow: of the record before.
   * @returns where the first one begins that was not taken; `start` where none was.
   */
  takeRun(
    start: number,
    _end: number,
    _lsnHigh: number,
    _lsnLow: number,
    _prevHigh: number,
    _prevLow: number,
  ): number {
    return start;
  }

  /** Where the record is that `takeRun` took last, if it took one. */
  lastTaken(): number {
    return 0;
  }
}
