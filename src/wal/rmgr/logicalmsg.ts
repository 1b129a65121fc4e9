/** Messages of pg_logical_emit_message. Sources: replication/message.h, logicalmsgdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { markCutShort } from "./cut-short.ts";
import { writeString } from "./fields.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const logicalMessage: ResourceManagerOf = resourceManager("LogicalMessage", {
  0x00: {
    13: { name: "MESSAGE", describe: describeSize },
    14: { name: "MESSAGE", describe: describeContent },
  },
});

/** xl_logical_message: transactional at 4, prefix_size u64 at 8, message_size u64 at 16, then prefix and message. */
const HEADER_BYTES = 24;

function describeSize(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  if (record.mainLength < HEADER_BYTES) {
    markCutShort(out);
    return;
  }
  out.text(bytes[mainStart + 4] === 0 ? "nontransactional" : "transactional");
  out.text(" message size ");
  out.u64At(bytes, mainStart + 16);
  out.text(" bytes");
}

function describeContent(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  if (record.mainLength < HEADER_BYTES) {
    markCutShort(out);
    return;
  }
  const prefix = mainStart + HEADER_BYTES;
  out.text(bytes[mainStart + 4] === 0 ? "non-transactional" : "transactional");
  out.text(', prefix "');
  writeString(out, bytes, prefix, end);
  out.text('"; payload (');
  out.u64At(bytes, mainStart + 16);
  out.text(" bytes): ");
  if (record.isEncrypted) return out.text("<encrypted>");
  // Sizes beyond 2^53 lose digits and still lie beyond the record's end.
  const payload = prefix + Number(bytes.readBigUInt64LE(mainStart + 8));
  const payloadEnd = payload + Number(bytes.readBigUInt64LE(mainStart + 16));
  writeHexBytes(out, bytes, payload, Math.min(payloadEnd, end));
  if (payloadEnd > end) markCutShort(out);
}

function writeHexBytes(out: TextBuffer, bytes: Buffer, start: number, end: number): void {
  for (let at = start; at < end; at++) {
    if (at > start) out.text(" ");
    out.hex(bytes.readUInt8(at), 2);
  }
}
