/**
 * The CRC of a record whose bytes lie over the pages of a segment: of its data, then of its header up to the CRC.
 * Source: access/xlogreader.c, ValidXLogRecord.
 */
import { crc32c } from "../../postgres/crc32c.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";
import { WINDOW_BYTES } from "../../wal/record-scan.ts";
import { MOST_RECORDS, type PartScan, partScanOf } from "../../wal/structure/part-scan.ts";
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

/** Has every whole record the CRC of its bytes as they are now. */
export function writeWholeRecordCrcs(map: SegmentMap): void {
  const { segment, wholeCount, wholeCrcs, wholeRecords } = map;
  const format = formatOfSegment(segment);
  const scan = format && partScanOf(format);
  const view = new DataView(segment.buffer, segment.byteOffset, segment.length);
  for (let i = 0; i < wholeCount;) {
    const next = scan === undefined ? i : endOfWindow(map, i);
    if (scan === undefined || next === i) {
      const crc = crcOfRecord(map, wholeRecords[i] ?? 0);
      view.setUint32(wholeCrcs[i++] ?? 0, crc, true);
      continue;
    }
    const crcs = crcsInWindow(map, scan, wholeRecords.subarray(i, next));
    for (const crc of crcs) view.setUint32(wholeCrcs[i++] ?? 0, crc, true);
  }
}

/** The first record that is not wholly in a window that begins with the page of this one, or that is too many. */
function endOfWindow({ segment, wholeCount, wholeRecords }: SegmentMap, first: number): number {
  const windowEnd = windowStartOf(wholeRecords[first] ?? 0) + WINDOW_BYTES;
  const most = Math.min(wholeCount, first + MOST_RECORDS);
  // A record is before the next one begins.
  for (let i = first; i < most; i++) {
    const end = i + 1 < wholeCount ? (wholeRecords[i + 1] ?? 0) : segment.length;
    if (end > windowEnd) return i;
  }
  return most;
}

function windowStartOf(record: number): number {
  return record - (record % WAL_PAGE_BYTES);
}

/** The module computes over its own memory, several times as fast. */
function crcsInWindow(map: SegmentMap, scan: PartScan, records: Int32Array): Uint32Array {
  const { segment, headerBytes } = map;
  const start = windowStartOf(records[0] ?? 0);
  segment.copy(scan.window, 0, start, Math.min(start + WINDOW_BYTES, segment.length));
  const page = start / WAL_PAGE_BYTES;
  const headers = headerBytes.subarray(page, page + WINDOW_BYTES / WAL_PAGE_BYTES);
  return scan.recordCrcs(records, start, headers);
}

function crcOfRecord(map: SegmentMap, at: number): number {
  const total = map.segment.readUInt32LE(at);
  const data = map.advance(at, RECORD_HEADER_BYTES);
  const crc = crcOver(map, data, total - RECORD_HEADER_BYTES, 0);
  return crcOver(map, at, RECORD_HEADER.crc, crc);
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
