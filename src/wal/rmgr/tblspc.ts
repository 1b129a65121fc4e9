/** Tablespaces. Sources: commands/tablespace.h, tblspcdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const tblspc: ResourceManagerOf = resourceManager("Tablespace", {
  0x00: { 13: { name: "CREATE", describe: '{0:u32} "{4:string}"' } },
  0x10: { 13: { name: "DROP", describe: "{0:u32}" } },
});
