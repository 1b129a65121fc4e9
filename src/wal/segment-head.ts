/**
 * What the first page of a whole WAL segment says of it: of which cluster it is, and which segment. Source:
 * access/xlog_internal.h, XLogLongPageHeaderData, and the checks of XLogReaderValidatePageHeader.
 */
import { FormatError, IntegrityError } from "../errors.ts";
import {
  isSegmentSize,
  LONG_HEADER_BYTES,
  PAGE_HAS_LONG_HEADER,
  WAL_PAGE_BYTES,
  WAL_PAGE_HEADER,
} from "./page-header.ts";
import { parseWalFileName } from "./wal-file-name.ts";
import { type WalFormat, walFormatOfMagic } from "./wal-format.ts";

export interface SegmentHead {
  readonly format: WalFormat;
  readonly systemIdentifier: bigint;
  readonly segmentBytes: number;
}

/** As much of a segment as `parseSegmentHead` looks at. */
export const SEGMENT_HEAD_BYTES: number = LONG_HEADER_BYTES;

/**
 * @param start - the first bytes of the file, SEGMENT_HEAD_BYTES where it has as many.
 * @param sizeBytes - of the whole file.
 * @param name - of the segment, also `.partial`: says which one it has to be.
 * @param where - the file, for messages.
 * @throws {FormatError} when it is no whole segment of a known major. @throws {IntegrityError} when it is another one.
 */
export function parseSegmentHead(
  start: Buffer,
  sizeBytes: number,
  name: string,
  where: string,
): SegmentHead {
  if (sizeBytes < LONG_HEADER_BYTES) {
    throw notWhole(where, `it has ${sizeBytes} bytes`);
  }
  if (start.every((byte) => byte === 0)) throw notWhole(where, "it begins with zeros");
  const magic = start.readUInt16LE(WAL_PAGE_HEADER.magic);
  const format = walFormatOfMagic(magic);
  if (format === undefined) {
    throw notWhole(where, `its first page has the unknown magic 0x${magic.toString(16)}`);
  }
  const hasLongHeader = (start.readUInt16LE(WAL_PAGE_HEADER.info) & PAGE_HAS_LONG_HEADER) !== 0;
  const segmentBytes = start.readUInt32LE(WAL_PAGE_HEADER.segmentSize);
  const pageBytes = start.readUInt32LE(WAL_PAGE_HEADER.pageSize);
  if (!hasLongHeader || pageBytes !== WAL_PAGE_BYTES || !isSegmentSize(segmentBytes)) {
    throw notWhole(where, "its first page has no valid long header");
  }
  if (sizeBytes !== segmentBytes) {
    throw notWhole(where, `it has ${sizeBytes} bytes of ${segmentBytes}`);
  }
  const systemIdentifier = start.readBigUInt64LE(WAL_PAGE_HEADER.systemId);
  if (systemIdentifier === 0n) throw notWhole(where, "its system identifier is 0");
  requireName(start, segmentBytes, name, where);
  return { format, systemIdentifier, segmentBytes };
}

/** After a switch of timelines a segment begins with pages of the one before: of an older timeline, never a newer. */
function requireName(start: Buffer, segmentBytes: number, name: string, where: string): void {
  const named = parseWalFileName(name, segmentBytes);
  const low = start.readUInt32LE(WAL_PAGE_HEADER.pageAddress);
  const high = start.readUInt32LE(WAL_PAGE_HEADER.pageAddress + 4);
  const timeline = start.readUInt32LE(WAL_PAGE_HEADER.timeline);
  if (named?.low === low && named.high === high && timeline <= named.timeline) return;
  const address = `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`;
  throw new IntegrityError(
    `${where} holds another segment than its name says: it begins at ${address} on timeline ${timeline}`,
    { hint: "The file was renamed, or recycled and never written. Do not archive it by hand." },
  );
}

function notWhole(where: string, why: string): FormatError {
  return new FormatError(`${where} is not a whole WAL segment of PostgreSQL 13 to 19: ${why}`, {
    hint: "Only what a server has finished is archived: its archive_command is given those files.",
  });
}
