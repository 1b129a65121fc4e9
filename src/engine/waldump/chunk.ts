/**
 * A chunk of a range of WAL, printed by itself: the records that begin in it. That it continues the chunk before is
 * seen from both: the record that one ends before has to be the one that the other begins with. Then a reader that
 * comes from there is in the same state as one that began here, and what this one printed is what it would print.
 */
import { WalReader } from "../../wal/reader.ts";
import { TallyScan } from "../../wal/tally-scan.ts";
import type { TypeTally } from "../../wal/statistics.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { Printer } from "./printer.ts";
import { findRecord, lsnOf, printRange, type RangeEnd } from "./print-range.ts";
import type { LsnHalves, WaldumpRequest } from "./request.ts";
import type { FetchingSource } from "./source.ts";

/** What all chunks of a run have in common, as plain data. */
export interface ChunkContext {
  readonly request: WaldumpRequest;
  readonly format: WalFormat;
  readonly segmentBytes: number;
  readonly timeline: number;
  /** Of the whole run. */
  readonly end: LsnHalves | undefined;
}

export interface ChunkTask {
  readonly from: LsnHalves;
  /** Where the next chunk begins. */
  readonly until: LsnHalves;
  /** Memory for the text, which is given back with it. */
  readonly spare?: ArrayBuffer | undefined;
}

export interface ChunkResult {
  /** The first record that begins in the chunk or later; undefined where none was found. */
  readonly first: LsnHalves | undefined;
  /** The first record that begins behind the chunk; undefined where reading ended before it. */
  readonly next: LsnHalves | undefined;
  /** How reading ended; undefined where it failed or did not begin. */
  readonly end: RangeEnd | undefined;
  /** What was thrown, after what was printed. */
  readonly error: unknown;
  readonly text: Uint8Array;
  readonly tallies: TypeTally[];
  /** Where the last record that was counted ends. */
  readonly talliedUpTo: LsnHalves | undefined;
}

/** Reads one chunk after another. */
export class ChunkPrinter {
  readonly #context: ChunkContext;
  readonly #source: FetchingSource;
  readonly #scan: TallyScan;
  readonly #printer: Printer;

  /** @param source - for this one alone; closed by whoever made it. */
  constructor(context: ChunkContext, source: FetchingSource) {
    this.#context = context;
    this.#source = source;
    this.#scan = new TallyScan(context.format);
    this.#printer = new Printer(context.request, context.format, this.#scan);
  }

  async print({ from, until, spare }: ChunkTask): Promise<ChunkResult> {
    const printer = this.#printer;
    printer.end = undefined;
    const reader = this.#reader();
    let first: LsnHalves | undefined;
    let end: RangeEnd | undefined;
    let error: unknown;
    try {
      if (await findRecord(reader, this.#source, from)) {
        first = lsnOf(reader);
        end = await printRange(reader, {
          request: this.#context.request,
          source: this.#source,
          printer,
          until,
          stopped: () => false,
          flush: () => true,
          flushBytes: Infinity,
        });
      }
    } catch (thrown) {
      error = thrown;
    }
    return {
      first,
      next: end?.why === "until" ? lsnOf(reader) : undefined,
      end,
      error,
      text: printer.text.take(spare),
      tallies: printer.takeTallies(),
      talliedUpTo: printer.end,
    };
  }

  #reader(): WalReader {
    const { format, segmentBytes, timeline, end } = this.#context;
    return new WalReader({
      format,
      segmentBytes,
      timeline,
      source: this.#source,
      scan: this.#scan,
      endHigh: end?.high ?? 0,
      endLow: end?.low ?? 0,
    });
  }
}
