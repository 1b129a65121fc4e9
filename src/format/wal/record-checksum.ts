/**
 * The CRC of a record whose bytes lie over the pages of a segment: of its data, then of its header up to the CRC.
 * Source: access/xlogreader.c, ValidXLogRecord.
 */
import { crc32c } from "../../postgres/crc32c.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";
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

/** Of the n-th of the records that are wholly in the segment. */
export function wholeRecordCrc(map: SegmentMap, index: number): number {
  const { segment } = map;
  const at = map.wholeRecords[index] ?? 0;
  const total = segment.readUInt32LE(at);
  if ((at % WAL_PAGE_BYTES) + total <= WAL_PAGE_BYTES) {
    const data = crc32c(segment, at + RECORD_HEADER_BYTES, at + total);
    return crc32c(segment, at, at + RECORD_HEADER.crc, data);
  }
  const data = crcOver(map, map.advance(at, RECORD_HEADER_BYTES), total - RECORD_HEADER_BYTES, 0);
  return crcOver(map, at, RECORD_HEADER.crc, data);
}

/** Has every whole record the CRC of its bytes as they are now. */
export function writeWholeRecordCrcs(map: SegmentMap): void {
  for (let i = 0; i < map.wholeCount; i++) {
    map.segment.writeUInt32LE(wholeRecordCrc(map, i), map.wholeCrcs[i] ?? 0);
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
