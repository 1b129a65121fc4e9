/**
 * Takes a plain segment apart: finds its valid records and the ones that cross its ends. Only records whose CRC holds
 * are taken apart; where valid WAL ends, everything behind is secret.
 */
import type { WalRecord } from "../../wal/record.ts";
import { aligned, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { Outcome } from "../../wal/read-outcome.ts";
import { WalReader } from "../../wal/reader.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";
import type { SegmentBytes, SegmentSource } from "../../wal/segment-source.ts";
import { type PartScan, partScanOf } from "../../wal/structure/part-scan.ts";
import { readableParts } from "../../wal/structure/readable-parts.ts";
import { RecordParts } from "../../wal/structure/record-parts.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { type MapMemory, SegmentMap } from "./segment-map.ts";
import { continuationBytes, formatOfSegment, pageHeaderBytes } from "./wal-page.ts";

/** Where a segment is in the WAL. */
export interface SegmentPlace {
  /** LSN of its first byte, in two halves. */
  readonly high: number;
  readonly low: number;
  readonly timeline: number;
}

/** What is around a segment, plain; undefined where it is not at hand. */
export interface Neighbours {
  /** The segment `distance` places further on; negative: further back. */
  at(distance: number): SegmentBytes | undefined;
}

export const NO_NEIGHBOURS: Neighbours = { at: () => undefined };

/** @param segment - plain and whole. */
export function mapPlainSegment(
  segment: Buffer,
  place: SegmentPlace,
  neighbours: Neighbours,
  memory?: MapMemory,
): SegmentMap {
  const map = new SegmentMap(segment, memory);
  const format = formatOfSegment(segment);
  if (format !== undefined && hasOwnAddress(segment, 0, place)) {
    new PlainMapper(map, place, format, neighbours).run();
  }
  return map;
}

class PlainMapper {
  readonly #map: SegmentMap;
  readonly #place: SegmentPlace;
  readonly #format: WalFormat;
  readonly #neighbours: Neighbours;
  readonly #parts = new RecordParts();
  readonly #scan: PartScan;
  /** Where the next record would be, as far as it has been read; the segment's length where none is expected. */
  #next = 0;
  #lastPrev: { readonly high: number; readonly low: number } | undefined;

  constructor(map: SegmentMap, place: SegmentPlace, format: WalFormat, neighbours: Neighbours) {
    this.#map = map;
    this.#place = place;
    this.#format = format;
    this.#neighbours = neighbours;
    this.#scan = partScanOf(format);
  }

  run(): void {
    this.#mapLeading();
    this.#next = this.#firstRecord();
    const reader = this.#reader();
    const { high, low } = this.#place;
    const { length } = this.#map.segment;
    if (reader.find(high, low) === Outcome.record) this.#addRecords(reader);
    if (this.#next < length) this.#keepOpenHeader();
  }

  #addRecords(reader: WalReader): void {
    const { length } = this.#map.segment;
    while (this.#next < length && reader.next() === Outcome.record) {
      const { record } = reader;
      const start = this.#offsetOf(record.lsnHigh, record.lsnLow);
      // The reader passes over a record that a server wrote over after a crash: its header is what says so.
      const expected = skipHeader(this.#map, this.#next);
      if (start > expected) this.#map.addOpenHeader(expected);
      if (start >= length) {
        this.#next = length;
        return;
      }
      this.#addRecord(record, start);
      if (this.#next < length && reader.takeRun()) this.#addRun(reader);
    }
  }

  /** Those that the scan has taken apart. */
  #addRun(reader: WalReader): void {
    const { endHigh, endLow } = reader.record;
    const block = Math.floor(this.#next / WAL_PAGE_BYTES);
    this.#next = this.#offsetOf(endHigh, endLow);
    this.#map.addRun(block, this.#scan, this.#next);
    this.#lastPrev = { high: reader.lastHigh, low: reader.lastLow };
  }

  #addRecord(record: WalRecord, start: number): void {
    readableParts(record, this.#format, this.#parts);
    const { length } = this.#map.segment;
    const end = this.#map.advance(start, aligned(record.totalLength));
    if (end > length) {
      this.#map.addTrailing(start, {
        bounds: boundsWithin(this.#parts, 0, partLength(this.#map, start)),
        crcAt: crcOffset(this.#map, start, 0),
        before: Buffer.alloc(0),
        goesOn: true,
      });
      this.#next = length;
    } else {
      this.#map.addWhole(start, this.#parts);
      // Of a switch of segments: where the next one begins.
      this.#next = this.#offsetOf(record.endHigh, record.endLow);
    }
    this.#lastPrev = { high: record.lsnHigh, low: record.lsnLow };
  }

  /** The record that began before this segment, where it is whole and valid. */
  #mapLeading(): void {
    const { segment } = this.#map;
    const rest = continuationBytes(segment, 0);
    if (rest === 0) return;
    const from = this.#pageOfBeginning();
    if (from === undefined) return;
    const reader = this.#reader();
    const { high, low } = lsnAt(this.#place, from);
    if (reader.find(high, low) !== Outcome.record) return;
    while (reader.next() === Outcome.record) {
      const { record } = reader;
      if (this.#offsetOf(record.lsnHigh, record.lsnLow) >= 0) return;
      if (this.#offsetOf(record.endHigh, record.endLow) <= 0) continue;
      this.#addLeading(record, record.totalLength - rest);
      return;
    }
  }

  #addLeading(record: WalRecord, before: number): void {
    readableParts(record, this.#format, this.#parts);
    const start = this.#map.headerOf(0);
    const room = partLength(this.#map, start);
    const left = aligned(record.totalLength) - before;
    this.#map.addLeading({
      bounds: boundsWithin(this.#parts, before, Math.min(left, room)),
      crcAt: crcOffset(this.#map, start, before),
      before: headerBefore(record, before),
      goesOn: left > room,
    });
  }

  /**
   * The last page before this segment on which a record begins.
   * @returns its offset from the segment's first byte, negative; undefined where WAL before it is not at hand.
   */
  #pageOfBeginning(): number | undefined {
    const page = Buffer.alloc(WAL_PAGE_BYTES);
    const { length } = this.#map.segment;
    for (let offset = -WAL_PAGE_BYTES; ; offset -= WAL_PAGE_BYTES) {
      const distance = Math.floor(offset / length);
      const source = this.#neighbours.at(distance);
      const position = offset - distance * length;
      if (source === undefined || source.read(page, 0, page.length, position) < page.length) {
        return undefined;
      }
      const header = pageHeaderBytes(page, 0, position === 0);
      if (header === 0 || !hasOwnAddress(page, 0, lsnAt(this.#place, offset))) return undefined;
      if (aligned(continuationBytes(page, 0)) < WAL_PAGE_BYTES - header) return offset;
    }
  }

  /** Where the first record begins, if one does: behind the rest of one that began earlier. */
  #firstRecord(): number {
    const { segment, blockCount } = this.#map;
    for (let block = 0; block < blockCount; block++) {
      const page = block * WAL_PAGE_BYTES;
      const header = this.#map.headerOf(block);
      if (header === 0 || !hasOwnAddress(segment, page, lsnAt(this.#place, page))) break;
      const rest = aligned(continuationBytes(segment, page));
      if (rest < WAL_PAGE_BYTES - header) return page + header + rest;
    }
    return segment.length;
  }

  /** A header at the end of valid WAL that holds but for the record's CRC or its rest: stock tools report on it. */
  #keepOpenHeader(): void {
    const { segment } = this.#map;
    const at = skipHeader(this.#map, this.#next);
    if (at >= segment.length) return;
    const page = at - (at % WAL_PAGE_BYTES);
    if (!hasOwnAddress(segment, page, lsnAt(this.#place, page))) return;
    if (at !== this.#next && continuationBytes(segment, page) > 0) return;
    const room = page + WAL_PAGE_BYTES - at;
    const previous = this.#lastPrev;
    if (room < RECORD_HEADER.info || previous === undefined) return;
    const total = segment.readUInt32LE(at + RECORD_HEADER.totalLength);
    const prevLow = segment.readUInt32LE(at + RECORD_HEADER.prev);
    const prevHigh = segment.readUInt32LE(at + RECORD_HEADER.prev + 4);
    if (total < RECORD_HEADER_BYTES) return;
    if (prevLow !== previous.low || prevHigh !== previous.high) return;
    this.#map.addOpenHeader(at);
  }

  #reader(): WalReader {
    const { segment } = this.#map;
    const own = bytesOf(segment);
    const source: SegmentSource = {
      segment: (high, low) => {
        const distance = Math.round(this.#offsetOf(high, low) / segment.length);
        return distance === 0 ? own : this.#neighbours.at(distance);
      },
    };
    return new WalReader({
      format: this.#format,
      segmentBytes: segment.length,
      timeline: this.#place.timeline,
      source,
      scan: this.#scan,
    });
  }

  #offsetOf(high: number, low: number): number {
    return (high - this.#place.high) * 2 ** 32 + (low - this.#place.low);
  }
}

/**
 * Completes the map of a segment that was stored: what of the first record's header is in the segment before is in no
 * slot, because only the CRC as it is stored needs it.
 * @param lastBytes - gives so many bytes of the end of the segment before, 8 or 16.
 */
export function completeLeading(map: SegmentMap, lastBytes: (count: number) => Buffer): void {
  const { leading } = map;
  if (leading?.crcAt === undefined) return;
  const start = map.headerOf(0);
  const before = lastBytes(RECORD_HEADER.crc - (leading.crcAt - start));
  const total = before.readUInt32LE(RECORD_HEADER.totalLength);
  const goesOn = aligned(total) - before.length > partLength(map, start);
  map.leading = { ...leading, before, goesOn };
}

/** The beginning of its header that is before this segment, where its xl_crc is in it. */
function headerBefore({ bytes, start }: WalRecord, before: number): Buffer {
  return Buffer.from(bytes.subarray(start, start + Math.min(before, RECORD_HEADER.crc)));
}

/** Of the parts of a record those of its bytes from `from` on, `length` bytes of them, relative to `from`. */
function boundsWithin(parts: RecordParts, from: number, length: number): number[] {
  const bounds: number[] = [];
  for (let i = 0; i < parts.count; i++) {
    const bound = (parts.bounds[i] ?? 0) - from;
    if (bound <= 0) {
      // A part that lies before: the first that counts is structure, of no bytes where it is a secret.
      if (i % 2 === 0 && (parts.bounds[i + 1] ?? 0) - from > 0) bounds.push(0);
      continue;
    }
    bounds.push(Math.min(bound, length));
    if (bound >= length) break;
  }
  return bounds;
}

/** Bytes of a record that begins or goes on at this offset, up to the segment's end. */
function partLength(map: SegmentMap, offset: number): number {
  let bytes = WAL_PAGE_BYTES - (offset % WAL_PAGE_BYTES);
  for (let block = Math.floor(offset / WAL_PAGE_BYTES) + 1; block < map.blockCount; block++) {
    bytes += WAL_PAGE_BYTES - map.headerOf(block);
  }
  return bytes;
}

/** @param before - bytes of the record before this part. */
function crcOffset(map: SegmentMap, offset: number, before: number): number | undefined {
  if (before > RECORD_HEADER.crc) return undefined;
  const at = map.advance(offset, RECORD_HEADER.crc - before);
  return at < map.segment.length ? at : undefined;
}

/** A record that would begin where a page does begins behind its header. */
function skipHeader(map: SegmentMap, offset: number): number {
  const isPage = offset % WAL_PAGE_BYTES === 0 && offset < map.segment.length;
  return isPage ? offset + map.headerOf(offset / WAL_PAGE_BYTES) : offset;
}

function hasOwnAddress(
  segment: Buffer,
  page: number,
  { high, low }: Pick<SegmentPlace, "high" | "low">,
): boolean {
  const at = page + WAL_PAGE_HEADER.pageAddress;
  return segment.readUInt32LE(at) === low && segment.readUInt32LE(at + 4) === high;
}

/** The LSN of an offset of the segment, which may be negative. */
function lsnAt({ high, low }: SegmentPlace, offset: number): { high: number; low: number } {
  const sum = low + offset;
  const carry = Math.floor(sum / 2 ** 32);
  return { high: high + carry, low: sum - carry * 2 ** 32 };
}

export function bytesOf(segment: Buffer): SegmentBytes {
  return {
    read: (buffer, offset, length, position) => {
      const count = Math.min(length, segment.length - position);
      if (count <= 0) return 0;
      buffer.set(segment.subarray(position, position + count), offset);
      return count;
    },
  };
}
