/**
 * What a reader of WAL is told of the segments before it begins.
 */
import type { RecordScan } from "./record-scan.ts";
import type { SegmentSource } from "./segment-source.ts";
import type { WalFormat } from "./wal-format.ts";

export interface ReaderOptions {
  readonly format: WalFormat;
  readonly segmentBytes: number;
  readonly timeline: number;
  readonly source: SegmentSource;
  /** Records that are not wholly before it are not read. Both halves 0: no end. */
  readonly endHigh?: number;
  readonly endLow?: number;
  /** Where it reads into, if it is to be used again; no two readers at a time. */
  readonly scan?: RecordScan;
}
