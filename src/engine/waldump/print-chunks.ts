/**
 * Prints a range of WAL chunk by chunk, several of them read side by side, so that what comes out is what one reader
 * would print that reads it from its first record on. Chunks that it would never see, behind the end or a switched
 * segment, are read in vain and thrown away.
 */
import type { ChunkResult, ChunkTask } from "./chunk.ts";
import type { Printer } from "./printer.ts";
import type { RangeEnd } from "./print-range.ts";
import type { LsnHalves } from "./request.ts";

/** Who reads chunks. */
export interface ChunkRunner {
  /** How many are worth having under way: this bounds the memory for their text. */
  readonly width: number;
  /** How large a chunk is: a multiple of a page. */
  readonly chunkBytes: number;
  run(task: ChunkTask): Promise<ChunkResult>;
  close(): Promise<void>;
}

export interface ChunksContext {
  /** LSN of a record: the first one to print. */
  readonly first: LsnHalves;
  readonly printer: Printer;
  readonly stopped: () => boolean;
  /** @returns false when nobody reads it any more. */
  readonly write: (text: Uint8Array) => boolean;
}

/**
 * @returns how the range ended; or the record at which a single reader has to go on, where what two chunks found does
 * not fit together, as when a server writes meanwhile.
 * @throws what reading a chunk threw, after everything before that was printed.
 */
export async function printChunks(
  runner: ChunkRunner,
  { first, printer, stopped, write }: ChunksContext,
): Promise<RangeEnd | LsnHalves> {
  const underWay: { readonly until: LsnHalves; readonly result: Promise<ChunkResult> }[] = [];
  const spares: ArrayBuffer[] = [];
  let from = first;
  /** The record that comes next. */
  let expected = first;
  for (;;) {
    while (underWay.length < runner.width) {
      const until = chunkEnd(from, runner.chunkBytes);
      const result = runner.run({ from, until, spare: spares.pop() });
      // A rejection is seen when its turn comes; until then it must not count as unhandled.
      result.catch(() => {});
      underWay.push({ until, result });
      from = until;
    }
    const chunk = underWay.shift();
    if (chunk === undefined) return expected;
    const result = await chunk.result;
    if (stopped()) return { why: "stopped", failure: undefined, last: expected };
    const { text } = result;
    if (isBefore(expected, chunk.until)) {
      if (result.first === undefined || !isSame(result.first, expected)) return expected;
      if (text.length > 0 && !write(text)) {
        return { why: "unread", failure: undefined, last: expected };
      }
      printer.addTallies(result.tallies, result.talliedUpTo);
      if (result.error !== undefined) throw result.error;
      if (result.next === undefined) return result.end ?? expected;
      expected = result.next;
    }
    spares.push(text.buffer as ArrayBuffer);
  }
}

/** The next LSN that is a multiple of the chunk's size. */
function chunkEnd({ high, low }: LsnHalves, chunkBytes: number): LsnHalves {
  const end = low - (low % chunkBytes) + chunkBytes;
  return end > 0xffffffff ? { high: high + 1, low: 0 } : { high, low: end };
}

function isBefore(a: LsnHalves, b: LsnHalves): boolean {
  return a.high < b.high || (a.high === b.high && a.low < b.low);
}

function isSame(a: LsnHalves, b: LsnHalves): boolean {
  return a.high === b.high && a.low === b.low;
}
