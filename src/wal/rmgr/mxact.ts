/** Multixacts. Sources: access/multixact.h, mxactdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { fields, type WriteFields } from "./fields.ts";
import { writeElements } from "./lists.ts";
import { type Describe, resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const mxact: ResourceManagerOf = resourceManager("MultiXact", {
  0x00: {
    13: { name: "ZERO_OFF_PAGE", describe: "{0:i32}" },
    17: { name: "ZERO_OFF_PAGE", describe: "{0:i64}" },
  },
  0x10: {
    13: { name: "ZERO_MEM_PAGE", describe: "{0:i32}" },
    17: { name: "ZERO_MEM_PAGE", describe: "{0:i64}" },
  },
  0x20: {
    13: {
      name: "CREATE_ID",
      describe: describeCreate(fields("{0:u32} offset {4:u32} nmembers {8:i32}: "), 8),
    },
    19: {
      name: "CREATE_ID",
      describe: describeCreate(fields("{0:u32} offset {8:u64} nmembers {16:i32}: "), 16),
    },
  },
  0x30: {
    13: {
      name: "TRUNCATE_ID",
      describe: "offsets [{4:u32}, {8:u32}), members [{12:u32}, {16:u32})",
    },
    19: { name: "TRUNCATE_ID", describe: "oldestMulti {4:u32}, oldestOffset {8:u64}" },
  },
});

/** MultiXactStatus by number. */
const STATUSES: readonly string[] = [
  "(keysh) ",
  "(sh) ",
  "(fornokeyupd) ",
  "(forupd) ",
  "(nokeyupd) ",
  "(upd) ",
];
const MEMBER_BYTES = 8;

/** @param countOffset - of xl_multixact_create's nmembers, i32; the members follow it. */
function describeCreate(write: WriteFields, countOffset: number): Describe {
  return (out: TextBuffer, record: WalRecord) => {
    const { bytes, mainStart } = record;
    const end = mainStart + record.mainLength;
    if (!write(out, bytes, mainStart, end)) return;
    const count = bytes.readInt32LE(mainStart + countOffset);
    writeElements(out, bytes, mainStart + countOffset + 4, end, count, MEMBER_BYTES, writeMember);
  };
}

/** MultiXactMember: xid u32, status as an int. */
function writeMember(out: TextBuffer, bytes: Buffer, at: number): void {
  out.unsigned(bytes.readUInt32LE(at));
  out.text(" ");
  out.text(STATUSES[bytes.readUInt32LE(at + 4)] ?? "(unk) ");
}
