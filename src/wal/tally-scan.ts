/** Counts whole runs of records in WebAssembly, for Statistics. Source of the module: record-tally.as.ts. */
import { RecordScan, RESULTS_OFFSET, WINDOW_OFFSET } from "./record-scan.ts";
import { TALLIES_LENGTH } from "./statistics.ts";

export class TallyScan extends RecordScan {
  /** What runs are counted in: 4096 tallies of 24 bytes. */
  readonly tallies: Float64Array = new Float64Array(this.memory, RESULTS_OFFSET, TALLIES_LENGTH);

  override takeRun(
    start: number,
    end: number,
    lsnHigh: number,
    lsnLow: number,
    prevHigh: number,
    prevLow: number,
  ): number {
    const next = this.module.tally(
      WINDOW_OFFSET + start,
      WINDOW_OFFSET + end,
      lsnLow,
      lsnHigh,
      prevLow,
      prevHigh,
      RESULTS_OFFSET,
    );
    return next - WINDOW_OFFSET;
  }

  override lastTaken(): number {
    return this.module.lastTallied() - WINDOW_OFFSET;
  }
}
