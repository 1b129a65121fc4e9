/**
 * Follows the records through a run of segments: each checksum holds, and each record names the one before it, also
 * from one segment into the next. That finds what no tag can: a segment that is genuine, but from an older life of the
 * cluster than its neighbours. Only the last segment of a timeline may end midway, as WAL ends.
 */
import { formatHalves } from "../../wal/messages.ts";
import { Outcome } from "../../wal/read-outcome.ts";
import { WalReader } from "../../wal/reader.ts";
import type { SegmentSource } from "../../wal/segment-source.ts";
import type { SegmentName } from "../../wal/wal-file-name.ts";
import type { WholeSegment } from "./archive-files.ts";
import { firstRecordIn, whyNotTheEnd } from "./wal-end.ts";

/** Records end before their segment does. */
export interface ChainEnd {
  readonly problem: string;
  /** It is no problem in the last segment of a timeline. */
  readonly isEndOfWal: boolean;
}

export class RecordChain {
  records = 0;
  #reader: WalReader | undefined;
  #placed = false;
  /** Where the chain begins. */
  #startHigh = 0;
  #startLow = 0;
  #current: WholeSegment | undefined;
  #high = -1;
  #low = -1;
  readonly #source: SegmentSource = {
    segment: (high, low) => {
      const content = this.#current?.content;
      if (content === undefined || high !== this.#high || low !== this.#low) return undefined;
      return {
        read: (buffer, offset, length, position) => {
          const part = content.subarray(position, position + length);
          buffer.set(part, offset);
          return part.length;
        },
      };
    },
  };

  /** The next segment does not follow the last one: its first whole record begins a new chain. */
  breakOff(): void {
    this.#reader = undefined;
  }

  /** LSN behind the last record before the chain ended or the next segment was wanted, as text; undefined: none was read. */
  end: string | undefined;

  /**
   * Reads the records that begin in this segment; the last may end in the next one.
   * @returns how they end before it does; undefined: they do not.
   */
  follow(segment: WholeSegment, name: SegmentName): ChainEnd | undefined {
    const { timeline, high, low } = name;
    this.end = undefined;
    this.#current = segment;
    this.#high = high;
    this.#low = low;
    const { format, segmentBytes } = segment.head;
    if (this.#reader === undefined) {
      this.#reader = new WalReader({ format, segmentBytes, timeline, source: this.#source });
      this.#placed = false;
      this.#startHigh = high;
      this.#startLow = low;
    }
    const reader = this.#reader;
    for (;;) {
      const outcome = this.#placed ? reader.next() : reader.find(this.#startHigh, this.#startLow);
      if (outcome === Outcome.record) {
        // `find` has only placed it.
        if (this.#placed) this.records++;
        this.#placed = true;
        continue;
      }
      const { endHigh, endLow } = reader.record;
      if (this.#placed) this.end = formatHalves(endHigh, endLow, format);
      if (outcome === Outcome.segmentWanted) return undefined;
      const end = this.#endIn(reader, segment, name);
      this.breakOff();
      return end;
    }
  }

  #endIn(reader: WalReader, { head, content }: WholeSegment, name: SegmentName): ChainEnd {
    const { failure, record, lastHigh, lastLow } = reader;
    const last = this.#placed ? { high: lastHigh, low: lastLow } : undefined;
    const next = this.#placed
      ? (record.endHigh - name.high) * 2 ** 32 + record.endLow - name.low
      : firstRecordIn(content, name);
    const message = failure?.kind === "invalid" ? failure.message : "it ends inside a page";
    // Before the segment: a record that began in the one before should go on here, and does not.
    const why = next < 0 ? undefined : whyNotTheEnd(content, name, next, last);
    const after = `after the record at ${formatHalves(lastHigh, lastLow, head.format)}: `;
    return {
      problem: `${last === undefined ? "" : after}${message}${why === undefined ? "" : `; ${why}`}`,
      isEndOfWal: next >= 0 && why === undefined,
    };
  }
}
