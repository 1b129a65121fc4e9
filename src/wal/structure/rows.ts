/**
 * The table of readable bytes: for each resource manager the info values of its records, and for each of those, from
 * which major on, which bytes of the main data and of the data of block 0 a describe routine reads. What has no row
 * is secret. The bytes were measured: those of real records were changed one at a time and pg_waldump's text compared.
 */
import { type Major, SUPPORTED_MAJORS } from "../../postgres/version.ts";
import type { WalRecord } from "../record.ts";
import type { WalFormat } from "../wal-format.ts";
import type { RecordParts } from "./record-parts.ts";

/**
 * Names structure in an area of the record.
 * @param at - offset in `record.bytes` where the area begins.
 * @param end - where it ends.
 * What it reads it must have kept before, so that it finds the same in a record whose other bytes are encrypted.
 */
export type KeepRule = (
  parts: RecordParts,
  record: WalRecord,
  at: number,
  end: number,
  format: WalFormat,
) => void;

/** Ranges of bytes: `"0-8 12-"`, whose second one goes on to the end of the area; or a rule. */
export type Readable = string | KeepRule;

export interface StructureRow {
  readonly main?: Readable;
  /** Of the data of block 0; that of others is never read. */
  readonly data0?: Readable;
}

/** Rows by the majors that brought them; null where one reads nothing any more. A bare `Readable` is of the main data. */
export type Rows = Partial<Readonly<Record<Major, Readable | StructureRow | null>>>;

/** Bytes of an area; without an end: up to its own. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

export interface CompiledRule {
  readonly keep: KeepRule;
  /** Where the rule is nothing but ranges, rising. */
  readonly ranges: readonly ByteRange[] | undefined;
}

export interface CompiledRow {
  readonly main: CompiledRule | undefined;
  readonly data0: CompiledRule | undefined;
}

/** What a resource manager's records keep readable, by xl_info without the bits that are not its own. */
export type StructureOf = (major: Major) => (info: number) => CompiledRow | undefined;

/** XLR_RMGR_INFO_MASK of access/xlogrecord.h. */
const RMGR_INFO_MASK = 0xf0;
/** XLOG_HEAP_OPMASK, XLOG_XACT_OPMASK, XLOG_BRIN_OPMASK: without the highest bit, which only adds something. */
const OPERATION_MASK = 0x70;

/**
 * @param rows - by info value.
 * @param masksHighBit - a record whose own info value has no row is described as the one without the highest bit.
 */
export function structureOf(
  rows: Readonly<Record<number, Rows>>,
  { masksHighBit = false }: { readonly masksHighBit?: boolean } = {},
): StructureOf {
  return (major) => {
    const compiled: (CompiledRow | undefined)[] = Array.from({ length: 256 });
    for (const [info, versions] of Object.entries(rows)) {
      compiled[Number(info)] = compileRow(rowFor(major, versions));
    }
    return (info) =>
      compiled[info & RMGR_INFO_MASK] ??
      (masksHighBit ? compiled[info & OPERATION_MASK] : undefined);
  };
}

function rowFor(major: Major, versions: Rows): Readable | StructureRow | null | undefined {
  const since = SUPPORTED_MAJORS.findLast((each) => each <= major && versions[each] !== undefined);
  return since && versions[since];
}

function compileRow(row: Readable | StructureRow | null | undefined): CompiledRow | undefined {
  if (row === null || row === undefined) return undefined;
  if (typeof row === "object") return { main: compile(row.main), data0: compile(row.data0) };
  return { main: compile(row), data0: undefined };
}

function compile(readable: Readable | undefined): CompiledRule | undefined {
  if (readable === undefined) return undefined;
  if (typeof readable !== "string") return { keep: readable, ranges: undefined };
  const ranges = readable.split(" ").map((range) => {
    const [from = "", to = ""] = range.split("-");
    return { from: Number(from), to: to === "" ? Infinity : Number(to) };
  });
  const keep: KeepRule = (parts, _record, at) => {
    for (const { from, to } of ranges) parts.keep(at + from, at + to);
  };
  return { keep, ranges };
}
