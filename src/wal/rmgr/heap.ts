/** Heap tuples. Sources: access/heapam_xlog.h, heapdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { fields, type WriteFields } from "./fields.ts";
import { describeTupleBefore16, describeTuple, writeInfobits } from "./heap-tuple.ts";
import { writeInitFile, writeInvalidations } from "./invalidations.ts";
import { writeArray, writeElements, writeSpacedU32, writeU32 } from "./lists.ts";
import { resourceManager, type Versions, type ResourceManagerOf } from "./record-types.ts";

export const heap: ResourceManagerOf = resourceManager(
  "Heap",
  {
    0x00: {
      13: { name: "INSERT", describe: "off {0:u16} flags 0x{2:x02}" },
      16: { name: "INSERT", describe: "off: {0:u16}, flags: 0x{2:x02}" },
    },
    0x10: {
      13: { name: "DELETE", describe: describeTupleBefore16("off {4:u16} flags 0x{7:x02} ") },
      16: { name: "DELETE", describe: describeTuple },
    },
    0x20: update("UPDATE"),
    0x30: {
      13: { name: "TRUNCATE", describe: describeTruncateBefore16 },
      16: { name: "TRUNCATE", describe: describeTruncate },
    },
    0x40: update("HOT_UPDATE"),
    0x50: {
      13: { name: "HEAP_CONFIRM", describe: "off {0:u16}" },
      16: { name: "HEAP_CONFIRM", describe: "off: {0:u16}" },
    },
    0x60: {
      13: {
        name: "LOCK",
        describe: describeTupleBefore16("off {4:u16}: xid {0:u32}: flags 0x{7:x02} "),
      },
      16: { name: "LOCK", describe: describeTuple },
    },
    0x70: {
      13: { name: "INPLACE", describe: "off {0:u16}" },
      16: { name: "INPLACE", describe: "off: {0:u16}" },
      18: { name: "INPLACE", describe: describeInplace },
    },
    // XLOG_HEAP_INIT_PAGE
    0x80: { 13: { name: "INSERT+INIT" } },
    0xa0: { 13: { name: "UPDATE+INIT" } },
    0xc0: { 13: { name: "HOT_UPDATE+INIT" } },
  },
  { describe: 0x70 }, // XLOG_HEAP_OPMASK
);

/** xl_heap_update: the old tuple as in other records, then new_xmax u32 and new_offnum u16. */
const OLD_TUPLE_13 = fields("off {4:u16} xmax {0:u32} flags 0x{7:x02} ");
const NEW_TUPLE_13 = fields("; new off {12:u16} xmax {8:u32}");
const OLD_TUPLE_16 = fields("old_xmax: {0:u32}, old_off: {4:u16}, old_infobits: [");
const NEW_TUPLE_16 = fields("], flags: 0x{7:x02}, new_xmax: {8:u32}, new_off: {12:u16}");
const UPDATE_BYTES = 14;

function update(name: string): Versions {
  return {
    13: {
      name,
      describe: (out, record) => describeUpdate(out, record, OLD_TUPLE_13, " ", " ", NEW_TUPLE_13),
    },
    16: {
      name,
      describe: (out, record) => describeUpdate(out, record, OLD_TUPLE_16, ", ", "", NEW_TUPLE_16),
    },
  };
}

/** The two tuples, and between them the old one's infobits, as `writeInfobits` takes what stands around them. */
function describeUpdate(
  out: TextBuffer,
  { bytes, mainStart, mainLength }: WalRecord,
  oldTuple: WriteFields,
  separator: string,
  after: string,
  newTuple: WriteFields,
): void {
  const end = mainStart + mainLength;
  if (mainStart + UPDATE_BYTES > end) return markCutShort(out);
  oldTuple(out, bytes, mainStart, end);
  writeInfobits(out, bytes.readUInt8(mainStart + 6), separator, after);
  newTuple(out, bytes, mainStart, end);
}

/** xl_heap_truncate: database u32, nrelids u32, flags u8, then the relations from 12 on. */
const TRUNCATE_BYTES = 12;
const CASCADE = 1;
const RESTART_SEQS = 2;

function describeTruncateBefore16(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  const relations = mainStart + TRUNCATE_BYTES;
  if (relations > end) return markCutShort(out);
  const count = bytes.readUInt32LE(mainStart + 4);
  const flags = bytes.readUInt8(mainStart + 8);
  if ((flags & CASCADE) !== 0) out.text("cascade ");
  if ((flags & RESTART_SEQS) !== 0) out.text("restart_seqs ");
  out.text("nrelids ");
  out.unsigned(count);
  out.text(" relids");
  writeElements(out, bytes, relations, end, count, 4, writeSpacedU32);
}

function describeTruncate(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  const relations = mainStart + TRUNCATE_BYTES;
  if (relations > end) return markCutShort(out);
  const count = bytes.readUInt32LE(mainStart + 4);
  const flags = bytes.readUInt8(mainStart + 8);
  out.text("flags: [");
  if ((flags & CASCADE) !== 0) out.text("CASCADE");
  if ((flags & CASCADE) !== 0 && (flags & RESTART_SEQS) !== 0) out.text(", ");
  if ((flags & RESTART_SEQS) !== 0) out.text("RESTART_SEQS");
  out.text("], nrelids: ");
  out.unsigned(count);
  out.text(", relids:");
  writeArray(out, bytes, relations, end, count, 4, writeU32);
}

/** xl_heap_inplace of 18: offnum u16, database and tablespace at 4, relcacheInitFileInval, a count, the messages. */
const INPLACE_BYTES = 20;

function describeInplace(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  const messages = mainStart + INPLACE_BYTES;
  if (messages > end) return markCutShort(out);
  out.text("off: ");
  out.unsigned(bytes.readUInt16LE(mainStart));
  const count = bytes.readInt32LE(mainStart + 16);
  if (count > 0 && bytes[mainStart + 12] !== 0) {
    writeInitFile(out, bytes.readUInt32LE(mainStart + 4), bytes.readUInt32LE(mainStart + 8));
  }
  writeInvalidations(out, bytes, messages, end, count, format);
}
