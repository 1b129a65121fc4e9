/** Hash indexes. Sources: access/hash_xlog.h, hashdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const hash: ResourceManagerOf = resourceManager("Hash", {
  0x00: {
    13: { name: "INIT_META_PAGE", describe: "num_tuples {0:g}, fillfactor {12:u16}" },
    19: {
      name: "INIT_META_PAGE",
      describe: "num_tuples {0:g}, procid {8:u32}, fillfactor {12:u16}",
    },
  },
  0x10: { 13: { name: "INIT_BITMAP_PAGE", describe: "bmsize {0:u16}" } },
  0x20: { 13: { name: "INSERT", describe: "off {0:u16}" } },
  0x30: { 13: { name: "ADD_OVFL_PAGE", describe: "bmsize {0:u16}, bmpage_found {2:tf}" } },
  0x40: {
    13: {
      name: "SPLIT_ALLOCATE_PAGE",
      describe:
        "new_bucket {0:u32}, meta_page_masks_updated {8:bit0}, issplitpoint_changed {8:bit1}",
    },
    19: {
      name: "SPLIT_ALLOCATE_PAGE",
      describe:
        "new_bucket {0:u32}, old_bucket_flag {4:u16}, new_bucket_flag {6:u16}, " +
        "meta_page_masks_updated {8:bit0}, issplitpoint_changed {8:bit1}",
    },
  },
  0x50: { 13: { name: "SPLIT_PAGE" } },
  0x60: {
    13: {
      name: "SPLIT_COMPLETE",
      describe: "old_bucket_flag {0:u16}, new_bucket_flag {2:u16}",
    },
  },
  0x70: { 13: { name: "MOVE_PAGE_CONTENTS", describe: "ntups {0:u16}, is_primary {2:tf}" } },
  0x80: {
    13: {
      name: "SQUEEZE_PAGE",
      describe: "prevblkno {0:u32}, nextblkno {4:u32}, ntups {8:u16}, is_primary {10:tf}",
    },
    19: {
      name: "SQUEEZE_PAGE",
      describe:
        "prevblkno {0:u32}, nextblkno {4:u32}, ntups {8:u16}, is_primary {10:tf}, is_previous {11:tf}",
    },
  },
  0x90: { 13: { name: "DELETE", describe: "clear_dead_marking {0:tf}, is_primary {1:tf}" } },
  0xa0: { 13: { name: "SPLIT_CLEANUP" } },
  0xb0: { 13: { name: "UPDATE_META_PAGE", describe: "ntuples {0:g}" } },
  0xc0: {
    13: { name: "VACUUM_ONE_PAGE", describe: "ntuples {4:i32}, latest removed xid {0:u32}" },
    14: { name: "VACUUM_ONE_PAGE", describe: "ntuples {4:i32}, latestRemovedXid {0:u32}" },
    16: { name: "VACUUM_ONE_PAGE", describe: "ntuples {4:u16}, snapshotConflictHorizon {0:u32}" },
    17: {
      name: "VACUUM_ONE_PAGE",
      describe: "ntuples {4:u16}, snapshotConflictHorizon {0:u32}, isCatalogRel {6:tf}",
    },
  },
});
