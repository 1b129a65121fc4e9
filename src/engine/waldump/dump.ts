/**
 * Reads a range of WAL and prints its records or their statistics: the main loop of bin/pg_waldump/pg_waldump.c.
 */
import { formatHalves } from "../../wal/messages.ts";
import { WalReader } from "../../wal/reader.ts";
import { TallyScan } from "../../wal/tally-scan.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import type { Dialect } from "./dialect.ts";
import { type ChunkRunner, printChunks } from "./print-chunks.ts";
import { Printer } from "./printer.ts";
import { endOf, findRecord, lsnOf, printRange, type RangeEnd } from "./print-range.ts";
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
  /** Starts threads that read the same WAL; undefined where one thread has to read it. */
  readonly startThreads: (() => Promise<ChunkRunner>) | undefined;
}

/** Text is handed on when there is this much of it. */
const FLUSH_BYTES = 2 ** 17;

const STRUCTURE_ALONE =
  'the WAL is encrypted: without --keyring its structure is shown, and messages as "<encrypted>"';

/** @throws {WaldumpError} when reading ends before its end: everything up to there has been printed. */
export async function dump(
  request: WaldumpRequest,
  place: DumpPlace,
  saver: ImageSaver | undefined,
  output: DumpOutput,
): Promise<void> {
  const { format, dialect, source } = place;
  const scan = new TallyScan(format);
  const reader = new WalReader({
    format,
    segmentBytes: place.segmentBytes,
    timeline: place.timeline,
    source,
    endHigh: place.end?.high ?? 0,
    endLow: place.end?.low ?? 0,
    scan,
  });
  await findFirst(reader, place, output);
  if (reader.record.isEncrypted) output.note(STRUCTURE_ALONE);
  const first = lsnOf(reader);
  const printer = new Printer(request, format, scan);
  const flush = (): boolean => {
    const { bytes, length } = printer.text;
    printer.text.reset();
    return length === 0 || output.write(bytes.subarray(0, length));
  };
  const { stopped } = output;
  let end: RangeEnd;
  try {
    const inThreads =
      saver === undefined && request.limit <= 0
        ? await dumpInThreads(place, reader, printer, output)
        : undefined;
    const flushBytes = FLUSH_BYTES;
    end =
      inThreads ??
      (await printRange(reader, { request, source, printer, saver, stopped, flush, flushBytes }));
  } catch (error) {
    // What was read before is printed; statistics are not, for want of a whole range.
    flush();
    throw error;
  }
  if (!flush() || end.why === "unread") return;
  const { failure, last } = end;
  if (failure?.kind === "short") throw shortRead(failure, source, dialect);
  printer.finish(first);
  flush();
  if (end.why !== "end" || failure === undefined) return;
  const lastLsn = formatHalves(last.high, last.low, format);
  throw new WaldumpError(`error in WAL record at ${lastLsn}: ${failure.message}`);
}

/**
 * @param reader - has found the first record.
 * @returns undefined where the reader is to go on by itself with the record that it has found.
 */
async function dumpInThreads(
  { startThreads, source }: DumpPlace,
  reader: WalReader,
  printer: Printer,
  output: DumpOutput,
): Promise<RangeEnd | undefined> {
  const threads = await startThreads?.();
  if (threads === undefined) return undefined;
  try {
    const end = await printChunks(threads, {
      first: lsnOf(reader),
      printer,
      stopped: output.stopped,
      write: (text) => output.write(text),
    });
    if ("why" in end) return end;
    return (await findRecord(reader, source, end)) ? undefined : endOf(reader, "end");
  } finally {
    await threads.close();
  }
}

/** Puts the reader before the first record at or after the start, and says what was skipped. */
async function findFirst(
  reader: WalReader,
  { format, dialect, segmentBytes, start, source }: DumpPlace,
  output: DumpOutput,
): Promise<void> {
  const isFound = await findRecord(reader, source, start);
  const from = formatHalves(start.high, start.low, format);
  if (!isFound) {
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
