/**
 * What a segment begins with, as far as a record goes that began in an earlier one: whoever works on that needs it,
 * plain to check the record, and stored to compute its CRC.
 */
import { continuationBytes, pageHeaderBytes } from "../../format/wal/wal-page.ts";
import { readExactly } from "../../storage/file-io.ts";
import type { OpenFile } from "../../storage/file-system.ts";
import { LONG_HEADER_BYTES, SHORT_HEADER_BYTES, WAL_PAGE_BYTES } from "../../wal/page-header.ts";

/** Bytes from the segment's beginning to the end of the page on which that record ends; at least one page. */
export function leadBytes(firstPage: Buffer, segmentBytes: number): number {
  const rest = pageHeaderBytes(firstPage, 0) === 0 ? 0 : continuationBytes(firstPage, 0);
  const beyondFirst = Math.max(0, rest - (WAL_PAGE_BYTES - LONG_HEADER_BYTES));
  const pages = 1 + Math.ceil(beyondFirst / (WAL_PAGE_BYTES - SHORT_HEADER_BYTES));
  return Math.min(pages * WAL_PAGE_BYTES, segmentBytes);
}

/** Whether the record does not end in the segment, as far as its first page tells. */
export function goesThrough(firstPage: Buffer, segmentBytes: number): boolean {
  const rest = pageHeaderBytes(firstPage, 0) === 0 ? 0 : continuationBytes(firstPage, 0);
  const pages = segmentBytes / WAL_PAGE_BYTES;
  const room = segmentBytes - LONG_HEADER_BYTES - (pages - 1) * SHORT_HEADER_BYTES;
  return rest > room;
}

export function readFirstPage(file: OpenFile): Buffer {
  const page = Buffer.alloc(WAL_PAGE_BYTES);
  readExactly(file, page, 0, page.length, 0);
  return page;
}

export function readLead(file: OpenFile, segmentBytes: number): Buffer {
  const lead = Buffer.alloc(leadBytes(readFirstPage(file), segmentBytes));
  readExactly(file, lead, 0, lead.length, 0);
  return lead;
}

/** The bytes of the record in the leads of the segments that it crosses into, page by page. */
export function* continuation(leads: readonly Buffer[]): Generator<Buffer> {
  let left: number | undefined;
  for (const lead of leads) {
    left ??= continuationBytes(lead, 0);
    for (let page = 0; page < lead.length && left > 0; page += WAL_PAGE_BYTES) {
      const start = page + (page === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES);
      const length = Math.min(left, page + WAL_PAGE_BYTES - start);
      yield lead.subarray(start, start + length);
      left -= length;
    }
  }
}
