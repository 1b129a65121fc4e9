/** Commit timestamps. Sources: access/commit_ts.h, committsdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { fields } from "./fields.ts";
import { writeElements } from "./lists.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const commitTs: ResourceManagerOf = resourceManager(
  "CommitTs",
  {
    0x00: {
      13: { name: "ZEROPAGE", describe: "{0:i32}" },
      17: { name: "ZEROPAGE", describe: "{0:i64}" },
    },
    0x10: {
      13: { name: "TRUNCATE", describe: "pageno {0:i32}, oldestXid {4:u32}" },
      17: { name: "TRUNCATE", describe: "pageno {0:i64}, oldestXid {8:u32}" },
    },
    0x20: { 13: { name: "SETTS", describe: describeSet }, 14: null },
  },
  { identify: 0xff },
);

const SET = fields("set {0:time}/{8:u16} for: {12:u32}");
const SET_BYTES = 16;

/** xl_commit_ts_set; the rest of the record is the subtransactions. */
function describeSet(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (!SET(out, bytes, mainStart, end)) return;
  const count = Math.floor((record.mainLength - SET_BYTES) / 4);
  writeElements(out, bytes, mainStart + SET_BYTES, end, count, 4, writeListedXid);
}

function writeListedXid(out: TextBuffer, bytes: Buffer, at: number): void {
  out.text(", ");
  out.unsigned(bytes.readUInt32LE(at));
}
