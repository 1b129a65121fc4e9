/**
 * The lists that ends of transactions and prepared transactions have in common, and what 15 and 18 changed about
 * them. Sources: access/xact.h, xactdesc.c.
 */
import type { Major } from "../../postgres/version.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { writeTimestamp } from "../timestamp.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { writeElements, type WriteElement, writeSpacedU32 } from "./lists.ts";
import { RELATION_BYTES, writeRelationPath } from "./relation-path.ts";

export const XID_BYTES = 4;

/** From here on records say which statistics are dropped, and what happened at the origin in every case. */
const DROPPED_STATS_SINCE: Major = 15;
/** From here on an object that statistics are about has 64 bits (PgStat_HashKey.objid). */
const WIDE_STATS_SINCE: Major = 18;

export function hasDroppedStats(format: WalFormat): boolean {
  return format.major >= DROPPED_STATS_SINCE;
}

/** xl_xact_stats_item: kind as an int, database, object. */
export function statsItemBytes(format: WalFormat): number {
  return format.major >= WIDE_STATS_SINCE ? 16 : 12;
}

/** @param label - `rels`, or which end they belong to as well. */
export function writeRelations(
  out: TextBuffer,
  label: string,
  bytes: Buffer,
  at: number,
  end: number,
  count: number,
  format: WalFormat,
): void {
  if (count <= 0) return;
  out.text("; ");
  out.text(label);
  out.text(":");
  for (let i = 0, relation = at; i < count; i++, relation += RELATION_BYTES) {
    if (relation + RELATION_BYTES > end) return markCutShort(out);
    out.text(" ");
    writeRelationPath(out, bytes, relation, 0, format);
  }
}

export function writeSubtransactions(
  out: TextBuffer,
  bytes: Buffer,
  at: number,
  end: number,
  count: number,
): void {
  if (count <= 0) return;
  out.text("; subxacts:");
  writeElements(out, bytes, at, end, count, XID_BYTES, writeSpacedU32);
}

/** @param label - empty, or which end they belong to and a space. */
export function writeDroppedStats(
  out: TextBuffer,
  label: string,
  bytes: Buffer,
  at: number,
  end: number,
  count: number,
  format: WalFormat,
): void {
  if (count <= 0) return;
  out.text("; ");
  out.text(label);
  out.text("dropped stats:");
  const write = format.major >= WIDE_STATS_SINCE ? writeWideStatsItem : writeStatsItem;
  writeElements(out, bytes, at, end, count, statsItemBytes(format), write);
}

const writeStatsItem: WriteElement = (out, bytes, at) => {
  writeStatsKind(out, bytes, at);
  out.unsigned(bytes.readUInt32LE(at + 8));
};

const writeWideStatsItem: WriteElement = (out, bytes, at) => {
  writeStatsKind(out, bytes, at);
  out.u64At(bytes, at + 8);
};

function writeStatsKind(out: TextBuffer, bytes: Buffer, at: number): void {
  out.text(" ");
  out.signed(bytes.readInt32LE(at));
  out.text("/");
  out.unsigned(bytes.readUInt32LE(at + 4));
  out.text("/");
}

/** @param at - of origin_lsn; origin_timestamp follows. */
export function writeOrigin(out: TextBuffer, originId: number, bytes: Buffer, at: number): void {
  out.text("; origin: node ");
  out.unsigned(originId);
  out.text(", lsn ");
  out.lsnAt(bytes, at);
  out.text(", at ");
  writeTimestamp(out, bytes, at + 8);
}
