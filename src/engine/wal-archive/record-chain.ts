/**
 * Follows the records through a run of segments: each checksum holds, and each record names the one before it, also
 * from one segment into the next. That finds what no tag can: a segment that is genuine, but from an older life of the
 * cluster than its neighbours.
 */
import { formatHalves } from "../../wal/messages.ts";
import { Outcome } from "../../wal/read-outcome.ts";
import { WalReader } from "../../wal/reader.ts";
import type { SegmentSource } from "../../wal/segment-source.ts";
import type { SegmentName } from "../../wal/wal-file-name.ts";
import type { WholeSegment } from "./archive-files.ts";

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

  /**
   * Reads the records that begin in this segment; the last may end in the next one.
   * @returns why they do not follow one another; undefined: they do.
   */
  follow(segment: WholeSegment, { timeline, high, low }: SegmentName): string | undefined {
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
      if (outcome === Outcome.segmentWanted) return undefined;
      const { failure, lastHigh, lastLow } = reader;
      this.breakOff();
      const why = failure?.kind === "invalid" ? failure.message : "it ends inside a page";
      return `after the record at ${formatHalves(lastHigh, lastLow, format)}: ${why}`;
    }
  }
}
