/**
 * The header of a WAL page. Source: access/xlog_internal.h, XLogPageHeaderData and XLogLongPageHeaderData.
 */

/** XLOG_BLCKSZ as every distribution builds it. */
export const WAL_PAGE_BYTES = 8192;

/** Little-endian; the long form, of a segment's first page, goes on after it. */
export const WAL_PAGE_HEADER = {
  magic: 0, //     u16  names the major
  info: 2, //      u16  flags
  timeline: 4, //  u32
  pageAddress: 8, // u64  LSN of this page
  remaining: 16, // u32  bytes of a record that began on an earlier page
  padding: 20, //  u32  zero as servers write it, and read by nobody
  systemId: 24, // u64  long form only, as what follows
  segmentSize: 32, // u32
  pageSize: 36, // u32  XLOG_BLCKSZ
} as const;
export const SHORT_HEADER_BYTES = 24;
export const LONG_HEADER_BYTES = 40;

/** XLP_FIRST_IS_CONTRECORD: the page begins with the rest of a record. */
export const PAGE_CONTINUES = 0x01;
/** XLP_LONG_HEADER. */
export const PAGE_HAS_LONG_HEADER = 0x02;

/** Structures in WAL begin at multiples of this: MAXIMUM_ALIGNOF. */
export const ALIGNMENT = 8;

export function aligned(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

const SMALLEST_SEGMENT_BYTES = 2 ** 20;
const LARGEST_SEGMENT_BYTES = 2 ** 30;

/** IsValidWalSegSize: a power of two from 1 MB to 1 GB. */
export function isSegmentSize(bytes: number): boolean {
  return (
    bytes >= SMALLEST_SEGMENT_BYTES && bytes <= LARGEST_SEGMENT_BYTES && (bytes & (bytes - 1)) === 0
  );
}
