/**
 * The CRC of a record whose bytes lie over the pages of a segment: of its data, then of its header up to the CRC.
 * Source: access/xlogreader.c, ValidXLogRecord.
 */
import { crc32c } from "../../postgres/crc32c.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";
import { RecordScan, WINDOW_BYTES } from "../../wal/record-scan.ts";
import { formatOfSegment } from "./wal-page.ts";
import type { CrossingPart, SegmentMap } from "./segment-map.ts";

/** What the CRC of a record lacks that goes on in the next segment. */
export interface OpenCrc {
  /** Offset of the xl_crc in its segment. */
  readonly crcAt: number;
  /** The CRC of the record's data so far. */
  readonly dataCrc: number;
  /** The header up to the CRC, which is to be counted last. */
  readonly header: Buffer;
}

/** The CRCs of the records that are wholly in a segment, one after the other, of its bytes as they are then. */
export class WholeRecordCrcs {
  readonly #map: SegmentMap;
  readonly #scan: RecordScan | undefined;
  /** Where the bytes begin that the scan's window holds. */
  #windowStart = -Infinity;

  constructor(map: SegmentMap) {
    this.#map = map;
    const format = formatOfSegment(map.segment);
    this.#scan = format && new RecordScan(format);
  }

  /** Of the n-th of them; n never goes back. */
  of(index: number): number {
    const { segment, wholeRecords } = this.#map;
    const at = wholeRecords[index] ?? 0;
    const total = segment.readUInt32LE(at);
    const isOnOnePage = (at % WAL_PAGE_BYTES) + total <= WAL_PAGE_BYTES;
    if (this.#scan !== undefined && isOnOnePage) return this.#inWindow(this.#scan, at, total);
    const map = this.#map;
    const rest = map.advance(at, RECORD_HEADER_BYTES);
    const data = crcOver(map, rest, total - RECORD_HEADER_BYTES, 0);
    return crcOver(map, at, RECORD_HEADER.crc, data);
  }

  /** The module computes over its own memory, several times as fast. */
  #inWindow(scan: RecordScan, at: number, total: number): number {
    if (at < this.#windowStart || at + total > this.#windowStart + WINDOW_BYTES) {
      this.#windowStart = at - (at % WAL_PAGE_BYTES);
      const end = Math.min(this.#windowStart + WINDOW_BYTES, this.#map.segment.length);
      this.#map.segment.copy(scan.window, 0, this.#windowStart, end);
    }
    return scan.recordCrc(scan.window, at - this.#windowStart, total);
  }
}

/** Has every whole record the CRC of its bytes as they are now. */
export function writeWholeRecordCrcs(map: SegmentMap): void {
  const crcs = new WholeRecordCrcs(map);
  for (let i = 0; i < map.wholeCount; i++) {
    map.segment.writeUInt32LE(crcs.of(i), map.wholeCrcs[i] ?? 0);
  }
}

/**
 * The CRC of a record that crosses an end of the segment, as far as the segment has it.
 * @param start - where its part in this segment begins.
 * @param end - bytes of the record up to its end, from `start` on, padding left out; Infinity: beyond the segment.
 * @returns undefined where the xl_crc is in an earlier segment.
 */
export function crossingCrc(
  map: SegmentMap,
  start: number,
  part: CrossingPart,
  end: number,
): OpenCrc | undefined {
  const { segment } = map;
  const { crcAt, before } = part;
  if (crcAt === undefined) return undefined;
  const header = Buffer.alloc(RECORD_HEADER.crc);
  before.copy(header);
  copyOut(map, start, header, before.length);
  const data = crcAt + RECORD_HEADER_BYTES - RECORD_HEADER.crc;
  const from = data % WAL_PAGE_BYTES === 0 ? map.advance(data - 1, 1) : data;
  const dataBytes = end - (RECORD_HEADER_BYTES - before.length);
  return { crcAt, header, dataCrc: from >= segment.length ? 0 : crcOver(map, from, dataBytes, 0) };
}

/** Bytes of a record on one page of the next segment. */
export function closeCrc({ dataCrc, header }: OpenCrc, rest: Iterable<Buffer>): number {
  let crc = dataCrc;
  for (const part of rest) crc = crc32c(part, 0, part.length, crc);
  return crc32c(header, 0, header.length, crc);
}

/** @param count - of bytes; those beyond the segment are left out. */
function crcOver(map: SegmentMap, offset: number, count: number, previous: number): number {
  const { segment } = map;
  let crc = previous;
  for (let at = offset, left = count; left > 0 && at < segment.length;) {
    const length = Math.min(left, WAL_PAGE_BYTES - (at % WAL_PAGE_BYTES));
    crc = crc32c(segment, at, at + length, crc);
    left -= length;
    at += length;
    if (at % WAL_PAGE_BYTES === 0 && at < segment.length) at += map.headerOf(at / WAL_PAGE_BYTES);
  }
  return crc;
}

function copyOut(map: SegmentMap, offset: number, to: Buffer, toAt: number): void {
  for (let at = offset, done = toAt; done < to.length;) {
    const length = Math.min(to.length - done, WAL_PAGE_BYTES - (at % WAL_PAGE_BYTES));
    map.segment.copy(to, done, at, at + length);
    done += length;
    at += length;
    if (at % WAL_PAGE_BYTES === 0 && at < map.segment.length) {
      at += map.headerOf(at / WAL_PAGE_BYTES);
    }
  }
}
