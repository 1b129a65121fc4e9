/**
 * Reads a range of WAL and prints its records or their statistics: the main loop of bin/pg_waldump/pg_waldump.c.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { matches } from "../../wal/record-filter.ts";
import { formatHalves } from "../../wal/messages.ts";
import { Outcome } from "../../wal/read-outcome.ts";
import { WalReader } from "../../wal/reader.ts";
import { RecordJson, statisticsJson } from "../../wal/record-json.ts";
import { RecordText } from "../../wal/record-text.ts";
import type { WalRecord } from "../../wal/record.ts";
import { Statistics, statisticsText, type StatisticsRange } from "../../wal/statistics.ts";
import { TextBuffer } from "../../wal/text-buffer.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import type { Dialect } from "./dialect.ts";
import type { LsnHalves, WaldumpRequest } from "./request.ts";
import type { ImageSaver } from "./save-images.ts";
import type { FetchingSource, ShortRead } from "./source.ts";
import { WaldumpError } from "./waldump-error.ts";

export interface DumpOutput {
  /** Takes bytes for standard output before it returns. @returns false when nobody reads them any more. */
  write(bytes: Uint8Array): boolean;
  /** A message for standard error that is no error. */
  note(message: string): void;
  /** An interrupt came: stop at the next record. */
  readonly stopped: () => boolean;
}

export interface DumpPlace {
  readonly format: WalFormat;
  readonly dialect: Dialect;
  readonly segmentBytes: number;
  readonly timeline: number;
  readonly start: LsnHalves;
  readonly end: LsnHalves | undefined;
  readonly source: FetchingSource;
}

/** Text is handed on when there is this much of it. */
const FLUSH_BYTES = 2 ** 17;
const FOLLOW_WAIT_MS = 1000;

const STRUCTURE_ALONE =
  'the WAL is encrypted: without --keyring its structure is shown, and messages as "<encrypted>"';

/** @throws {WaldumpError} when reading ends before its end: everything up to there has been printed. */
export async function dump(
  request: WaldumpRequest,
  place: DumpPlace,
  saver: ImageSaver | undefined,
  output: DumpOutput,
): Promise<void> {
  const { format, end, source } = place;
  const reader = new WalReader({
    format,
    segmentBytes: place.segmentBytes,
    timeline: place.timeline,
    source,
    endHigh: end?.high ?? 0,
    endLow: end?.low ?? 0,
  });
  await findFirst(reader, place, output);
  const printer = new Printer(request, format, output);
  try {
    await printRecords(reader, request, place, saver, printer, output);
  } catch (error) {
    // What was read before is printed; statistics are not, for want of a whole range.
    printer.flush();
    throw error;
  }
}

async function printRecords(
  reader: WalReader,
  request: WaldumpRequest,
  { format, dialect, source }: DumpPlace,
  saver: ImageSaver | undefined,
  printer: Printer,
  output: DumpOutput,
): Promise<void> {
  printer.begin(reader.record);
  let shown = 0;
  let isStructureAlone = false;
  while (!output.stopped()) {
    const outcome = reader.next();
    if (outcome === Outcome.segmentWanted) {
      // The one place where an interrupt is noticed while there is always more to read.
      await setImmediate();
      if (await source.fetch(reader.wantedHigh, reader.wantedLow)) continue;
      break;
    }
    if (outcome === Outcome.end) {
      if (!request.follow || reader.endReached || reader.failure?.kind === "short") break;
      printer.flush();
      await setTimeout(FOLLOW_WAIT_MS);
      reader.reread();
      continue;
    }
    const { record } = reader;
    if (record.isEncrypted && !isStructureAlone) {
      isStructureAlone = true;
      output.note(STRUCTURE_ALONE);
    }
    if (!matches(record, request.filter)) continue;
    if (!request.quiet && !printer.show(record)) return;
    saver?.save(record);
    shown++;
    if (request.limit > 0 && shown >= request.limit) {
      printer.end();
      return;
    }
  }
  const { failure } = reader;
  if (failure?.kind === "short") throw shortRead(failure, source, dialect);
  printer.end();
  if (output.stopped() || failure === undefined) return;
  const last = formatHalves(reader.lastHigh, reader.lastLow, format);
  throw new WaldumpError(`error in WAL record at ${last}: ${failure.message}`);
}

/** Puts the reader before the first record at or after the start, and says what was skipped. */
async function findFirst(
  reader: WalReader,
  { format, dialect, segmentBytes, start, source }: DumpPlace,
  output: DumpOutput,
): Promise<void> {
  let outcome = reader.find(start.high, start.low);
  while (outcome === Outcome.segmentWanted) {
    const more = await source.fetch(reader.wantedHigh, reader.wantedLow);
    outcome = more ? reader.find(start.high, start.low) : Outcome.end;
  }
  const from = formatHalves(start.high, start.low, format);
  if (outcome === Outcome.end) {
    const { failure } = reader;
    if (failure?.kind === "short") throw shortRead(failure, source, dialect);
    const why = dialect.tellsWhyNothingFound && failure !== undefined ? `: ${failure.message}` : "";
    throw new WaldumpError(`could not find a valid record after ${from}${why}`);
  }
  const { lsnHigh, lsnLow } = reader.record;
  const skipped = (lsnHigh - start.high) * 2 ** 32 + (lsnLow - start.low);
  if (skipped === 0 || start.low % segmentBytes === 0) return;
  const at = formatHalves(lsnHigh, lsnLow, format);
  const bytes = skipped === 1 ? "byte" : "bytes";
  const message = `first record is after ${from}, at ${at}, skipping over ${skipped >>> 0} ${bytes}`;
  if (dialect.skipsOnStdout) output.write(Buffer.from(`${message}\n`));
  else output.note(message);
}

function shortRead(failure: ShortRead, source: FetchingSource, dialect: Dialect): WaldumpError {
  return (
    source.shortRead?.(failure) ??
    dialect.shortRead(failure.fileName, failure.offset, failure.wanted)
  );
}

/** Records as lines, as JSON, or only counted. */
class Printer {
  readonly #request: WaldumpRequest;
  readonly #format: WalFormat;
  readonly #output: DumpOutput;
  readonly #text: TextBuffer;
  readonly #writer: RecordText | RecordJson | undefined;
  readonly #statistics: Statistics | undefined;
  #start: LsnHalves | undefined;
  #end: LsnHalves | undefined;

  constructor(request: WaldumpRequest, format: WalFormat, output: DumpOutput) {
    this.#request = request;
    this.#format = format;
    this.#output = output;
    this.#text = new TextBuffer(format.lsnLowDigits, request.timeZone);
    if (request.quiet) return;
    if (request.statistics !== "none") this.#statistics = new Statistics();
    else if (request.json) this.#writer = new RecordJson(format);
    else this.#writer = new RecordText(format, request.details);
  }

  /** @param record - the first one, whether it is shown or not. */
  begin({ lsnHigh, lsnLow }: WalRecord): void {
    this.#start = { high: lsnHigh, low: lsnLow };
  }

  /** @returns false when nobody reads what is written. */
  show(record: WalRecord): boolean {
    if (this.#statistics !== undefined) {
      this.#statistics.add(record);
      this.#end = { high: record.endHigh, low: record.endLow };
      return true;
    }
    this.#writer?.write(this.#text, record);
    return this.#text.length < FLUSH_BYTES || this.flush();
  }

  flush(): boolean {
    const { bytes, length } = this.#text;
    if (length === 0) return true;
    const isRead = this.#output.write(bytes.subarray(0, length));
    this.#text.reset();
    return isRead;
  }

  end(): void {
    this.flush();
    if (this.#statistics === undefined) return;
    const range = this.#range();
    const text = this.#request.json
      ? statisticsJson(this.#statistics, this.#format, range)
      : statisticsText(this.#statistics, this.#format, {
          byType: this.#request.statistics === "record",
          range,
        });
    this.#output.write(Buffer.from(text));
  }

  #range(): StatisticsRange | undefined {
    const [start, end] = [this.#start, this.#end];
    if (start === undefined || end === undefined) return undefined;
    return { startHigh: start.high, startLow: start.low, endHigh: end.high, endLow: end.low };
  }
}
