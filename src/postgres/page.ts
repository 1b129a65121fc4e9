/**
 * The header of a relation page. A header is data, never trusted: parsing one tells what stands there, whether it
 * makes sense or not. Source: storage/bufpage.h (PageHeaderData).
 */
import { type Lsn, lsn } from "./lsn.ts";

/** Offsets in a page, little-endian. */
export const PAGE_HEADER = {
  lsn: 0, //              pd_lsn: two u32, the high word first
  checksum: 8, //         pd_checksum, u16
  flags: 10, //           pd_flags, u16
  lower: 12, //           pd_lower, u16: end of line pointers
  upper: 14, //           pd_upper, u16: start of tuples
  special: 16, //         pd_special, u16: start of special space
  pageSizeVersion: 18, // pd_pagesize_version, u16: page size + layout version
  pruneXid: 20, //        pd_prune_xid, u32
} as const;
export const PAGE_HEADER_BYTES = 24;

export const MIN_BLOCK_SIZE_BYTES = 1024;
export const MAX_BLOCK_SIZE_BYTES = 32768;

/** Bits of pd_flags that PostgreSQL sets (PD_VALID_FLAG_BITS): has free lines, page full, all visible. */
export const PAGE_VALID_FLAGS = 0x0007;

export interface PageHeader {
  readonly lsn: Lsn;
  readonly checksum: number;
  readonly flags: number;
  readonly lower: number;
  readonly upper: number;
  readonly special: number;
  readonly pageSizeBytes: number;
  readonly layoutVersion: number;
  readonly pruneXid: number;
}

/** What stands in the 24 bytes at `offsetBytes`. */
export function parsePageHeader(page: Buffer, offsetBytes = 0): PageHeader {
  const pageSizeVersion = page.readUInt16LE(offsetBytes + PAGE_HEADER.pageSizeVersion);
  return {
    lsn: readPageLsn(page, offsetBytes),
    checksum: page.readUInt16LE(offsetBytes + PAGE_HEADER.checksum),
    flags: page.readUInt16LE(offsetBytes + PAGE_HEADER.flags),
    lower: page.readUInt16LE(offsetBytes + PAGE_HEADER.lower),
    upper: page.readUInt16LE(offsetBytes + PAGE_HEADER.upper),
    special: page.readUInt16LE(offsetBytes + PAGE_HEADER.special),
    pageSizeBytes: pageSizeVersion & 0xff00,
    layoutVersion: pageSizeVersion & 0x00ff,
    pruneXid: page.readUInt32LE(offsetBytes + PAGE_HEADER.pruneXid),
  };
}

/** Writes the 24 bytes that `parsePageHeader` reads. */
export function writePageHeader(header: PageHeader, page: Buffer, offsetBytes = 0): void {
  page.writeUInt32LE(Number(header.lsn >> 32n), offsetBytes + PAGE_HEADER.lsn);
  page.writeUInt32LE(Number(header.lsn & 0xffffffffn), offsetBytes + PAGE_HEADER.lsn + 4);
  page.writeUInt16LE(header.checksum, offsetBytes + PAGE_HEADER.checksum);
  page.writeUInt16LE(header.flags, offsetBytes + PAGE_HEADER.flags);
  page.writeUInt16LE(header.lower, offsetBytes + PAGE_HEADER.lower);
  page.writeUInt16LE(header.upper, offsetBytes + PAGE_HEADER.upper);
  page.writeUInt16LE(header.special, offsetBytes + PAGE_HEADER.special);
  page.writeUInt16LE(
    header.pageSizeBytes | header.layoutVersion,
    offsetBytes + PAGE_HEADER.pageSizeVersion,
  );
  page.writeUInt32LE(header.pruneXid, offsetBytes + PAGE_HEADER.pruneXid);
}

/** pd_lsn is no 64-bit integer but two words of 32 bits, the high one first. */
export function readPageLsn(page: Buffer, offsetBytes = 0): Lsn {
  const high = page.readUInt32LE(offsetBytes + PAGE_HEADER.lsn);
  const low = page.readUInt32LE(offsetBytes + PAGE_HEADER.lsn + 4);
  return lsn((BigInt(high) << 32n) | BigInt(low));
}

const ZEROS = Buffer.alloc(MAX_BLOCK_SIZE_BYTES);

/** Whether every byte is zero: a page that the server has added to a file and not yet filled. At most 32 kB. */
export function isZero(page: Uint8Array): boolean {
  // Few pages that are not zero begin with zeros: one comparison of a byte or two settles almost all of them.
  return page[0] === 0 && ZEROS.compare(page, 0, page.length, 0, page.length) === 0;
}
