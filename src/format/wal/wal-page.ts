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
  const padding = segment.readUInt32LE(page + WAL_PAGE_HEADER.padding);
  const isWhole =
    (padding === 0 || padding === GUARD_MARK) &&
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

/** "TDEW", in the padding of a stored segment's first page header: what no server writes and no tool reads. */
const GUARD_MARK = 0x57454454;

/** What a segment's first page says of it. */
export interface FirstPage {
  /** It has the guard: the segment is stored, whatever has become of its sidecar. */
  readonly isGuarded: boolean;
  /** The true one; not authenticated. */
  readonly systemIdentifier: bigint;
}

/** @returns undefined where the page has no header: it can have no guard either. */
export function firstPageOf(segment: Buffer): FirstPage | undefined {
  if (pageHeaderBytes(segment, 0) === 0) return undefined;
  const isGuarded = segment.readUInt32LE(WAL_PAGE_HEADER.padding) === GUARD_MARK;
  const stored = segment.readBigUInt64LE(WAL_PAGE_HEADER.systemId);
  return { isGuarded, systemIdentifier: isGuarded ? BigInt.asUintN(64, ~stored) : stored };
}

/**
 * Puts the guard into the first page, or takes it out. The system identifier becomes its bitwise complement: a server
 * refuses such WAL as another cluster's; pg_waldump does not look. The mark tells it from the identifier of a cluster.
 */
export function toggleGuard(segment: Buffer): void {
  const page = firstPageOf(segment);
  if (page === undefined) return;
  const { padding, systemId } = WAL_PAGE_HEADER;
  segment.writeUInt32LE(page.isGuarded ? 0 : GUARD_MARK, padding);
  const { systemIdentifier } = page;
  const other = page.isGuarded ? systemIdentifier : BigInt.asUintN(64, ~systemIdentifier);
  segment.writeBigUInt64LE(other, systemId);
}

/** How much of the page at this offset is the rest of a record that began on an earlier one; 0 where none is. */
export function continuationBytes(segment: Buffer, page: number): number {
  const info = segment.readUInt16LE(page + WAL_PAGE_HEADER.info);
  return (info & PAGE_CONTINUES) === 0 ? 0 : segment.readUInt32LE(page + WAL_PAGE_HEADER.remaining);
}
