/** Transactions: what ends, prepares and assigns them. Layouts: access/xact.h, as in rmgr/xact-end.ts. */
import { RELATION_BYTES } from "../rmgr/relation-path.ts";
import { hasDroppedStats, statsItemBytes, XID_BYTES } from "../rmgr/xact-lists.ts";
import { type KeepRule, type StructureOf, structureOf } from "./rows.ts";
import { keepCount, keepInvalidations, keepText } from "./rules.ts";

/** XACT_XINFO_*. */
const HAS_DBINFO = 1 << 0;
const HAS_SUBXACTS = 1 << 1;
const HAS_RELATIONS = 1 << 2;
const HAS_INVALIDATIONS = 1 << 3;
const HAS_TWOPHASE = 1 << 4;
const HAS_ORIGIN = 1 << 5;
const HAS_GID = 1 << 7;
const HAS_DROPPED_STATS = 1 << 8;
const ORIGIN_BYTES = 16;

/** With XLOG_XACT_HAS_INFO: everything, but of invalidation messages only what is printed. The name of a prepared transaction stays, too. */
function keepEnd(isCommit: boolean): KeepRule {
  return (parts, record, mainStart, end, format) => {
    const { bytes } = record;
    parts.keep(mainStart, mainStart + 8);
    const xinfo = keepCount(parts, bytes, mainStart + 8, end);
    let at = mainStart + 12;
    const keepArray = (itemBytes: number): void => {
      const next = at + 4 + keepCount(parts, bytes, at, end) * itemBytes;
      parts.keep(at, next);
      at = next;
    };
    if ((xinfo & HAS_DBINFO) !== 0) {
      parts.keep(at, at + 8);
      at += 8;
    }
    if ((xinfo & HAS_SUBXACTS) !== 0) keepArray(XID_BYTES);
    if ((xinfo & HAS_RELATIONS) !== 0) keepArray(RELATION_BYTES);
    if ((xinfo & HAS_DROPPED_STATS) !== 0 && hasDroppedStats(format)) {
      keepArray(statsItemBytes(format));
    }
    if ((xinfo & HAS_INVALIDATIONS) !== 0 && isCommit) {
      const count = keepCount(parts, bytes, at, end);
      at = keepInvalidations(parts, bytes, at + 4, end, count, format);
    }
    if ((xinfo & HAS_TWOPHASE) !== 0) {
      parts.keep(at, at + XID_BYTES);
      at += XID_BYTES;
      if ((xinfo & HAS_GID) !== 0) at = keepText(parts, bytes, at, end);
    }
    if ((xinfo & HAS_ORIGIN) !== 0) parts.keep(at, at + ORIGIN_BYTES);
  };
}

/** Offsets in xl_xact_prepare, the same in all majors; then those that 15 moved. */
const DATABASE = 12;
const XID = 24;
const SUBTRANSACTIONS = 28;
const COMMIT_RELATIONS = 32;
const ABORT_RELATIONS = 36;
const STATS_SINCE_15 = 40;
const BEFORE_15 = { invalidations: 40, padding: 45, bytes: 64 } as const;
const SINCE_15 = { invalidations: 48, padding: 53, bytes: 72 } as const;

/**
 * Header, name and lists, each aligned to 8, without the padding between them; then the messages. The state file that
 * follows is content.
 */
const keepPrepare: KeepRule = (parts, record, mainStart, end, format) => {
  const { bytes } = record;
  const hasStats = hasDroppedStats(format);
  const header = hasStats ? SINCE_15 : BEFORE_15;
  let at = mainStart + header.bytes;
  if (at > end) return;
  parts.keep(mainStart + DATABASE, mainStart + XID);
  parts.keep(mainStart + SUBTRANSACTIONS, mainStart + header.padding);
  parts.keep(mainStart + header.padding + 1, at);
  const keepList = (lengthBytes: number): void => {
    parts.keep(at, at + lengthBytes);
    at += Math.ceil(lengthBytes / 8) * 8;
  };
  const countAt = (offset: number): number => bytes.readUInt32LE(mainStart + offset);
  keepList(bytes.readUInt16LE(mainStart + header.padding + 1));
  keepList(countAt(SUBTRANSACTIONS) * XID_BYTES);
  keepList(countAt(COMMIT_RELATIONS) * RELATION_BYTES);
  keepList(countAt(ABORT_RELATIONS) * RELATION_BYTES);
  if (hasStats) {
    keepList(countAt(STATS_SINCE_15) * statsItemBytes(format));
    keepList(countAt(STATS_SINCE_15 + 4) * statsItemBytes(format));
  }
  keepInvalidations(parts, bytes, at, end, countAt(header.invalidations), format);
};

const keepMessages: KeepRule = (parts, { bytes }, at, end, format) => {
  const count = keepCount(parts, bytes, at, end);
  keepInvalidations(parts, bytes, at + 4, end, count, format);
};

/** Without XLOG_XACT_HAS_INFO. */
const TIME = { 13: "0-8" } as const;

export const xact: StructureOf = structureOf(
  {
    0x00: TIME, // COMMIT
    0x10: { 13: keepPrepare }, // PREPARE
    0x20: TIME, // ABORT
    0x30: TIME, // COMMIT_PREPARED
    0x40: TIME, // ABORT_PREPARED
    0x50: { 13: "0-" }, // ASSIGNMENT
    0x60: { 14: keepMessages }, // INVALIDATION
    // The same four with XLOG_XACT_HAS_INFO.
    0x80: { 13: keepEnd(true) },
    0xa0: { 13: keepEnd(false) },
    0xb0: { 13: keepEnd(true) },
    0xc0: { 13: keepEnd(false) },
  },
  { masksHighBit: true },
);
