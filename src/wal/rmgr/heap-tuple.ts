/**
 * What deletions and locks of tuples have in common: xmax u32, offset number u16, infobits u8, flags u8
 * (xl_heap_delete, xl_heap_lock, xl_heap_lock_updated of access/heapam_xlog.h).
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { fields } from "./fields.ts";
import type { Describe } from "./record-types.ts";

const INFOBITS = 6;

const TUPLE_16 = fields("xmax: {0:u32}, off: {4:u16}, infobits: [");
const FLAGS_16 = fields("], flags: 0x{7:x02}");

/** @param text - what stands before the infobits, which are the end of it up to 15. */
export function describeTupleBefore16(text: string): Describe {
  const write = fields(text);
  return (out, record) => {
    const { bytes, mainStart } = record;
    if (!write(out, bytes, mainStart, mainStart + record.mainLength)) return;
    writeInfobits(out, bytes.readUInt8(mainStart + INFOBITS), " ", " ");
  };
}

export function describeTuple(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (!TUPLE_16(out, bytes, mainStart, end)) return;
  writeInfobits(out, bytes.readUInt8(mainStart + INFOBITS), ", ", "");
  FLAGS_16(out, bytes, mainStart, end);
}

/** XLHL_* by bit. */
const NAMES = ["IS_MULTI", "LOCK_ONLY", "EXCL_LOCK", "KEYSHR_LOCK", "KEYS_UPDATED"] as const;

/** The names of the bits that are set, with this between them and that after the last. */
export function writeInfobits(
  out: TextBuffer,
  infobits: number,
  between: string,
  after: string,
): void {
  let rest = infobits & 0x1f;
  for (let bit = 0; rest !== 0; bit++, rest >>>= 1) {
    if ((rest & 1) === 0) continue;
    out.text(NAMES[bit] ?? "");
    out.text(rest === 1 ? after : between);
  }
}
