/** Databases. Sources: commands/dbcommands_xlog.h, dbasedesc.c. */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import { markCutShort } from "./cut-short.ts";
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

const COPY = "copy dir {12:u32}/{8:u32} to {4:u32}/{0:u32}";

export const dbase: ResourceManagerOf = resourceManager("Database", {
  0x00: {
    13: { name: "CREATE", describe: COPY },
    15: { name: "CREATE_FILE_COPY", describe: COPY },
  },
  0x10: {
    13: { name: "DROP", describe: describeDrop },
    15: { name: "CREATE_WAL_LOG", describe: "create dir {4:u32}/{0:u32}" },
  },
  0x20: { 15: { name: "DROP", describe: describeDrop } },
});

/** xl_dbase_drop_rec: db_id u32, ntablespaces i32, then a u32 for each. */
function describeDrop(out: TextBuffer, record: WalRecord): void {
  const { bytes, mainStart } = record;
  const end = mainStart + record.mainLength;
  out.text("dir");
  if (mainStart + 8 > end) {
    markCutShort(out);
    return;
  }
  const databaseOid = bytes.readUInt32LE(mainStart);
  const count = bytes.readInt32LE(mainStart + 4);
  for (let i = 0, at = mainStart + 8; i < count; i++, at += 4) {
    if (at + 4 > end) {
      markCutShort(out);
      return;
    }
    out.text(" ");
    out.unsigned(bytes.readUInt32LE(at));
    out.text("/");
    out.unsigned(databaseOid);
  }
}
