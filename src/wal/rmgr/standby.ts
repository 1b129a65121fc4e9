/** What standbys need to know. Sources: storage/standbydefs.h, storage/lockdefs.h, standbydesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { fields } from "./fields.ts";
import { writeInitFile, writeInvalidations } from "./invalidations.ts";
import { writeElements, writeSpacedU32 } from "./lists.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const standby: ResourceManagerOf = resourceManager("Standby", {
  0x00: { 13: { name: "LOCK", describe: describeLocks } },
  0x10: {
    13: { name: "RUNNING_XACTS", describe: describeRunningXactsBefore16 },
    16: { name: "RUNNING_XACTS", describe: describeRunningXacts },
  },
  0x20: { 13: { name: "INVALIDATIONS", describe: describeInvalidations } },
});

/** xl_standby_lock: xid, database, relation. */
const LOCK_BYTES = 12;

/** xl_standby_locks: a count, then the locks. */
function describeLocks(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (mainStart + 4 > end) {
    markCutShort(out);
    return;
  }
  const count = bytes.readInt32LE(mainStart);
  writeElements(out, bytes, mainStart + 4, end, count, LOCK_BYTES, writeLock);
}

function writeLock(out: TextBuffer, bytes: Buffer, at: number): void {
  out.text("xid ");
  out.unsigned(bytes.readUInt32LE(at));
  out.text(" db ");
  out.unsigned(bytes.readUInt32LE(at + 4));
  out.text(" rel ");
  out.unsigned(bytes.readUInt32LE(at + 8));
  out.text(" ");
}

/** xl_running_xacts: xcnt, subxcnt, subxid_overflow, three xids, then xcnt and subxcnt xids. */
const RUNNING_XACTS = fields(
  "nextXid {12:u32} latestCompletedXid {20:u32} oldestRunningXid {16:u32}",
);
const RUNNING_XACTS_BYTES = 24;

function describeRunningXactsBefore16(out: TextBuffer, record: WalRecord): void {
  if (describeTopXacts(out, record) < 0) return;
  if (record.bytes[record.mainStart + 8] !== 0) out.text("; subxid ovf");
}

function describeRunningXacts(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const at = describeTopXacts(out, record);
  if (at < 0) return;
  if (bytes[mainStart + 8] !== 0) out.text("; subxid overflowed");
  const count = bytes.readInt32LE(mainStart + 4);
  if (count <= 0) return;
  out.text("; ");
  out.unsigned(count);
  out.text(" subxacts:");
  writeElements(out, bytes, at, mainStart + record.mainLength, count, 4, writeSpacedU32);
}

/** @returns where the xids of subtransactions begin; -1 where the record ends before. */
function describeTopXacts(out: TextBuffer, record: WalRecord): number {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (!RUNNING_XACTS(out, bytes, mainStart, end)) return -1;
  const count = bytes.readInt32LE(mainStart);
  const xids = mainStart + RUNNING_XACTS_BYTES;
  if (count <= 0) return xids;
  out.text("; ");
  out.unsigned(count);
  out.text(" xacts:");
  return writeElements(out, bytes, xids, end, count, 4, writeSpacedU32);
}

/** xl_invalidations: database, tablespace, relcacheInitFileInval, a count, then the messages. */
const INVALIDATIONS_BYTES = 16;

function describeInvalidations(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  const messages = mainStart + INVALIDATIONS_BYTES;
  if (messages > end) {
    markCutShort(out);
    return;
  }
  const count = bytes.readInt32LE(mainStart + 12);
  if (count > 0 && bytes[mainStart + 8] !== 0) {
    writeInitFile(out, bytes.readUInt32LE(mainStart), bytes.readUInt32LE(mainStart + 4));
  }
  writeInvalidations(out, bytes, messages, end, count, format);
}
