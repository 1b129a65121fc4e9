/** Generic WAL, which extensions write. Sources: access/generic_xlog.h, genericdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { fields } from "./fields.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const generic: ResourceManagerOf = resourceManager(
  "Generic",
  { 0x00: { 13: { name: "Generic", describe: describeDeltas } } },
  { describe: 0, identify: 0 },
);

const DELTA = fields("offset {0:u16}, length {2:u16}");
const DELTA_HEADER_BYTES = 4;

/** The deltas stand with the blocks; main data, which would be printed the same way, is empty in what servers write. */
function describeDeltas(out: TextBuffer, record: WalRecord): void {
  const { bytes } = record;
  const end = record.mainStart + record.mainLength;
  for (let at = record.mainStart; at < end;) {
    if (!DELTA(out, bytes, at, end)) return;
    at += DELTA_HEADER_BYTES + bytes.readUInt16LE(at + 2);
    if (at < end) out.text("; ");
  }
}
