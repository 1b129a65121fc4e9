/**
 * Takes whole runs of records apart into structure and secret, as readable-parts.ts does with one, where the table of
 * readable bytes has nothing but ranges for them: it stops before a record with a rule of its own.
 */
import {
  blockDataLength,
  blockDataStart,
  contentStart,
  decode,
  HEADER_BYTES,
  isSound,
  isSwitch,
  mainLength,
  mainStart,
} from "../record-frame.as";

/** Below it resource managers have rows; those of extensions keep nothing. */
const RMGRS_WITH_ROWS: u32 = 32;
/**
 * A row, by rmgr id and high nibble of info, as part-scan.ts writes it, u32 all: how many ranges of the main data, how
 * many of block 0's data, then four of each with start and end.
 */
const ROW_BYTES: u32 = 72;
const MAIN_RANGES: u32 = 8;
const BLOCK_RANGES: u32 = 40;
/** In place of a number of ranges. */
const HAS_RULE: u32 = 255;

/** Where the table is and where what is found goes, i32 each: records; start and end of secrets. */
let rows: usize = 0;
let records: usize = 0;
let secrets: usize = 0;

let recordCount: u32 = 0;
let secretsEnd: usize = 0;
let lastRecord: usize = 0;

export function prepareParts(rowsAt: usize, recordsAt: usize, secretsAt: usize): void {
  rows = rowsAt;
  records = recordsAt;
  secrets = secretsAt;
}

/**
 * Takes the records from `record` on apart that are whole before `end`, in a page, and without fault.
 * @param lsnLow - with lsnHigh the LSN at `record`; prevLow and prevHigh: of the record before it.
 * @param origin - offsets are given from here.
 * @returns where the first record begins that it did not take.
 */
export function parts(
  record: usize,
  end: usize,
  lsnLow: u32,
  lsnHigh: u32,
  prevLow: u32,
  prevHigh: u32,
  origin: usize,
): usize {
  let lsn = ((<u64>lsnHigh) << 32) | lsnLow;
  let prev = ((<u64>prevHigh) << 32) | prevLow;
  begin();
  while (isWhole(record, end) && load<u64>(record, 8) == prev && !isSwitch(record)) {
    const next = take(record, origin);
    if (next == 0) break;
    prev = lsn;
    lsn += next - record;
    record = next;
  }
  return record;
}

/** As `parts`, of stored records: what came before them is not asked. */
export function storedParts(record: usize, end: usize, origin: usize): usize {
  begin();
  while (isWhole(record, end)) {
    const next = take(record, origin);
    if (next == 0) break;
    record = next;
  }
  return record;
}

export function partRecordCount(): u32 {
  return recordCount;
}

/** Of starts and ends together. */
export function partSecretCount(): u32 {
  return (<u32>(secretsEnd - secrets)) >> 2;
}

/** The record that was taken apart last, where one was. */
export function lastOfParts(): usize {
  return lastRecord;
}

function begin(): void {
  recordCount = 0;
  secretsEnd = secrets;
}

/** Whether a record is there with the padding behind it. */
function isWhole(record: usize, end: usize): bool {
  if (record + HEADER_BYTES > end) return false;
  const total = load<u32>(record);
  const room = <u32>(end - record);
  return total >= HEADER_BYTES && total <= room && ((total + 7) & ~7) <= room;
}

/** @returns where the next record begins; 0 where this one is not taken. */
function take(record: usize, origin: usize): usize {
  const total = load<u32>(record);
  if (!isSound(record, total) || !decode(record + HEADER_BYTES, record + total)) return 0;
  const info = <u32>load<u8>(record, 16);
  const rmid = <u32>load<u8>(record, 17);
  let at = contentStart;
  if (rmid < RMGRS_WITH_ROWS) {
    const row = rows + ROW_BYTES * ((rmid << 4) | (info >> 4));
    const mainRanges = mainLength > 0 ? load<u32>(row) : 0;
    const blockRanges = blockDataLength > 0 ? load<u32>(row, 4) : 0;
    if (mainRanges == HAS_RULE || blockRanges == HAS_RULE) return 0;
    at = keep(at, row + BLOCK_RANGES, blockRanges, blockDataStart, blockDataLength, origin);
    at = keep(at, row + MAIN_RANGES, mainRanges, mainStart, mainLength, origin);
  }
  const next = record + ((total + 7) & ~7);
  if (next > at) addSecret(at - origin, next - origin);
  store<i32>(records + (recordCount << 2), record - origin);
  recordCount++;
  lastRecord = record;
  return next;
}

/**
 * Names the ranges of an area as structure.
 * @param at - where the structure before it ends. @returns where it ends now.
 */
function keep(
  at: usize,
  ranges: usize,
  count: u32,
  area: usize,
  length: u32,
  origin: usize,
): usize {
  for (let i: u32 = 0; i < count; i++, ranges += 8) {
    const from = area + load<u32>(ranges);
    const to = load<u32>(ranges, 4);
    const end = area + (to < length ? to : length);
    const start = from > at ? from : at;
    if (end <= start) continue;
    if (start > at) addSecret(at - origin, start - origin);
    at = end;
  }
  return at;
}

function addSecret(start: usize, end: usize): void {
  store<i32>(secretsEnd, <i32>start);
  store<i32>(secretsEnd, <i32>end, 4);
  secretsEnd += 8;
}
