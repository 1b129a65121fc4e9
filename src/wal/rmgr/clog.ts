/** The commit log. Sources: access/clog.h, clogdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const clog: ResourceManagerOf = resourceManager("CLOG", {
  0x00: {
    13: { name: "ZEROPAGE", describe: "page {0:i32}" },
    17: { name: "ZEROPAGE", describe: "page {0:i64}" },
  },
  0x10: {
    13: { name: "TRUNCATE", describe: "page {0:i32}; oldestXact {4:u32}" },
    17: { name: "TRUNCATE", describe: "page {0:i64}; oldestXact {8:u32}" },
  },
});
