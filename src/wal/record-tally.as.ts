/** The counting of whole runs of records, where nothing but numbers is wanted of each. */
import { decode, HEADER_BYTES, imageBytes, isSound, isSwitch } from "./record-frame.as";

/** What `tally` found last. */
let lastRecord: usize = 0;

/**
 * Counts the records from `record` on that are whole before `end`, in a page, and without fault.
 * @param lsnLow - with lsnHigh the LSN at `record`; prevLow and prevHigh: of the record before it.
 * @param tallies - for each rmgr id and type three f64: count, bytes without images, bytes of images.
 * @returns where the first record begins that it did not take; `lastTallied` gives the one before that.
 */
export function tally(
  record: usize,
  end: usize,
  lsnLow: u32,
  lsnHigh: u32,
  prevLow: u32,
  prevHigh: u32,
  tallies: usize,
): usize {
  let lsn = ((<u64>lsnHigh) << 32) | lsnLow;
  let prev = ((<u64>prevHigh) << 32) | prevLow;
  while (record + HEADER_BYTES <= end) {
    const total = load<u32>(record);
    if (total < HEADER_BYTES || total > <u32>(end - record)) break;
    if (load<u64>(record, 8) != prev || isSwitch(record) || !isSound(record, total)) break;
    if (!decode(record + HEADER_BYTES, record + total)) break;
    const info = <u32>load<u8>(record, 16);
    const rmid = <u32>load<u8>(record, 17);
    // The highest bit of a transaction's info is no part of the type.
    const type = (info >> 4) & (rmid == 1 ? 0x07 : 0x0f);
    const counted = tallies + 24 * ((rmid << 4) | type);
    store<f64>(counted, load<f64>(counted) + 1);
    store<f64>(counted, load<f64>(counted, 8) + <f64>(total - imageBytes), 8);
    store<f64>(counted, load<f64>(counted, 16) + <f64>imageBytes, 16);
    const step = (total + 7) & ~7;
    lastRecord = record;
    prev = lsn;
    lsn += step;
    record += step;
  }
  return record;
}

/** The record that `tally` counted last, where it counted any. */
export function lastTallied(): usize {
  return lastRecord;
}
