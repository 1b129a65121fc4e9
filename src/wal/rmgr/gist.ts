/** GiST indexes. Sources: access/gistxlog.h, gistdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const gist: ResourceManagerOf = resourceManager("Gist", {
  0x00: { 13: { name: "PAGE_UPDATE" } },
  0x10: {
    13: { name: "DELETE", describe: "delete: latestRemovedXid {0:u32}, nitems: {4:u16}" },
    16: { name: "DELETE", describe: "delete: snapshotConflictHorizon {0:u32}, nitems: {4:u16}" },
    17: {
      name: "DELETE",
      describe: "delete: snapshotConflictHorizon {0:u32}, nitems: {4:u16}, isCatalogRel {6:tf}",
    },
  },
  0x20: {
    13: { name: "PAGE_REUSE", describe: "rel {0:rel}; blk {12:u32}; latestRemovedXid {16:xid64}" },
    16: {
      name: "PAGE_REUSE",
      describe: "rel {0:rel}; blk {12:u32}; snapshotConflictHorizon {16:xid64}",
    },
    17: {
      name: "PAGE_REUSE",
      describe:
        "rel {0:rel}; blk {12:u32}; snapshotConflictHorizon {16:xid64}, isCatalogRel {24:tf}",
    },
  },
  0x30: { 13: { name: "PAGE_SPLIT", describe: "page_split: splits to {18:u16} pages" } },
  0x60: { 13: { name: "PAGE_DELETE", describe: "deleteXid {0:xid64}; downlink {8:u16}" } },
  // 19 has it among the records of XLOG.
  0x70: { 13: { name: "ASSIGN_LSN" }, 19: null },
});
