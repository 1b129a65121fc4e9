/**
 * What the reader says in each major where the wording differs. The texts are PostgreSQL's own, from
 * access/transam/xlogreader.c, since people and scripts look for them.
 */
import { RECORD_HEADER_BYTES } from "./record-header.ts";
import type { WalFormat } from "./wal-format.ts";

export interface ReaderMessages {
  /** From 15 on a message about a record's content names the record before it. */
  readonly decodesAhead: boolean;
  recordLength(lsn: string, got: number): string;
  recordOffset(lsn: string, expected: number, got: number): string;
  continuation(lsn: string, got: number, expected: number): string;
  /** Where a page is. */
  pagePlace(fileName: string, lsn: string, offset: number): string;
}

const SINCE_16: ReaderMessages = {
  decodesAhead: true,
  recordLength: (lsn, got) =>
    `invalid record length at ${lsn}: expected at least ${RECORD_HEADER_BYTES}, got ${got}`,
  recordOffset: (lsn, expected, got) =>
    `invalid record offset at ${lsn}: expected at least ${expected}, got ${got}`,
  continuation: (lsn, got, expected) =>
    `invalid contrecord length ${got} (expected ${expected}) at ${lsn}`,
  pagePlace: (fileName, lsn, offset) => `in WAL segment ${fileName}, LSN ${lsn}, offset ${offset}`,
};

const IN_15: ReaderMessages = {
  ...SINCE_16,
  recordLength: (lsn, got) =>
    `invalid record length at ${lsn}: wanted ${RECORD_HEADER_BYTES}, got ${got}`,
  recordOffset: (lsn) => `invalid record offset at ${lsn}`,
  pagePlace: (fileName, _lsn, offset) => `in log segment ${fileName}, offset ${offset}`,
};

const IN_14: ReaderMessages = { ...IN_15, decodesAhead: false };

const IN_13: ReaderMessages = {
  ...IN_14,
  continuation: (lsn, got) => `invalid contrecord length ${got} at ${lsn}`,
};

export function readerMessages({ major }: WalFormat): ReaderMessages {
  if (major >= 16) return SINCE_16;
  return { 13: IN_13, 14: IN_14, 15: IN_15 }[major as 13 | 14 | 15];
}

/** An LSN as the major's messages print it. @param low - its lower 32 bits; what is above them is cut off. */
export function formatHalves(
  high: number,
  low: number,
  { lsnLowDigits }: Pick<WalFormat, "lsnLowDigits">,
): string {
  const lower = (low >>> 0).toString(16).padStart(lsnLowDigits, "0");
  return `${high.toString(16)}/${lower}`.toUpperCase();
}
