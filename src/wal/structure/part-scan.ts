/**
 * Takes whole runs of records apart in WebAssembly, and computes the CRCs of many at once. Source of the module:
 * record-parts.as.ts and record-crcs.as.ts; the plain version that it must agree with: readable-parts.ts.
 */
import type { Major } from "../../postgres/version.ts";
import { WAL_PAGE_BYTES } from "../page-header.ts";
import { RecordScan, RESULTS_OFFSET, WINDOW_BYTES, WINDOW_OFFSET } from "../record-scan.ts";
import type { WalFormat } from "../wal-format.ts";
import { rowOf } from "./readable-parts.ts";
import type { CompiledRule } from "./rows.ts";

/** A row of the table, u32 all: how many ranges of main data and of block 0's, then four of each. */
const ROW = { mainCount: 0, blockCount: 1, main: 2, block: 10, words: 18 } as const;
const MOST_RANGES = 4;
/** In place of a number of ranges: readable-parts.ts has to look at the record. */
const HAS_RULE = 255;
const RMGRS_WITH_ROWS = 32;
const INFO_VALUES = 16;
const NO_END = 0xffffffff;

const ROWS_LENGTH = RMGRS_WITH_ROWS * INFO_VALUES * ROW.words;
/** What one call can be asked: more records than there are on a page. */
export const MOST_RECORDS = 4096;
const RECORDS_OFFSET = RESULTS_OFFSET + 4 * ROWS_LENGTH;
const SECRETS_OFFSET = RECORDS_OFFSET + 4 * MOST_RECORDS;
/** No two secrets of a page touch, so that there are no more than half as many of them as bytes. */
const SECRETS_LENGTH = WAL_PAGE_BYTES;
const WINDOW_PAGES = WINDOW_BYTES / WAL_PAGE_BYTES;
const NOTHING = new Int32Array(0);
const HEADERS_OFFSET = SECRETS_OFFSET + 4 * SECRETS_LENGTH;

const scans = new Map<WalFormat, PartScan>();

/** The scan of this thread for a major. No two readers at a time. */
export function partScanOf(format: WalFormat): PartScan {
  let scan = scans.get(format);
  if (scan === undefined) {
    scan = new PartScan(format);
    scans.set(format, scan);
  }
  return scan;
}

/** The records and secrets of one page that were taken apart last, in offsets of the page: valid until the next run. */
export class PartScan extends RecordScan {
  /** Where records begin. */
  records: Int32Array = NOTHING;
  /** Start and end of each secret, rising, the padding behind a record included. */
  secrets: Int32Array = NOTHING;
  readonly #records: Int32Array = new Int32Array(this.memory, RECORDS_OFFSET, MOST_RECORDS);
  readonly #secrets: Int32Array = new Int32Array(this.memory, SECRETS_OFFSET, SECRETS_LENGTH);
  readonly #headers: Uint8Array = new Uint8Array(this.memory, HEADERS_OFFSET, WINDOW_PAGES);

  constructor(format: WalFormat) {
    super(format);
    writeRows(new Uint32Array(this.memory, RESULTS_OFFSET, ROWS_LENGTH), format.major);
    this.module.prepareParts(RESULTS_OFFSET, RECORDS_OFFSET, SECRETS_OFFSET);
  }

  override takeRun(
    start: number,
    end: number,
    lsnHigh: number,
    lsnLow: number,
    prevHigh: number,
    prevLow: number,
  ): number {
    const at = WINDOW_OFFSET + start;
    const origin = at - (at % WAL_PAGE_BYTES);
    const next = this.module.parts(
      at,
      WINDOW_OFFSET + end,
      lsnLow,
      lsnHigh,
      prevLow,
      prevHigh,
      origin,
    );
    this.#show();
    return next - WINDOW_OFFSET;
  }

  override lastTaken(): number {
    return this.module.lastOfParts() - WINDOW_OFFSET;
  }

  /** As takeRun, of stored records: those whose CRC is that of their stored bytes, whatever they say came before. */
  takeStoredRun(start: number, end: number): number {
    const at = WINDOW_OFFSET + start;
    const origin = at - (at % WAL_PAGE_BYTES);
    const next = this.module.storedParts(at, WINDOW_OFFSET + end, origin);
    this.#show();
    return next - WINDOW_OFFSET;
  }

  /**
   * What the CRCs of records have to be that are whole in the window, over however many pages.
   * @param records - where they begin, in offsets of the segment; at most MOST_RECORDS.
   * @param windowStart - offset of the segment, of a page, that the window begins with.
   * @param headerBytes - of the page headers in the window.
   * @returns valid until the next call.
   */
  recordCrcs(records: Int32Array, windowStart: number, headerBytes: Uint8Array): Uint32Array {
    this.#records.set(records);
    this.#headers.set(headerBytes);
    const origin = WINDOW_OFFSET - windowStart;
    this.module.recordCrcs(RECORDS_OFFSET, records.length, origin, WINDOW_OFFSET, HEADERS_OFFSET);
    return new Uint32Array(this.memory, RECORDS_OFFSET, records.length);
  }

  #show(): void {
    this.records = this.#records.subarray(0, this.module.partRecordCount());
    this.secrets = this.#secrets.subarray(0, this.module.partSecretCount());
  }
}

/** The table of readable bytes, as far as it is ranges. */
function writeRows(rows: Uint32Array, major: Major): void {
  for (let rmid = 0; rmid < RMGRS_WITH_ROWS; rmid++) {
    for (let info = 0; info < INFO_VALUES; info++) {
      const at = (rmid * INFO_VALUES + info) * ROW.words;
      const { main, data0 } = rowOf(major, rmid, info << 4) ?? {};
      rows[at + ROW.mainCount] = writeRanges(rows, at + ROW.main, main);
      rows[at + ROW.blockCount] = writeRanges(rows, at + ROW.block, data0);
    }
  }
}

function writeRanges(rows: Uint32Array, at: number, rule: CompiledRule | undefined): number {
  if (rule === undefined) return 0;
  const { ranges } = rule;
  if (ranges === undefined || ranges.length > MOST_RANGES) return HAS_RULE;
  for (const [i, { from, to }] of ranges.entries()) {
    rows[at + 2 * i] = from;
    rows[at + 2 * i + 1] = to === Infinity ? NO_END : to;
  }
  return ranges.length;
}
