/**
 * What `tde waldump` makes of records: lines, JSON, or statistics of them.
 */
import type { RecordFilter } from "../../wal/record-filter.ts";
import { RecordJson, statisticsJson } from "../../wal/record-json.ts";
import type { TallyScan } from "../../wal/tally-scan.ts";
import { RecordText } from "../../wal/record-text.ts";
import type { WalRecord } from "../../wal/record.ts";
import { Statistics, statisticsText, type TypeTally } from "../../wal/statistics.ts";
import { TextBuffer } from "../../wal/text-buffer.ts";
import { timeZoneOf } from "../../wal/time-zone.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import type { LsnHalves, WaldumpRequest } from "./request.ts";

export class Printer {
  /** Of the records shown so far, where it is not empty yet: to be handed on. */
  readonly text: TextBuffer;
  /** Where the last record that was shown ends; undefined before the first. */
  end: LsnHalves | undefined;
  /** The scan may count records in place of `show`. */
  readonly takesTallies: boolean;
  readonly #request: WaldumpRequest;
  readonly #format: WalFormat;
  readonly #writer: RecordText | RecordJson | undefined;
  readonly #statistics: Statistics | undefined;

  /** @param scan - of the reader that the records come from. */
  constructor(request: WaldumpRequest, format: WalFormat, scan: TallyScan) {
    this.#request = request;
    this.#format = format;
    this.text = new TextBuffer(format.lsnLowDigits, timeZoneOf(request.timeZone));
    const counts = request.statistics !== "none";
    const wantsEach = request.limit > 0 || request.saveImages !== undefined;
    this.takesTallies = (request.quiet || counts) && !wantsEach && takesAll(request.filter);
    if (request.quiet) return;
    if (counts) this.#statistics = new Statistics(scan.tallies);
    else if (request.json) this.#writer = new RecordJson(format);
    else this.#writer = new RecordText(format, request.details);
  }

  /** @param record - one that is wanted. */
  show(record: WalRecord): void {
    if (this.#statistics !== undefined) {
      this.#statistics.add(record);
      this.showedUpTo(record);
    } else this.#writer?.write(this.text, record);
  }

  /** Records up to the end of this one were counted. */
  showedUpTo({ endHigh, endLow }: WalRecord): void {
    this.end = { high: endHigh, low: endLow };
  }

  /** What was counted since this was called last: then it begins anew. */
  takeTallies(): TypeTally[] {
    return this.#statistics?.take() ?? [];
  }

  /** Counts what another printer has counted, which comes after what was counted here. */
  addTallies(types: readonly TypeTally[], end: LsnHalves | undefined): void {
    this.#statistics?.merge(types);
    this.end = end ?? this.end;
  }

  /**
   * Ends with the statistics, if they were asked for.
   * @param start - LSN of the first record of all, shown or not.
   */
  finish(start: LsnHalves): void {
    if (this.#statistics === undefined) return;
    const { end } = this;
    const range = end && {
      startHigh: start.high,
      startLow: start.low,
      endHigh: end.high,
      endLow: end.low,
    };
    const text = this.#request.json
      ? statisticsJson(this.#statistics, this.#format, range)
      : statisticsText(this.#statistics, this.#format, {
          byType: this.#request.statistics === "record",
          range,
        });
    this.text.text(text);
  }
}

function takesAll(filter: RecordFilter): boolean {
  return Object.values(filter).every((value) => value === undefined || value === false);
}
