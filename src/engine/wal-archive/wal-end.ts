/**
 * Whether WAL ends where its records do. The last segment of a timeline ends midway: the server was stopped, or a
 * receiver has come so far. What then stands behind the last record is zero, or left of an older life of the file, or
 * the beginning of a record of which the rest was never written. Damage looks different: there is more WAL behind it.
 */
import type { SegmentPlace } from "../../format/wal/plain-map.ts";
import { continuationBytes, pageHeaderBytes } from "../../format/wal/wal-page.ts";
import { aligned, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";

export interface LastRecord {
  readonly high: number;
  readonly low: number;
}

/**
 * @param content - of the segment, plain.
 * @param next - where in it the record behind the last valid one would begin; the segment's length where none can.
 * @param last - LSN of that one; undefined where there is none.
 * @returns in words why this is not the end of WAL; undefined: it is.
 */
export function whyNotTheEnd(
  content: Buffer,
  place: SegmentPlace,
  next: number,
  last: LastRecord | undefined,
): string | undefined {
  const segment = new EndOfSegment(content, place);
  const written = segment.writtenUpTo(next, last);
  if (written === undefined) return "a record is damaged";
  if (segment.hasRecordAfter(next, written)) {
    return "a record behind it says that there was one";
  }
  for (let page = written; page < content.length; page += WAL_PAGE_BYTES) {
    if (segment.headerOf(page) > 0) {
      return "pages behind it were written: it was damaged, or left so by a crash of the server";
    }
  }
  return undefined;
}

/** Offset of the first record that begins in a segment; its length where none does. */
export function firstRecordIn(content: Buffer, place: SegmentPlace): number {
  const segment = new EndOfSegment(content, place);
  for (let page = 0; page < content.length; page += WAL_PAGE_BYTES) {
    const header = segment.headerOf(page);
    if (header === 0) return page;
    const rest = aligned(continuationBytes(content, page));
    if (rest < WAL_PAGE_BYTES - header) return page + header + rest;
  }
  return content.length;
}

class EndOfSegment {
  readonly #content: Buffer;
  readonly #place: SegmentPlace;

  constructor(content: Buffer, place: SegmentPlace) {
    this.#content = content;
    this.#place = place;
  }

  /** Bytes of the header of a page that was written as part of this segment; 0 for any other. */
  headerOf(page: number): number {
    const header = pageHeaderBytes(this.#content, page);
    const address = page + WAL_PAGE_HEADER.pageAddress;
    const isOwn =
      this.#content.readUInt32LE(address) === this.#place.low + page &&
      this.#content.readUInt32LE(address + 4) === this.#place.high;
    return isOwn ? header : 0;
  }

  /**
   * The first page behind the one that WAL ends in, or behind the record that was cut off there.
   * @returns undefined where a whole record stands there, which is not valid, or one that another one interrupts.
   */
  writtenUpTo(next: number, last: LastRecord | undefined): number | undefined {
    const content = this.#content;
    if (next >= content.length) return content.length;
    let page = next - (next % WAL_PAGE_BYTES);
    const header = this.headerOf(page);
    if (header === 0) return page;
    const at = next === page ? page + header : next;
    page += WAL_PAGE_BYTES;
    const total = content.readUInt32LE(at + RECORD_HEADER.totalLength);
    if (total < RECORD_HEADER_BYTES || !this.#follows(at, page, last)) return page;
    let left = total - (page - at);
    for (; left > 0; page += WAL_PAGE_BYTES) {
      const bytes = page < content.length ? this.headerOf(page) : 0;
      if (bytes === 0) return page;
      if (continuationBytes(content, page) !== left) return undefined;
      left -= WAL_PAGE_BYTES - bytes;
    }
    return undefined;
  }

  /** Whether what stands at `at` names the last record as the one before it, as far as its page has it. */
  #follows(at: number, pageEnd: number, last: LastRecord | undefined): boolean {
    if (last === undefined || at + RECORD_HEADER.info > pageEnd) return true;
    return this.#prevIs(at, last);
  }

  #prevIs(at: number, { high, low }: LastRecord): boolean {
    const prev = at + RECORD_HEADER.prev;
    return (
      this.#content.readUInt32LE(prev) === low && this.#content.readUInt32LE(prev + 4) === high
    );
  }

  /** Whether a record begins behind `next` on its page that names one at `next` as the one before it. */
  hasRecordAfter(next: number, written: number): boolean {
    const page = next - (next % WAL_PAGE_BYTES);
    const first = next === page ? page + this.headerOf(page) : next;
    const end = Math.min(page + WAL_PAGE_BYTES, written) - RECORD_HEADER.info;
    const lost = { high: this.#place.high, low: this.#place.low + first };
    for (let at = aligned(first + RECORD_HEADER_BYTES); at <= end; at += aligned(1)) {
      if (this.#prevIs(at, lost) && this.#content.readUInt32LE(at) >= RECORD_HEADER_BYTES)
        return true;
    }
    return false;
  }
}
