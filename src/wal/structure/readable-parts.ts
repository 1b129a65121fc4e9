/**
 * Takes one record apart into structure and secret. Pure: it reads the record's headers and what it names as
 * structure, so that the stored form of a record, whose secrets are ciphertext, is taken apart the same way.
 */
import type { Major } from "../../postgres/version.ts";
import { blockAt } from "../decode-record.ts";
import { aligned } from "../page-header.ts";
import type { WalRecord } from "../record.ts";
import { BUILTIN_RMGRS, type ByRmgr } from "../rmgr/builtin.ts";
import type { WalFormat } from "../wal-format.ts";
import * as heaps from "./heap.ts";
import * as indexes from "./indexes.ts";
import type { RecordParts } from "./record-parts.ts";
import type { CompiledRow, StructureOf } from "./rows.ts";
import * as system from "./system.ts";
import { xact } from "./xact.ts";

/** Those of extensions keep nothing. */
const STRUCTURES: ByRmgr<StructureOf> = { ...heaps, ...indexes, ...system, xact };

type RowOf = (info: number) => CompiledRow | undefined;
const compiled = new Map<Major, readonly RowOf[]>();

/** By rmgr id. */
function structuresOf(major: Major): readonly RowOf[] {
  let rows = compiled.get(major);
  if (rows === undefined) {
    rows = BUILTIN_RMGRS.map((name) => STRUCTURES[name](major));
    compiled.set(major, rows);
  }
  return rows;
}

/** The row of the table for records of a major; undefined where there is none: then nothing is kept. */
export function rowOf(major: Major, rmid: number, info: number): CompiledRow | undefined {
  return structuresOf(major)[rmid]?.(info);
}

/**
 * Which bytes of a record stay readable.
 * @param record - decoded; its secrets may be ciphertext.
 * @param parts - gets the boundaries, up to the end of the padding behind the record, which is secret.
 */
export function readableParts(record: WalRecord, format: WalFormat, parts: RecordParts): void {
  parts.begin(record);
  const row = rowOf(format.major, record.rmid, record.info);
  if (row?.data0 !== undefined && record.maxBlockId >= 0) {
    const { present, hasData, dataStart, dataLength } = blockAt(record, 0);
    if (present && hasData) {
      parts.enter(dataStart + dataLength);
      row.data0.keep(parts, record, dataStart, dataStart + dataLength, format);
    }
  }
  if (row?.main !== undefined && record.mainLength > 0) {
    const end = record.mainStart + record.mainLength;
    parts.enter(end);
    row.main.keep(parts, record, record.mainStart, end, format);
  }
  parts.finish(aligned(record.totalLength));
}
