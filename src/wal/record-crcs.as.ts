/** The CRCs of many records in one call, also of records that lie over several pages. */
import { update } from "../postgres/crc32c.as";
import { CRC_OFFSET, HEADER_BYTES, recordCrc } from "./record-frame.as";

const PAGE_BYTES: usize = 8192;

/**
 * @param records - `count` offsets from `origin`, i32; their CRCs take their place.
 * @param window - where a page begins: all records are whole from there on.
 * @param headers - for each page from `window` on the bytes of its header, u8.
 */
export function recordCrcs(
  records: usize,
  count: u32,
  origin: usize,
  window: usize,
  headers: usize,
): void {
  for (let end = records + (count << 2); records < end; records += 4) {
    const record = origin + load<i32>(records);
    const total = load<u32>(record);
    const room = PAGE_BYTES - ((record - window) & (PAGE_BYTES - 1));
    const crc =
      total <= <u32>room ? recordCrc(record, total) : crcOverPages(record, total, window, headers);
    store<u32>(records, crc);
  }
}

function crcOverPages(record: usize, total: u32, window: usize, headers: usize): u32 {
  const data = skip(record, HEADER_BYTES, window, headers);
  const crc = updateOverPages(data, total - HEADER_BYTES, 0xffffffff, window, headers);
  return ~updateOverPages(record, CRC_OFFSET, crc, window, headers);
}

/** Continues `crc` over the bytes of a record that begin, or go on, at `at`. */
function updateOverPages(at: usize, count: u32, crc: u32, window: usize, headers: usize): u32 {
  while (count > 0) {
    const room = <u32>(PAGE_BYTES - ((at - window) & (PAGE_BYTES - 1)));
    const length = count < room ? count : room;
    crc = update(at, at + length, crc);
    count -= length;
    if (count > 0) at = skip(at, length, window, headers);
  }
  return crc;
}

/** Where a record goes on `count` bytes behind `at`: behind the header, where that is a page's beginning. */
function skip(at: usize, count: u32, window: usize, headers: usize): usize {
  while (true) {
    const room = <u32>(PAGE_BYTES - ((at - window) & (PAGE_BYTES - 1)));
    if (count < room) return at + count;
    count -= room;
    at += room;
    at += load<u8>(headers + (at - window) / PAGE_BYTES);
  }
}
