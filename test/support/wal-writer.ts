/**
 * Writes records as a server lays them out: in pages with headers, across pages and segments, each with its link to
 * the one before and its CRC. For WAL that no fixture holds: other majors, segment sizes, positions, contents.
 * Source: access/xlog_internal.h, access/xlogrecord.h.
 */
import { crc32c } from "../../src/postgres/crc32c.ts";
import {
  aligned,
  LONG_HEADER_BYTES,
  PAGE_CONTINUES,
  PAGE_HAS_LONG_HEADER,
  SHORT_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_PAGE_HEADER,
} from "../../src/wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../src/wal/record-header.ts";
import type { WalFormat } from "../../src/wal/wal-format.ts";

export interface WalLayout {
  readonly format: WalFormat;
  readonly segmentBytes: number;
  /** 1 by default. */
  readonly timeline?: number;
  /** LSN of the first page; 0/1000000 by default. */
  readonly start?: bigint;
}

export interface WrittenWal {
  /** Whole pages; behind the last record they are zero. */
  readonly bytes: Buffer;
  /** Where in `bytes` each record begins. */
  readonly offsets: readonly number[];
}

const DEFAULT_START = 0x1000000n;
const SYSTEM_ID = 7_000_000_000_000_000_001n;

/** @param records - whole ones; their links and CRCs are set here, in copies. */
export function writeWal(records: readonly Buffer[], layout: WalLayout): WrittenWal {
  const start = layout.start ?? DEFAULT_START;
  const pages: Buffer[] = [];
  const offsets: number[] = [];
  let page: Buffer = Buffer.alloc(0);
  let offset = 0;
  const turnPage = (remaining: number): void => {
    page = pageWithHeader(layout, start + BigInt(offset), remaining);
    pages.push(page);
    offset += isLong(page) ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
  };
  let prev = 0n;
  for (const original of records) {
    offset = aligned(offset);
    if (offset % WAL_PAGE_BYTES === 0) turnPage(0);
    offsets.push(offset);
    const record = withLinkAndCrc(original, prev);
    prev = start + BigInt(offset);
    for (let done = 0; done < record.length;) {
      if (offset % WAL_PAGE_BYTES === 0) turnPage(record.length - done);
      const copied = record.copy(page, offset % WAL_PAGE_BYTES, done);
      done += copied;
      offset += copied;
    }
  }
  return { bytes: Buffer.concat(pages), offsets };
}

function withLinkAndCrc(original: Buffer, prev: bigint): Buffer {
  const record = Buffer.from(original);
  record.writeBigUInt64LE(prev, RECORD_HEADER.prev);
  const crc = crc32c(record, 0, RECORD_HEADER.crc, crc32c(record, RECORD_HEADER_BYTES));
  record.writeUInt32LE(crc, RECORD_HEADER.crc);
  return record;
}

function pageWithHeader(
  { format, segmentBytes, timeline = 1 }: WalLayout,
  lsn: bigint,
  remaining: number,
): Buffer {
  const page = Buffer.alloc(WAL_PAGE_BYTES);
  const long = lsn % BigInt(segmentBytes) === 0n;
  page.writeUInt16LE(format.pageMagic, WAL_PAGE_HEADER.magic);
  page.writeUInt16LE(
    (remaining > 0 ? PAGE_CONTINUES : 0) | (long ? PAGE_HAS_LONG_HEADER : 0),
    WAL_PAGE_HEADER.info,
  );
  page.writeUInt32LE(timeline, WAL_PAGE_HEADER.timeline);
  page.writeBigUInt64LE(lsn, WAL_PAGE_HEADER.pageAddress);
  page.writeUInt32LE(remaining, WAL_PAGE_HEADER.remaining);
  if (!long) return page;
  page.writeBigUInt64LE(SYSTEM_ID, WAL_PAGE_HEADER.systemId);
  page.writeUInt32LE(segmentBytes, WAL_PAGE_HEADER.segmentSize);
  page.writeUInt32LE(WAL_PAGE_BYTES, WAL_PAGE_HEADER.pageSize);
  return page;
}

function isLong(page: Buffer): boolean {
  return (page.readUInt16LE(WAL_PAGE_HEADER.info) & PAGE_HAS_LONG_HEADER) !== 0;
}
