/**
 * The header of a WAL page, where a block has one that is worth keeping readable: that of a supported major, whole
 * and in its form. Whose page it is does not matter: a recycled segment has the addresses of its former life.
 */
import {
  isSegmentSize,
  LONG_HEADER_BYTES,
  PAGE_CONTINUES,
  PAGE_HAS_LONG_HEADER,
  SHORT_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_PAGE_HEADER,
} from "../../wal/page-header.ts";
import { type WalFormat, walFormatOfMagic } from "../../wal/wal-format.ts";

/**
 * The bytes of the header of the page at this offset; 0 where there is none.
 * @param isFirst - of its segment: then, and only then, the header has the long form.
 */
export function pageHeaderBytes(
  segment: Buffer,
  page: number,
  isFirst: boolean = page === 0,
): number {
  const info = segment.readUInt16LE(page + WAL_PAGE_HEADER.info);
  const format = walFormatOfMagic(segment.readUInt16LE(page + WAL_PAGE_HEADER.magic));
  if (format === undefined || (info & ~format.allPageFlags) !== 0) return 0;
  const isLong = (info & PAGE_HAS_LONG_HEADER) !== 0;
  if (isLong !== isFirst) return 0;
  if (segment.readUInt32LE(page + WAL_PAGE_HEADER.pageAddress) % WAL_PAGE_BYTES !== 0) return 0;
  if (!isLong) return SHORT_HEADER_BYTES;
  const isWhole =
    isSegmentSize(segment.readUInt32LE(page + WAL_PAGE_HEADER.segmentSize)) &&
    segment.readUInt32LE(page + WAL_PAGE_HEADER.pageSize) === WAL_PAGE_BYTES;
  return isWhole ? LONG_HEADER_BYTES : 0;
}

/** The major of the first page that has a header; undefined where none has: then there are no records either. */
export function formatOfSegment(segment: Buffer): WalFormat | undefined {
  for (let page = 0; page < segment.length; page += WAL_PAGE_BYTES) {
    if (pageHeaderBytes(segment, page) > 0) {
      return walFormatOfMagic(segment.readUInt16LE(page + WAL_PAGE_HEADER.magic));
    }
  }
  return undefined;
}

/** The system identifier in a segment's first page; undefined where that has no header. */
export function storedSystemIdentifier(segment: Buffer): bigint | undefined {
  if (pageHeaderBytes(segment, 0) === 0) return undefined;
  return segment.readBigUInt64LE(WAL_PAGE_HEADER.systemId);
}

/**
 * Puts the guard into the first page, or takes it out: the system identifier as its bitwise complement. A server
 * refuses such WAL as another cluster's; pg_waldump does not look.
 */
export function complementSystemIdentifier(segment: Buffer): void {
  if (pageHeaderBytes(segment, 0) === 0) return;
  const { systemId } = WAL_PAGE_HEADER;
  for (let i = 0; i < 8; i++) {
    segment.writeUInt8(segment.readUInt8(systemId + i) ^ 0xff, systemId + i);
  }
}

/** How much of the page at this offset is the rest of a record that began on an earlier one; 0 where none is. */
export function continuationBytes(segment: Buffer, page: number): number {
  const info = segment.readUInt16LE(page + WAL_PAGE_HEADER.info);
  return (info & PAGE_CONTINUES) === 0 ? 0 : segment.readUInt32LE(page + WAL_PAGE_HEADER.remaining);
}
