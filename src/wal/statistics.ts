/**
 * Counts and sizes of records by resource manager, or by type of record, and pg_waldump's table of them. Source:
 * access/transam/xlogstats.c; bin/pg_waldump/pg_waldump.c, XLogDumpDisplayStats.
 */
import { imageBytesOf } from "./record-lengths.ts";
import type { WalRecord } from "./record.ts";
import { FIRST_CUSTOM_RMGR, resourceManagersOf } from "./rmgr/index.ts";
import type { WalFormat } from "./wal-format.ts";
import { formatHalves } from "./messages.ts";

const RMGR_COUNT = 256;
const TYPES_PER_RMGR = 16;
/** RM_XACT_ID: the highest bit of its info is no part of the type. */
const RMGR_TRANSACTION = 1;
const TRANSACTION_TYPES = 0x07;

/** Counts grow to 2^53 and no further, as a double holds them. */
export interface Tally {
  readonly count: number;
  /** Bytes without those of images. */
  readonly recordBytes: number;
  readonly imageBytes: number;
}

export interface TypeTally extends Tally {
  readonly rmid: number;
  /** The type's bits of xl_info. */
  readonly info: number;
}

/** Count, bytes without images and bytes of images of each type: as record-tally.as.ts has them, too. */
const TALLY_LENGTH = 3;
export const TALLIES_LENGTH: number = RMGR_COUNT * TYPES_PER_RMGR * TALLY_LENGTH;

export class Statistics {
  /** A tally by rmgr id times 16 plus the high nibble of info. */
  readonly #tallies: Float64Array;

  /** @param tallies - TALLIES_LENGTH numbers, all 0, which somebody else may count in as well. */
  constructor(tallies: Float64Array = new Float64Array(TALLIES_LENGTH)) {
    this.#tallies = tallies;
  }

  add(record: WalRecord): void {
    const { rmid, totalLength } = record;
    let type = record.info >>> 4;
    if (rmid === RMGR_TRANSACTION) type &= TRANSACTION_TYPES;
    const imageBytes = imageBytesOf(record);
    this.#add(rmid * TYPES_PER_RMGR + type, 1, totalLength - imageBytes, imageBytes);
  }

  /** What occurred, in the order of rmgr id and info. */
  types(): TypeTally[] {
    const tallies: TypeTally[] = [];
    for (let type = 0; type < RMGR_COUNT * TYPES_PER_RMGR; type++) {
      const at = type * TALLY_LENGTH;
      const count = this.#tallies[at] ?? 0;
      if (count === 0) continue;
      tallies.push({
        rmid: Math.floor(type / TYPES_PER_RMGR),
        info: (type % TYPES_PER_RMGR) << 4,
        count,
        recordBytes: this.#tallies[at + 1] ?? 0,
        imageBytes: this.#tallies[at + 2] ?? 0,
      });
    }
    return tallies;
  }

  /** The same, and forgets it. */
  take(): TypeTally[] {
    const types = this.types();
    this.#tallies.fill(0);
    return types;
  }

  /** Adds what another one counted. */
  merge(types: readonly TypeTally[]): void {
    for (const { rmid, info, count, recordBytes, imageBytes } of types) {
      this.#add(rmid * TYPES_PER_RMGR + (info >>> 4), count, recordBytes, imageBytes);
    }
  }

  #add(type: number, count: number, recordBytes: number, imageBytes: number): void {
    const tallies = this.#tallies;
    const at = type * TALLY_LENGTH;
    tallies[at] = (tallies[at] ?? 0) + count;
    tallies[at + 1] = (tallies[at + 1] ?? 0) + recordBytes;
    tallies[at + 2] = (tallies[at + 2] ?? 0) + imageBytes;
  }
}

export interface StatisticsRange {
  readonly startHigh: number;
  readonly startLow: number;
  readonly endHigh: number;
  readonly endLow: number;
}

/** @param range - from the first record on to where the last one ended; undefined where none was counted. */
export function statisticsText(
  statistics: Statistics,
  format: WalFormat,
  options: { readonly byType: boolean; readonly range: StatisticsRange | undefined },
): string {
  const { range, byType } = options;
  if (range === undefined && format.statisticsNameRange) return "";
  const types = statistics.types();
  const total = sum(types);
  const rows = byType ? typeRows(types, format) : rmgrRows(types, format);
  const lines = [
    tableLine("Type", ["N", "Record size", "FPI size", "Combined size"], "(%)"),
    tableLine("----", ["-", "-----------", "--------", "-------------"], "---"),
    ...rows.map((row) => rowLine(row, total)),
    tableLine(
      "",
      COLUMNS.map(() => "--------"),
      "",
    ).slice(0, -9),
    totalLine(total),
  ];
  if (range !== undefined && format.statisticsNameRange) {
    const start = formatHalves(range.startHigh, range.startLow, format);
    const end = formatHalves(range.endHigh, range.endLow, format);
    lines.unshift(`WAL statistics between ${start} and ${end}:`);
  }
  return `${lines.join("\n")}\n`;
}

interface Row extends Tally {
  readonly name: string;
}

const COLUMNS = ["count", "recordBytes", "imageBytes", "allBytes"] as const;

function typeRows(types: readonly TypeTally[], format: WalFormat): Row[] {
  const rmgrs = resourceManagersOf(format.major);
  return types.map((type) => {
    const rmgr = rmgrs[type.rmid];
    const name = rmgr?.identify(type.info) ?? `UNKNOWN (${type.info.toString(16)})`;
    return { ...type, name: `${rmgr?.name ?? ""}/${name}` };
  });
}

/** All built-in resource managers, and of the others those that occurred. */
function rmgrRows(types: readonly TypeTally[], format: WalFormat): Row[] {
  const rows: Row[] = [];
  for (const [rmid, rmgr] of resourceManagersOf(format.major).entries()) {
    if (rmgr === undefined) continue;
    const row = sum(types.filter((type) => type.rmid === rmid));
    if (row.count > 0 || rmid < FIRST_CUSTOM_RMGR) rows.push({ ...row, name: rmgr.name });
  }
  return rows;
}

function sum(tallies: readonly Tally[]): Tally {
  let [count, recordBytes, imageBytes] = [0, 0, 0];
  for (const tally of tallies) {
    count += tally.count;
    recordBytes += tally.recordBytes;
    imageBytes += tally.imageBytes;
  }
  return { count, recordBytes, imageBytes };
}

function columnOf(tally: Tally, column: (typeof COLUMNS)[number]): number {
  return column === "allBytes" ? tally.recordBytes + tally.imageBytes : tally[column];
}

/** `%-27s %20s %8s %20s %8s %20s %8s %20s %8s` */
function tableLine(first: string, columns: readonly string[], share: string): string {
  return [
    first.padEnd(27),
    ...columns.map((column) => `${column.padStart(20)} ${share.padStart(8)}`),
  ].join(" ");
}

/** `%-27s %20u (%6.02f) ...` */
function rowLine(row: Row, total: Tally): string {
  const columns = COLUMNS.map((column) => {
    const value = columnOf(row, column);
    const percent = percentText(value, columnOf(total, column)).padStart(6);
    return `${String(value).padStart(20)} (${percent})`;
  });
  return [row.name.padEnd(27), ...columns].join(" ");
}

/** The shares of this line are those of the row, not of the column. */
function totalLine(total: Tally): string {
  const all = columnOf(total, "allBytes");
  const share = (bytes: number): string => `[${percentText(bytes, all)}%]`.padEnd(9);
  return [
    "Total".padEnd(27),
    ` ${String(total.count).padStart(20)} ${"".padEnd(9)}`,
    `${String(total.recordBytes).padStart(20)} ${share(total.recordBytes)}`,
    `${String(total.imageBytes).padStart(20)} ${share(total.imageBytes)}`,
    `${String(all).padStart(20)} ${"[100%]".padEnd(6)}`,
  ].join("");
}

/** `%.02f` of 100 * part / whole; C rounds a tie to the even digit, JavaScript upwards. */
function percentText(part: number, whole: number): string {
  const percent = whole === 0 ? 0 : (100 * part) / whole;
  const text = percent.toFixed(2);
  // Two digits and an exact half are an odd number of eighths.
  const isTie = (percent * 8) % 2 === 1;
  if (!isTie || Number(text.at(-1)) % 2 === 0) return text;
  return (Math.floor(percent * 100) / 100).toFixed(2);
}
