/**
 * What `tde waldump` was asked to do, as plain data: worker threads are sent it.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import type { RecordFilter } from "../../wal/record-filter.ts";
import type { ZoneSource } from "../../wal/time-zone.ts";

/** Two halves of 32 bits. */
export interface LsnHalves {
  readonly high: number;
  readonly low: number;
}

export interface WaldumpRequest {
  /** --path: a directory or a tar archive. */
  readonly path: BytePath | undefined;
  /** STARTSEG and ENDSEG as they were given. */
  readonly segments: readonly BytePath[];
  readonly start: LsnHalves | undefined;
  readonly end: LsnHalves | undefined;
  readonly timeline: number;
  readonly filter: RecordFilter;
  /** Records to show; 0 or less: all. */
  readonly limit: number;
  readonly follow: boolean;
  readonly quiet: boolean;
  readonly statistics: "none" | "rmgr" | "record";
  readonly details: boolean;
  readonly json: boolean;
  readonly saveImages: BytePath | undefined;
  /** Threads that may parse segments side by side. */
  readonly jobs: number;
  /** Times are printed in it. */
  readonly timeZone: ZoneSource;
}

export function isZero({ high, low }: LsnHalves): boolean {
  return high === 0 && low === 0;
}
