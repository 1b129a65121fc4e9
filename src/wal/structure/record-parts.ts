/**
 * The parts of one record, alternately structure and secret: which bytes a describe routine of pg_waldump reads, and
 * which are content. Whatever is not named as structure is secret, so that a mistake costs readability, never secrecy.
 */
import { blockAt } from "../decode-record.ts";
import type { WalRecord } from "../record.ts";

/** The boundaries of the record that was taken apart last: the same object serves for one record after the other. */
export class RecordParts {
  /**
   * Offsets in the record, rising: where structure ends, where the secret behind it ends, and so on; the record begins
   * with structure. The first `count` of them count.
   */
  bounds: Int32Array = new Int32Array(256);
  count = 0;

  /** Offset in `record.bytes` where the record begins; offsets of `keep` are in `bytes` too. */
  #start = 0;
  /** Where the structure that is being gathered ends. */
  #end = 0;
  /** Of the area that is described: what lies beyond it is not its own. */
  #limit = 0;

  /** Its header, the headers of its blocks and the other headers before its content are structure. */
  begin(record: WalRecord): void {
    this.count = 0;
    this.#start = record.start;
    this.#end = contentStart(record);
    this.#limit = this.#end;
  }

  /** What is kept from now on lies before this offset. */
  enter(limit: number): void {
    this.#limit = limit;
  }

  /** Names bytes [from, to) of `record.bytes` as structure; offsets never go back. Cut at the end of the area. */
  keep(from: number, to: number): void {
    const start = Math.max(from, this.#end);
    const end = Math.min(to, this.#limit);
    if (end <= start) return;
    if (start > this.#end) {
      this.#push(this.#end);
      this.#push(start);
    }
    this.#end = end;
  }

  /** Ends the record. @param length - of the record, with the padding behind it that is secret, too. */
  finish(length: number): void {
    this.#push(this.#end);
    if (this.#start + length > this.#end) this.#push(this.#start + length);
  }

  #push(offset: number): void {
    if (this.count === this.bounds.length) {
      const larger = new Int32Array(2 * this.count);
      larger.set(this.bounds);
      this.bounds = larger;
    }
    this.bounds[this.count++] = offset - this.#start;
  }
}

/** Where images, block data and main data begin. */
function contentStart(record: WalRecord): number {
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (block.present) return block.imageStart;
  }
  return record.mainStart;
}
