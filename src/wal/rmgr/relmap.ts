/** The relation map, pg_filenode.map. Sources: utils/relmapper.h, relmapdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const relmap: ResourceManagerOf = resourceManager("RelMap", {
  0x00: {
    13: { name: "UPDATE", describe: "database {0:u32} tablespace {4:u32} size {8:u32}" },
    15: { name: "UPDATE", describe: "database {0:u32} tablespace {4:u32} size {8:i32}" },
  },
});
