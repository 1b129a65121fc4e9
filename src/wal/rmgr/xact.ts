/** Transactions. Sources: access/xact.h, xactdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { writeInvalidations } from "./invalidations.ts";
import { writeElements, writeSpacedU32 } from "./lists.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";
import { describeAbort, describeCommit } from "./xact-end.ts";
import { describePrepare } from "./xact-prepare.ts";

export const xact: ResourceManagerOf = resourceManager(
  "Transaction",
  {
    0x00: { 13: { name: "COMMIT", describe: describeCommit } },
    0x10: { 13: { name: "PREPARE", describe: describePrepare } },
    0x20: { 13: { name: "ABORT", describe: describeAbort } },
    0x30: { 13: { name: "COMMIT_PREPARED", describe: describeCommit } },
    0x40: { 13: { name: "ABORT_PREPARED", describe: describeAbort } },
    0x50: { 13: { name: "ASSIGNMENT", describe: describeAssignment } },
    0x60: { 14: { name: "INVALIDATION", describe: describeInvalidations } },
  },
  { describe: 0x70, identify: 0x70 }, // XLOG_XACT_OPMASK
);

/** xl_xact_assignment: the top xid, a count, the xids of its subtransactions. */
function describeAssignment(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (mainStart + 8 > end) return markCutShort(out);
  out.text("xtop ");
  out.unsigned(bytes.readUInt32LE(mainStart));
  out.text(": subxacts:");
  const count = bytes.readInt32LE(mainStart + 4);
  writeElements(out, bytes, mainStart + 8, end, count, 4, writeSpacedU32);
}

/** xl_xact_invals: a count, the messages. */
function describeInvalidations(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (mainStart + 4 > end) return markCutShort(out);
  const count = bytes.readInt32LE(mainStart);
  writeInvalidations(out, bytes, mainStart + 4, end, count, format);
}
