/**
 * Commits and aborts, of prepared transactions too. The record is a time, then the parts that xinfo names, one behind
 * the other. Sources: access/xact.h (xl_xact_commit, xl_xact_abort), xactdesc.c (ParseCommitRecord).
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { writeTimestamp } from "../timestamp.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { INVALIDATION_BYTES, writeInitFile, writeInvalidations } from "./invalidations.ts";
import { RELATION_BYTES } from "./relation-path.ts";
import {
  hasDroppedStats,
  statsItemBytes,
  writeDroppedStats,
  writeOrigin,
  writeRelations,
  writeSubtransactions,
  XID_BYTES,
} from "./xact-lists.ts";

/** XLOG_XACT_HAS_INFO: without it the record is a time and no more. */
const HAS_INFO = 0x80;

/** XACT_XINFO_* */
const HAS_DBINFO = 1 << 0;
const HAS_SUBXACTS = 1 << 1;
const HAS_RELATIONS = 1 << 2;
const HAS_INVALIDATIONS = 1 << 3;
const HAS_TWOPHASE = 1 << 4;
const HAS_ORIGIN = 1 << 5;
const HAS_GID = 1 << 7;
const HAS_DROPPED_STATS = 1 << 8;
/** XACT_COMPLETION_* */
const APPLY_FEEDBACK = 1 << 29;
const UPDATE_RELCACHE_FILE = 1 << 30;
const FORCE_SYNC_COMMIT = 1 << 31;

/** Where the parts of the record in hand are; offsets are 0 and counts too where it has no such part. */
interface Parts {
  xinfo: number;
  databaseInfo: number;
  subtransactions: number;
  subtransactionCount: number;
  relations: number;
  relationCount: number;
  stats: number;
  statsCount: number;
  invalidations: number;
  invalidationCount: number;
  twoPhaseXid: number;
  origin: number;
}

/** One for all records: they are described one after the other. */
const parts: Parts = {
  xinfo: 0,
  databaseInfo: 0,
  subtransactions: 0,
  subtransactionCount: 0,
  relations: 0,
  relationCount: 0,
  stats: 0,
  statsCount: 0,
  invalidations: 0,
  invalidationCount: 0,
  twoPhaseXid: 0,
  origin: 0,
};

export function describeCommit(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes } = record;
  const end = record.mainStart + record.mainLength;
  if (!describeHead(out, record, true, format)) return;
  writeDroppedStats(out, "", bytes, parts.stats, end, parts.statsCount, format);
  if (parts.invalidationCount > 0 && (parts.xinfo & UPDATE_RELCACHE_FILE) !== 0) {
    const at = parts.databaseInfo;
    writeInitFile(
      out,
      at === 0 ? 0 : bytes.readUInt32LE(at),
      at === 0 ? 0 : bytes.readUInt32LE(at + 4),
    );
  }
  writeInvalidations(out, bytes, parts.invalidations, end, parts.invalidationCount, format);
  if (hasDroppedStats(format) && (parts.xinfo & APPLY_FEEDBACK) !== 0) out.text("; apply_feedback");
  if ((parts.xinfo & FORCE_SYNC_COMMIT) !== 0) out.text("; sync");
  if (parts.origin !== 0) writeOrigin(out, record.originId, bytes, parts.origin);
}

export function describeAbort(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes } = record;
  const end = record.mainStart + record.mainLength;
  if (!describeHead(out, record, false, format)) return;
  if (!hasDroppedStats(format)) return;
  if (parts.origin !== 0) writeOrigin(out, record.originId, bytes, parts.origin);
  writeDroppedStats(out, "", bytes, parts.stats, end, parts.statsCount, format);
}

/** Finds the parts and writes what commits and aborts begin with. */
function describeHead(
  out: TextBuffer,
  record: WalRecord,
  isCommit: boolean,
  format: WalFormat,
): boolean {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (!findParts(record, isCommit, format)) {
    markCutShort(out);
    return false;
  }
  if (parts.twoPhaseXid !== 0) {
    out.unsigned(parts.twoPhaseXid);
    out.text(": ");
  }
  writeTimestamp(out, bytes, mainStart);
  writeRelations(out, "rels", bytes, parts.relations, end, parts.relationCount, format);
  writeSubtransactions(out, bytes, parts.subtransactions, end, parts.subtransactionCount);
  return true;
}

/** @returns false where the record ends before its parts do. */
function findParts(record: WalRecord, isCommit: boolean, format: WalFormat): boolean {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  clearParts();
  let at = mainStart + 8;
  if (at > end) return false;
  if ((record.info & HAS_INFO) === 0) return true;
  if (at + 4 > end) return false;
  const xinfo = bytes.readUInt32LE(at);
  parts.xinfo = xinfo;
  at += 4;
  if ((xinfo & HAS_DBINFO) !== 0) {
    parts.databaseInfo = at;
    at += 8;
  }
  if ((xinfo & HAS_SUBXACTS) !== 0) {
    parts.subtransactions = at + 4;
    parts.subtransactionCount = countAt(bytes, at, end);
    at += 4 + parts.subtransactionCount * XID_BYTES;
  }
  if ((xinfo & HAS_RELATIONS) !== 0) {
    parts.relations = at + 4;
    parts.relationCount = countAt(bytes, at, end);
    at += 4 + parts.relationCount * RELATION_BYTES;
  }
  if ((xinfo & HAS_DROPPED_STATS) !== 0 && hasDroppedStats(format)) {
    parts.stats = at + 4;
    parts.statsCount = countAt(bytes, at, end);
    at += 4 + parts.statsCount * statsItemBytes(format);
  }
  if ((xinfo & HAS_INVALIDATIONS) !== 0 && isCommit) {
    parts.invalidations = at + 4;
    parts.invalidationCount = countAt(bytes, at, end);
    at += 4 + parts.invalidationCount * INVALIDATION_BYTES;
  }
  if ((xinfo & HAS_TWOPHASE) !== 0) {
    if (at + XID_BYTES > end) return false;
    parts.twoPhaseXid = bytes.readUInt32LE(at);
    at += XID_BYTES;
    if ((xinfo & HAS_GID) !== 0) {
      const nul = at < end ? bytes.indexOf(0, at) : -1;
      if (nul === -1) return false;
      at = nul + 1;
    }
  }
  if ((xinfo & HAS_ORIGIN) !== 0) {
    parts.origin = at;
    at += 16;
  }
  return at <= end;
}

/** A count, an int; Infinity where the record ends before it or it is negative: then nothing behind it is there. */
function countAt(bytes: Buffer, at: number, end: number): number {
  const count = at + 4 <= end ? bytes.readInt32LE(at) : -1;
  return count < 0 ? Infinity : count;
}

function clearParts(): void {
  parts.xinfo = 0;
  parts.databaseInfo = 0;
  parts.subtransactions = 0;
  parts.subtransactionCount = 0;
  parts.relations = 0;
  parts.relationCount = 0;
  parts.stats = 0;
  parts.statsCount = 0;
  parts.invalidations = 0;
  parts.invalidationCount = 0;
  parts.twoPhaseXid = 0;
  parts.origin = 0;
}
