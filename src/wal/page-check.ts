/**
 * Checks the headers of WAL pages, one page after another: magic, flags, sizes, address, and that no timeline goes
 * back. Source: access/transam/xlogreader.c, XLogReaderValidatePageHeader, whose messages these are.
 */
import { formatHalves, type ReaderMessages } from "./messages.ts";
import { PAGE_HAS_LONG_HEADER, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "./page-header.ts";
import type { WalFormat } from "./wal-format.ts";

export class PageCheck {
  readonly #format: WalFormat;
  readonly #messages: ReaderMessages;
  readonly #segmentBytes: number;
  /** Pages are checked for a timeline that goes back: the latest one seen. */
  #latestHigh = 0;
  #latestLow = 0;
  #latestTimeline = 0;

  constructor(format: WalFormat, messages: ReaderMessages, segmentBytes: number) {
    this.#format = format;
    this.#messages = messages;
    this.#segmentBytes = segmentBytes;
  }

  /**
   * @param page - its offset in the segment that begins at `segmentHigh`, `segmentLow`.
   * @param at - where its header begins in `view`.
   * @param fileName - gives the segment's name, for messages.
   * @returns what is wrong with it, or undefined: then it is remembered as the latest one.
   */
  problem(
    view: DataView,
    at: number,
    segmentHigh: number,
    segmentLow: number,
    page: number,
    fileName: () => string,
  ): string | undefined {
    const low = (segmentLow + page) >>> 0;
    const place = (): string =>
      this.#messages.pagePlace(fileName(), formatHalves(segmentHigh, low, this.#format), page);
    const magic = view.getUint16(at + WAL_PAGE_HEADER.magic, true);
    if (magic !== this.#format.pageMagic) {
      return `invalid magic number ${hex4(magic)} ${place()}`;
    }
    const info = view.getUint16(at + WAL_PAGE_HEADER.info, true);
    const isLong = (info & PAGE_HAS_LONG_HEADER) !== 0;
    if ((info & ~this.#format.allPageFlags) !== 0 || (page === 0 && !isLong)) {
      return `invalid info bits ${hex4(info)} ${place()}`;
    }
    if (isLong) {
      if (view.getUint32(at + WAL_PAGE_HEADER.segmentSize, true) !== this.#segmentBytes) {
        return "WAL file is from different database system: incorrect segment size in page header";
      }
      if (view.getUint32(at + WAL_PAGE_HEADER.pageSize, true) !== WAL_PAGE_BYTES) {
        return "WAL file is from different database system: incorrect XLOG_BLCKSZ in page header";
      }
    }
    const addressLow = view.getUint32(at + WAL_PAGE_HEADER.pageAddress, true);
    const addressHigh = view.getUint32(at + WAL_PAGE_HEADER.pageAddress + 4, true);
    if (addressLow !== low || addressHigh !== segmentHigh) {
      const address = formatHalves(addressHigh, addressLow, this.#format);
      return `unexpected pageaddr ${address} ${place()}`;
    }
    const isLater =
      segmentHigh > this.#latestHigh || (segmentHigh === this.#latestHigh && low > this.#latestLow);
    const timeline = view.getUint32(at + WAL_PAGE_HEADER.timeline, true);
    if (isLater && timeline < this.#latestTimeline) {
      return `out-of-sequence timeline ID ${timeline} (after ${this.#latestTimeline}) ${place()}`;
    }
    this.#latestHigh = segmentHigh;
    this.#latestLow = low;
    this.#latestTimeline = timeline;
    return undefined;
  }
}

function hex4(value: number): string {
  return value.toString(16).toUpperCase().padStart(4, "0");
}
