/**
 * Reads the records of one timeline one after another: pages are checked, records that cross them are put together,
 * every CRC is computed. Nothing is allocated for a record; one window of a segment and the longest record so far are
 * in memory. Where reading ends, and what the message then is, follows access/transam/xlogreader.c.
 */
import { decodeRecord } from "./decode-record.ts";
import { formatHalves, readerMessages, type ReaderMessages } from "./messages.ts";
import {
  aligned,
  LONG_HEADER_BYTES,
  PAGE_CONTINUES,
  PAGE_HAS_LONG_HEADER,
  SHORT_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_PAGE_HEADER,
} from "./page-header.ts";
import { PageCheck } from "./page-check.ts";
import { Outcome, type ReadFailure } from "./read-outcome.ts";
import type { ReaderOptions } from "./reader-options.ts";
import { createWalRecord, type WalRecord } from "./record.ts";
import {
  INFO_MASK,
  RECORD_HEADER,
  RECORD_HEADER_BYTES,
  RMGR_XLOG,
  XLOG_SWITCH,
} from "./record-header.ts";
import { RecordScan, WINDOW_BYTES } from "./record-scan.ts";
import type { SegmentBytes, SegmentSource } from "./segment-source.ts";
import { walFileName } from "./wal-file-name.ts";
import type { WalFormat } from "./wal-format.ts";

/** MaxAllocSize of utils/memutils.h: no server writes a longer record, so none is assembled. */
const LONGEST_RECORD_BYTES = 0x3fffffff;
const NO_PAGE = -1;
/** Of `#assemble`: another record begins where the rest of this one should be. */
const OVERWRITTEN = -1;

export class WalReader {
  readonly record: WalRecord = createWalRecord();
  failure: ReadFailure | undefined;
  /** Reading ended because the end that was asked for was reached. */
  endReached = false;
  /** The segment that `Outcome.segmentWanted` is about. */
  wantedHigh = 0;
  wantedLow = 0;
  /** LSN of the last record that was read: what an error is reported after. 0/0 before the first. */
  lastHigh = 0;
  lastLow = 0;

  readonly #format: WalFormat;
  readonly #messages: ReaderMessages;
  readonly #segmentBytes: number;
  readonly #timeline: number;
  readonly #source: SegmentSource;
  readonly #scan: RecordScan;
  readonly #pageCheck: PageCheck;
  readonly #endHigh: number;
  readonly #endLow: number;

  /** The segment that `#offset` is in, by its first LSN, and its bytes. */
  #segmentHigh = 0;
  #segmentLow = 0;
  #segment: SegmentBytes | undefined;
  /** The end that was asked for as an offset in this segment. */
  #endOffset = Infinity;
  /** Where the next record begins, or its page. */
  #offset = 0;

  readonly #window: Buffer;
  readonly #windowView: DataView;
  /** Offsets in the segment. */
  #windowStart = 0;
  #windowEnd = 0;
  /** The page whose header was checked last, and how many of its bytes may be read. */
  #page = NO_PAGE;
  #pageBytes = 0;
  #pageInfo = 0;
  #pageHeaderBytes = 0;
  #firstPageChecked = false;

  /** The record before: what xl_prev must name; both 0 where the reader was placed. */
  #decodedHigh = 0;
  #decodedLow = 0;

  /** A record that crosses pages: what there is of it so far. */
  #scratch: Buffer;
  #scratchView: DataView;
  #assembling = false;
  #assembled = 0;
  #headerChecked = false;
  #total = 0;
  #recordHigh = 0;
  #recordLow = 0;

  /** A search has read the record that `next` is to give. */
  #found = false;
  #searching = false;

  constructor(options: ReaderOptions) {
    this.#format = options.format;
    this.#messages = readerMessages(options.format);
    this.#segmentBytes = options.segmentBytes;
    this.#timeline = options.timeline;
    this.#source = options.source;
    this.#endHigh = options.endHigh ?? 0;
    this.#endLow = options.endLow ?? 0;
    this.#scan = options.scan ?? new RecordScan(options.format);
    this.#pageCheck = new PageCheck(options.format, this.#messages, options.segmentBytes);
    this.#window = this.#scan.window;
    this.#scratch = this.#scan.scratch;
    this.#windowView = viewOf(this.#window);
    this.#scratchView = viewOf(this.#scratch);
  }

  /**
   * Finds the first record that begins at this LSN or after it; `next` then gives it. Called again with the same
   * arguments after a segment was wanted.
   */
  find(high: number, low: number): Outcome {
    if (!this.#searching) {
      this.#searching = true;
      this.#place(high, low);
    }
    if (!this.#searchPlaced) {
      const outcome = this.#skipContinuation();
      if (outcome !== Outcome.record) return this.#endSearch(outcome);
      this.#searchPlaced = true;
    }
    for (;;) {
      const outcome = this.next();
      if (outcome !== Outcome.record) return this.#endSearch(outcome);
      const { lsnHigh, lsnLow } = this.record;
      if (lsnHigh > high || (lsnHigh === high && lsnLow >= low)) break;
    }
    this.#found = true;
    return this.#endSearch(Outcome.record);
  }

  #searchPlaced = false;

  /** Reads the next record. After `end` a further call tries the same place again. */
  next(): Outcome {
    if (this.#found) {
      this.#found = false;
      return Outcome.record;
    }
    this.failure = undefined;
    for (;;) {
      if (!this.#assembling) {
        const outcome = this.#begin();
        if (!this.#assembling) return outcome;
      }
      const outcome = this.#assemble();
      if (outcome !== OVERWRITTEN) return outcome;
    }
  }

  /**
   * Has the scan take the records that follow the one read last, without showing them, as far as they are whole in the
   * same page and without fault: `next` goes on with the others.
   * @returns false where there was none; else the record's `endHigh` and `endLow` are those of the last one.
   */
  takeRun(): boolean {
    const page = this.#page;
    const start = this.#offset - this.#windowStart;
    if (page === NO_PAGE || this.#offset < page + this.#pageHeaderBytes || this.#found)
      return false;
    const end = page + this.#pageBytes - this.#windowStart;
    const segmentLow = this.#segmentLow;
    const next = this.#scan.takeRun(
      start,
      end,
      this.#segmentHigh,
      (segmentLow + this.#offset) >>> 0,
      this.#decodedHigh,
      this.#decodedLow,
    );
    if (next <= start) return false;
    this.#recordHigh = this.#segmentHigh;
    this.#recordLow = (segmentLow + this.#windowStart + this.#scan.lastTaken()) >>> 0;
    this.#decodedHigh = this.#recordHigh;
    this.#decodedLow = this.#recordLow;
    this.#remember();
    this.#setOffset(this.#windowStart + next);
    return true;
  }

  /** Forgets what was read ahead, so that what a server has written since is seen. */
  reread(): void {
    this.#page = NO_PAGE;
    this.#windowEnd = this.#windowStart;
    this.#assembling = false;
  }

  /** Begins a record; sets `#assembling` where it crosses its page. */
  #begin(): Outcome {
    for (;;) {
      if (this.#segment === undefined && !this.#openSegment()) return Outcome.segmentWanted;
      const inPage = this.#offset % WAL_PAGE_BYTES;
      const page = this.#offset - inPage;
      if (page < this.#segmentBytes) return this.#beginIn(page, inPage);
      this.#nextSegment();
    }
  }

  #beginIn(page: number, inPage: number): Outcome {
    if (!this.#ensure(page, Math.min(inPage + RECORD_HEADER_BYTES, WAL_PAGE_BYTES))) {
      return this.#end();
    }
    let start = inPage;
    if (inPage === 0) start = this.#pageHeaderBytes;
    this.#recordHigh = this.#segmentHigh;
    this.#recordLow = (this.#segmentLow + page + start) >>> 0;
    if (start < this.#pageHeaderBytes) {
      return this.#invalid(
        this.#messages.recordOffset(this.#recordLsn(), this.#pageHeaderBytes, start),
      );
    }
    if ((this.#pageInfo & PAGE_CONTINUES) !== 0 && start === this.#pageHeaderBytes) {
      return this.#invalid(`contrecord is requested by ${this.#recordLsn()}`);
    }
    const at = page + start - this.#windowStart;
    const room = WAL_PAGE_BYTES - start;
    const total = this.#windowView.getUint32(at + RECORD_HEADER.totalLength, true);
    this.#total = total;
    this.#headerChecked = room >= RECORD_HEADER_BYTES;
    if (this.#headerChecked) {
      const problem = this.#headerProblem(this.#windowView, at);
      if (problem !== undefined) return this.#invalid(problem);
    } else if (total < RECORD_HEADER_BYTES) {
      return this.#invalid(this.#messages.recordLength(this.#recordLsn(), total));
    }
    if (total > room) {
      this.#assembling = true;
      this.#assembled = room;
      this.#window.copy(this.#scratch, 0, at, at + room);
      this.#offset = page + WAL_PAGE_BYTES;
      return Outcome.record;
    }
    if (!this.#ensure(page, start + total)) return this.#end();
    return this.#finish(
      this.#window,
      this.#windowView,
      page + start - this.#windowStart,
      page + start + aligned(total),
    );
  }

  /** Takes the rest of a record from the pages that follow. */
  #assemble(): Outcome | typeof OVERWRITTEN {
    while (this.#assembled < this.#total) {
      if (this.#offset >= this.#segmentBytes) this.#nextSegment();
      if (this.#segment === undefined && !this.#openSegment()) return Outcome.segmentWanted;
      const page = this.#offset;
      if (!this.#ensure(page, SHORT_HEADER_BYTES)) return this.#endAssembly();
      if ((this.#pageInfo & this.#format.overwriteContrecord) !== 0) {
        // The server that came up after a crash wrote over the rest of the record: it never was.
        this.#assembling = false;
        return OVERWRITTEN;
      }
      if ((this.#pageInfo & PAGE_CONTINUES) === 0) {
        return this.#invalidAssembly(`there is no contrecord flag at ${this.#recordLsn()}`);
      }
      const remaining = this.#windowView.getUint32(
        page - this.#windowStart + WAL_PAGE_HEADER.remaining,
        true,
      );
      const expected = this.#total - this.#assembled;
      if (remaining === 0 || remaining !== expected) {
        return this.#invalidAssembly(
          this.#messages.continuation(this.#recordLsn(), remaining, expected),
        );
      }
      const header = this.#pageHeaderBytes;
      const length = Math.min(expected, WAL_PAGE_BYTES - header);
      if (!this.#ensure(page, header + length)) return this.#endAssembly();
      if (!this.#reserve(this.#assembled + length)) {
        return this.#invalidAssembly(
          `record length ${this.#total} at ${this.#recordLsn()} too long`,
        );
      }
      const at = page + header - this.#windowStart;
      this.#window.copy(this.#scratch, this.#assembled, at, at + length);
      this.#assembled += length;
      if (!this.#headerChecked) {
        const problem = this.#headerProblem(this.#scratchView, 0);
        if (problem !== undefined) return this.#invalidAssembly(problem);
        this.#headerChecked = true;
      }
      this.#offset =
        this.#assembled < this.#total ? page + WAL_PAGE_BYTES : page + header + aligned(length);
    }
    this.#assembling = false;
    const next = this.#offset;
    const outcome = this.#finish(this.#scratch, this.#scratchView, 0, next);
    // What is wrong with the record as a whole is found again from its beginning.
    if (outcome !== Outcome.record) this.#returnToRecord();
    return outcome;
  }

  /** The whole record is there: checks it and takes it apart. @param next - offset of what follows it. */
  #finish(bytes: Buffer, view: DataView, start: number, next: number): Outcome {
    const total = this.#total;
    const crc = this.#scan.recordCrc(bytes, start, total);
    if (crc !== view.getUint32(start + RECORD_HEADER.crc, true)) {
      return this.#invalid(
        `incorrect resource manager data checksum in record at ${this.#recordLsn()}`,
      );
    }
    const { record } = this;
    record.bytes = bytes;
    record.start = start;
    record.isEncrypted = this.#segment?.isEncrypted === true;
    record.totalLength = total;
    record.xid = view.getUint32(start + RECORD_HEADER.xid, true);
    record.info = view.getUint8(start + RECORD_HEADER.info);
    record.rmid = view.getUint8(start + RECORD_HEADER.rmid);
    record.prevLow = view.getUint32(start + RECORD_HEADER.prev, true);
    record.prevHigh = view.getUint32(start + RECORD_HEADER.prev + 4, true);
    record.lsnHigh = this.#recordHigh;
    record.lsnLow = this.#recordLow;
    const problem = decodeRecord(record, view, this.#format);
    if (problem !== undefined) {
      // From 15 on records are decoded ahead, and the message names the one before.
      if (!this.#messages.decodesAhead) this.#remember();
      const place = formatHalves(this.lastHigh, this.lastLow, this.#format);
      return this.#invalid(`${problem} at ${place}`);
    }
    const isSwitch = record.rmid === RMGR_XLOG && (record.info & ~INFO_MASK) === XLOG_SWITCH;
    this.#setOffset(isSwitch ? this.#segmentBytes : next);
    this.#remember();
    this.#decodedHigh = this.#recordHigh;
    this.#decodedLow = this.#recordLow;
    return Outcome.record;
  }

  /** Where the record ends that was read last. */
  #setOffset(offset: number): void {
    this.#offset = offset;
    const end = this.#segmentLow + offset;
    this.record.endLow = end >>> 0;
    this.record.endHigh = end > 0xffffffff ? this.#segmentHigh + 1 : this.#segmentHigh;
  }

  #remember(): void {
    this.lastHigh = this.#recordHigh;
    this.lastLow = this.#recordLow;
  }

  /** What is wrong with a record's header. */
  #headerProblem(view: DataView, at: number): string | undefined {
    const total = view.getUint32(at + RECORD_HEADER.totalLength, true);
    if (total < RECORD_HEADER_BYTES) return this.#messages.recordLength(this.#recordLsn(), total);
    const rmid = view.getUint8(at + RECORD_HEADER.rmid);
    if (rmid >= this.#format.builtinRmgrCount && !(this.#format.customRmgrs && rmid >= 128)) {
      return `invalid resource manager ID ${rmid} at ${this.#recordLsn()}`;
    }
    const prevLow = view.getUint32(at + RECORD_HEADER.prev, true);
    const prevHigh = view.getUint32(at + RECORD_HEADER.prev + 4, true);
    const placed = this.#decodedHigh === 0 && this.#decodedLow === 0;
    const holds = placed
      ? prevHigh < this.#recordHigh || (prevHigh === this.#recordHigh && prevLow < this.#recordLow)
      : prevLow === this.#decodedLow && prevHigh === this.#decodedHigh;
    if (holds) return undefined;
    const prev = formatHalves(prevHigh, prevLow, this.#format);
    return `record with incorrect prev-link ${prev} at ${this.#recordLsn()}`;
  }

  /** Where the first record after the start of this page begins: sets `#offset`. */
  #skipContinuation(): Outcome {
    for (;;) {
      if (this.#offset >= this.#segmentBytes) this.#nextSegment();
      if (this.#segment === undefined && !this.#openSegment()) return Outcome.segmentWanted;
      const inPage = this.#offset % WAL_PAGE_BYTES;
      const page = this.#offset - inPage;
      if (!this.#ensure(page, inPage)) return this.#end();
      this.#offset = page + this.#pageHeaderBytes;
      if ((this.#pageInfo & PAGE_CONTINUES) === 0) return Outcome.record;
      const at = page - this.#windowStart + WAL_PAGE_HEADER.remaining;
      const remaining = aligned(this.#windowView.getUint32(at, true));
      if (remaining < WAL_PAGE_BYTES - this.#pageHeaderBytes) {
        this.#offset += remaining;
        return Outcome.record;
      }
      this.#offset = page + WAL_PAGE_BYTES;
    }
  }

  #endSearch(outcome: Outcome): Outcome {
    if (outcome !== Outcome.segmentWanted) {
      this.#searching = false;
      this.#searchPlaced = false;
    }
    return outcome;
  }

  /**
   * Has this page's header and its first `count` bytes in the window.
   * @returns false where they are not there; `failure` then says what is to be said.
   */
  #ensure(page: number, count: number): boolean {
    if (page === this.#page && count <= this.#pageBytes) return true;
    const isNew = page !== this.#page;
    this.#page = NO_PAGE;
    // A segment's first page tells whose it is, so it is looked at before any other.
    if (!this.#firstPageChecked) {
      this.#firstPageChecked = true;
      if (page !== 0 && !this.#ensure(0, WAL_PAGE_BYTES)) return false;
      this.#page = NO_PAGE;
    }
    const needed = Math.max(count, SHORT_HEADER_BYTES);
    let bytes = WAL_PAGE_BYTES;
    if (page + WAL_PAGE_BYTES > this.#endOffset) {
      bytes = this.#endOffset - page;
      if (needed > bytes || bytes <= SHORT_HEADER_BYTES) {
        this.endReached = true;
        return false;
      }
    }
    if (!this.#load(page, bytes)) return false;
    const at = page - this.#windowStart;
    const info = this.#windowView.getUint16(at + WAL_PAGE_HEADER.info, true);
    const headerBytes =
      (info & PAGE_HAS_LONG_HEADER) === 0 ? SHORT_HEADER_BYTES : LONG_HEADER_BYTES;
    if (bytes < headerBytes) {
      this.endReached = true;
      return false;
    }
    const problem = isNew
      ? this.#pageCheck.problem(
          this.#windowView,
          at,
          this.#segmentHigh,
          this.#segmentLow,
          page,
          this.#fileName,
        )
      : undefined;
    if (problem !== undefined) {
      this.failure = { kind: "invalid", message: problem };
      return false;
    }
    this.#page = page;
    this.#pageBytes = bytes;
    this.#pageInfo = info;
    this.#pageHeaderBytes = headerBytes;
    return true;
  }

  /** Has `count` bytes of this page in the window. */
  #load(page: number, count: number): boolean {
    if (page >= this.#windowStart && page + count <= this.#windowEnd) return true;
    const most = Math.min(WINDOW_BYTES, this.#segmentBytes - page);
    this.#windowStart = page;
    let got = 0;
    while (got < most) {
      const read = this.#segment?.read(this.#window, got, most - got, page + got) ?? 0;
      if (read === 0) break;
      got += read;
    }
    this.#windowEnd = page + got;
    if (got >= count) return true;
    this.failure = {
      kind: "short",
      fileName: this.#fileName(),
      offset: page + got,
      wanted: count - got,
    };
    return false;
  }

  /** Puts the reader at an LSN, as if nothing had been read before. */
  #place(high: number, low: number): void {
    const offset = low % this.#segmentBytes;
    this.#enter(high, low - offset);
    this.#offset = offset;
    this.#assembling = false;
    this.#found = false;
    this.#decodedHigh = 0;
    this.#decodedLow = 0;
    this.lastHigh = 0;
    this.lastLow = 0;
    this.failure = undefined;
    this.endReached = false;
  }

  #nextSegment(): void {
    const low = this.#segmentLow + this.#segmentBytes;
    const wraps = low > 0xffffffff;
    this.#enter(wraps ? this.#segmentHigh + 1 : this.#segmentHigh, wraps ? 0 : low);
    this.#offset = 0;
  }

  #enter(high: number, low: number): void {
    this.#segmentHigh = high;
    this.#segmentLow = low;
    this.#segment = undefined;
    this.#page = NO_PAGE;
    this.#firstPageChecked = false;
    this.#windowStart = 0;
    this.#windowEnd = 0;
    const hasEnd = this.#endHigh !== 0 || this.#endLow !== 0;
    this.#endOffset = hasEnd ? (this.#endHigh - high) * 2 ** 32 + (this.#endLow - low) : Infinity;
  }

  /** @returns false where the source has yet to fetch it. */
  #openSegment(): boolean {
    // An end at this segment's very beginning asks for nothing of it: the file may not exist.
    const inPage = this.#offset % WAL_PAGE_BYTES;
    if (this.#offset - inPage + SHORT_HEADER_BYTES > this.#endOffset) {
      this.#segment = NOTHING;
      return true;
    }
    const segment = this.#source.segment(this.#segmentHigh, this.#segmentLow);
    if (segment === undefined) {
      this.wantedHigh = this.#segmentHigh;
      this.wantedLow = this.#segmentLow;
      return false;
    }
    this.#segment = segment;
    return true;
  }

  /** Room for `length` bytes of a record, which are there: it grows with them, not with what a length claims. */
  #reserve(length: number): boolean {
    if (length <= this.#scratch.length) return true;
    if (this.#total > LONGEST_RECORD_BYTES) return false;
    const size = Math.min(Math.max(this.#total, length), 2 * length);
    const larger = Buffer.alloc(size);
    this.#scratch.copy(larger, 0, 0, this.#assembled);
    this.#scratch = larger;
    this.#scratchView = viewOf(larger);
    return true;
  }

  /** Where a record cannot be put together, the next attempt begins with it again. */
  #returnToRecord(): void {
    const offset = this.#recordLow % this.#segmentBytes;
    const low = this.#recordLow - offset;
    if (low !== this.#segmentLow || this.#recordHigh !== this.#segmentHigh) {
      this.#enter(this.#recordHigh, low);
    }
    this.#offset = offset;
    this.#assembling = false;
  }

  #endAssembly(): Outcome {
    this.#returnToRecord();
    return this.#end();
  }

  #invalidAssembly(message: string): Outcome {
    this.#returnToRecord();
    return this.#invalid(message);
  }

  #invalid(message: string): Outcome {
    this.failure = { kind: "invalid", message };
    return this.#end();
  }

  #end(): Outcome {
    this.#page = NO_PAGE;
    return Outcome.end;
  }

  #recordLsn(): string {
    return formatHalves(this.#recordHigh, this.#recordLow, this.#format);
  }

  readonly #fileName = (): string =>
    walFileName(
      { timeline: this.#timeline, high: this.#segmentHigh, low: this.#segmentLow },
      this.#segmentBytes,
    );
}

const NOTHING: SegmentBytes = { read: () => 0 };

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
