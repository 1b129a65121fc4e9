/** BRIN indexes. Sources: access/brin_xlog.h, brindesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

const INSERT = "heapBlk {0:u32} pagesPerRange {4:u32} offnum {8:u16}";
const UPDATE = "heapBlk {4:u32} pagesPerRange {8:u32} old offnum {0:u16}, new offnum {12:u16}";

export const brin: ResourceManagerOf = resourceManager(
  "BRIN",
  {
    0x00: { 13: { name: "CREATE_INDEX", describe: "v{4:u16} pagesPerRange {0:u32}" } },
    0x10: { 13: { name: "INSERT", describe: INSERT } },
    0x20: { 13: { name: "UPDATE", describe: UPDATE } },
    0x30: { 13: { name: "SAMEPAGE_UPDATE", describe: "offnum {0:u16}" } },
    0x40: { 13: { name: "REVMAP_EXTEND", describe: "targetBlk {0:u32}" } },
    0x50: {
      13: {
        name: "DESUMMARIZE",
        describe: "pagesPerRange {0:u32}, heapBlk {4:u32}, page offset {8:u16}",
      },
    },
    // XLOG_BRIN_INIT_PAGE
    0x90: { 13: { name: "INSERT+INIT" } },
    0xa0: { 13: { name: "UPDATE+INIT" } },
  },
  { describe: 0x70 }, // XLOG_BRIN_OPMASK
);
