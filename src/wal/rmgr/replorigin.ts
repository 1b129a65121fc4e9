/** Replication origins. Sources: replication/origin.h, replorigindesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const replOrigin: ResourceManagerOf = resourceManager(
  "ReplicationOrigin",
  {
    0x00: { 13: { name: "SET", describe: "set {8:u16}; lsn {0:lsn}; force: {10:u8}" } },
    0x10: { 13: { name: "DROP", describe: "drop {0:u16}" } },
  },
  { identify: 0xff },
);
