/**
 * The preparation of a transaction: a header, then its name and its lists, each aligned to 8; after them comes the
 * content of its state file, which is not printed. Sources: access/xact.h (xl_xact_prepare), xactdesc.c
 * (ParsePrepareRecord).
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { writeTimestamp } from "../timestamp.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { writeInitFile, writeInvalidations } from "./invalidations.ts";
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

/** Offsets in xl_xact_prepare, the same in all majors. */
const DATABASE = 12;
const PREPARED_AT = 16;
const SUBTRANSACTIONS = 28;
const COMMIT_RELATIONS = 32;
const ABORT_RELATIONS = 36;

/** Offsets behind those. */
interface PrepareTail {
  /** The counts of statistics dropped at commit and at abort follow each other; 0 where there are none. */
  readonly stats: number;
  readonly invalidations: number;
  readonly initFile: number;
  readonly gidLength: number;
  readonly originLsn: number;
  /** The header's size. */
  readonly bytes: number;
}
const TAIL_BEFORE_15: PrepareTail = {
  stats: 0,
  invalidations: 40,
  initFile: 44,
  gidLength: 46,
  originLsn: 48,
  bytes: 64,
};
const TAIL: PrepareTail = {
  stats: 40,
  invalidations: 48,
  initFile: 52,
  gidLength: 54,
  originLsn: 56,
  bytes: 72,
};

export function describePrepare(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  const tail = hasDroppedStats(format) ? TAIL : TAIL_BEFORE_15;
  const gid = mainStart + tail.bytes;
  if (gid > end) return markCutShort(out);
  const gidLength = bytes.readUInt16LE(mainStart + tail.gidLength);
  const subtransactionCount = bytes.readUInt32LE(mainStart + SUBTRANSACTIONS);
  const commitCount = bytes.readUInt32LE(mainStart + COMMIT_RELATIONS);
  const abortCount = bytes.readUInt32LE(mainStart + ABORT_RELATIONS);
  const statsAt = mainStart + tail.stats;
  const commitStatsCount = tail.stats === 0 ? 0 : bytes.readUInt32LE(statsAt);
  const abortStatsCount = tail.stats === 0 ? 0 : bytes.readUInt32LE(statsAt + 4);
  const invalidationCount = bytes.readUInt32LE(mainStart + tail.invalidations);

  const subtransactions = gid + aligned(gidLength);
  const commitRelations = subtransactions + aligned(subtransactionCount * XID_BYTES);
  const abortRelations = commitRelations + aligned(commitCount * RELATION_BYTES);
  const commitStats = abortRelations + aligned(abortCount * RELATION_BYTES);
  const abortStats = commitStats + aligned(commitStatsCount * statsItemBytes(format));
  const invalidations = abortStats + aligned(abortStatsCount * statsItemBytes(format));
  // A count too large or negative (a larger one still) moves what follows it beyond the end.
  if (invalidations > end) return markCutShort(out);

  out.text("gid ");
  writeGid(out, bytes, gid, gidLength);
  out.text(": ");
  writeTimestamp(out, bytes, mainStart + PREPARED_AT);
  writeRelations(out, "rels(commit)", bytes, commitRelations, end, commitCount, format);
  writeRelations(out, "rels(abort)", bytes, abortRelations, end, abortCount, format);
  writeDroppedStats(out, "commit ", bytes, commitStats, end, commitStatsCount, format);
  writeDroppedStats(out, "abort ", bytes, abortStats, end, abortStatsCount, format);
  writeSubtransactions(out, bytes, subtransactions, end, subtransactionCount);
  if (invalidationCount > 0 && bytes[mainStart + tail.initFile] !== 0) {
    writeInitFile(out, bytes.readUInt32LE(mainStart + DATABASE), 0);
  }
  writeInvalidations(out, bytes, invalidations, end, invalidationCount, format);
  if (hasDroppedStats(format) && record.originId !== 0) {
    writeOrigin(out, record.originId, bytes, mainStart + tail.originLsn);
  }
}

/** The name has its NUL within its length; a damaged one is printed up to its length. */
function writeGid(out: TextBuffer, bytes: Buffer, at: number, length: number): void {
  const nul = bytes.indexOf(0, at);
  out.copy(bytes, at, nul === -1 ? at + length : Math.min(nul, at + length));
}

/** MAXALIGN. */
function aligned(size: number): number {
  return Math.ceil(size / 8) * 8;
}
