/** Files of relations. Sources: catalog/storage_xlog.h, smgrdesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { markCutShort } from "./cut-short.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";
import { RELATION_BYTES, writeRelationPath } from "./relation-path.ts";

export const smgr: ResourceManagerOf = resourceManager("Storage", {
  0x10: { 13: { name: "CREATE", describe: describeCreate } },
  0x20: { 13: { name: "TRUNCATE", describe: describeTruncate } },
});

/** xl_smgr_create: the relation, then its fork as an int. */
function describeCreate(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  if (record.mainLength < RELATION_BYTES + 4) {
    markCutShort(out);
    return;
  }
  const fork = bytes.readUInt32LE(mainStart + RELATION_BYTES);
  writeRelationPath(out, bytes, mainStart, fork, format);
}

/** xl_smgr_truncate: block count u32, the relation, flags as an int. */
function describeTruncate(out: TextBuffer, record: WalRecord, format: WalFormat): void {
  const { bytes, mainStart } = record;
  if (record.mainLength < 4 + RELATION_BYTES + 4) {
    markCutShort(out);
    return;
  }
  writeRelationPath(out, bytes, mainStart + 4, 0, format);
  out.text(" to ");
  out.unsigned(bytes.readUInt32LE(mainStart));
  out.text(" blocks flags ");
  out.signed(bytes.readInt32LE(mainStart + 4 + RELATION_BYTES));
}
