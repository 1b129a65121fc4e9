/**
 * Prints one record after another: the loop of bin/pg_waldump/pg_waldump.c, over a whole run or a chunk of it.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { Outcome, type ReadFailure } from "../../wal/read-outcome.ts";
import type { WalReader } from "../../wal/reader.ts";
import { matches } from "../../wal/record-filter.ts";
import type { Printer } from "./printer.ts";
import type { LsnHalves, WaldumpRequest } from "./request.ts";
import type { ImageSaver } from "./save-images.ts";
import type { FetchingSource } from "./source.ts";

export interface RangeContext {
  readonly request: WaldumpRequest;
  readonly source: FetchingSource;
  readonly printer: Printer;
  readonly saver?: ImageSaver | undefined;
  /** Stops before the first record that begins here or later: `until` was reached, and the reader has read it. */
  readonly until?: LsnHalves;
  /** An interrupt came: stop at the next record. */
  readonly stopped: () => boolean;
  /** Hands on what the printer has. @returns false when nobody reads it any more. */
  readonly flush: () => boolean;
  /** It is handed on when there is this much of it. */
  readonly flushBytes: number;
}

export interface RangeEnd {
  readonly why: "until" | "end" | "limit" | "stopped" | "unread";
  /** Why there is no further record, where `why` is the end and there is something to say. */
  readonly failure: ReadFailure | undefined;
  /** The last record that was read. */
  readonly last: LsnHalves;
}

const FOLLOW_WAIT_MS = 1000;

/** @throws {WaldumpError} when a segment cannot be had or an image not be saved. */
export async function printRange(reader: WalReader, context: RangeContext): Promise<RangeEnd> {
  const { request, source, printer, saver, until, stopped, flush, flushBytes } = context;
  const { record } = reader;
  const ended = (why: RangeEnd["why"]): RangeEnd => endOf(reader, why);
  let shown = 0;
  while (!stopped()) {
    const outcome = reader.next();
    if (outcome === Outcome.segmentWanted) {
      // The one place where an interrupt is noticed while there is always more to read.
      await setImmediate();
      if (await source.fetch(reader.wantedHigh, reader.wantedLow)) continue;
      return ended("end");
    }
    if (outcome === Outcome.end) {
      if (!request.follow || reader.endReached || reader.failure?.kind === "short") {
        return ended("end");
      }
      if (!flush()) return ended("unread");
      await setTimeout(FOLLOW_WAIT_MS);
      reader.reread();
      continue;
    }
    if (until !== undefined && !isBefore(record.lsnHigh, record.lsnLow, until)) {
      return ended("until");
    }
    if (!matches(record, request.filter)) continue;
    printer.show(record);
    if (printer.text.length >= flushBytes && !flush()) return ended("unread");
    if (printer.takesTallies && reader.takeRun()) printer.showedUpTo(record);
    saver?.save(record);
    shown++;
    if (request.limit > 0 && shown >= request.limit) return ended("limit");
  }
  return ended("stopped");
}

export function endOf(reader: WalReader, why: RangeEnd["why"]): RangeEnd {
  const last = { high: reader.lastHigh, low: reader.lastLow };
  return { why, failure: reader.failure, last };
}

/** Of the record that was found or read last. */
export function lsnOf({ record }: WalReader): LsnHalves {
  return { high: record.lsnHigh, low: record.lsnLow };
}

/**
 * Finds the first record at an LSN or after it, for the reader to go on with.
 * @returns false where there is none; the reader's `failure` then says why, if there is something to say.
 * @throws {WaldumpError} when a segment cannot be had.
 */
export async function findRecord(
  reader: WalReader,
  source: FetchingSource,
  { high, low }: LsnHalves,
): Promise<boolean> {
  for (;;) {
    const outcome = reader.find(high, low);
    if (outcome !== Outcome.segmentWanted) return outcome === Outcome.record;
    if (!(await source.fetch(reader.wantedHigh, reader.wantedLow))) return false;
  }
}

function isBefore(high: number, low: number, other: LsnHalves): boolean {
  return high < other.high || (high === other.high && low < other.low);
}
