/** SP-GiST indexes. Sources: access/spgxlog.h, spgdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const spg: ResourceManagerOf = resourceManager("SPGist", {
  0x10: {
    13: {
      name: "ADD_LEAF",
      describe:
        "add leaf to page; off {2:u16}; headoff {4:u16}; parentoff {6:u16}{0? (newpage)}{1? (nulls)}",
    },
    14: {
      name: "ADD_LEAF",
      describe:
        "off: {2:u16}, headoff: {4:u16}, parentoff: {6:u16}, nodeI: {8:u16}{0? (newpage)}{1? (nulls)}",
    },
  },
  0x20: {
    13: { name: "MOVE_LEAFS", describe: "{0:u16} leafs" },
    14: {
      name: "MOVE_LEAFS",
      describe:
        "nmoves: {0:u16}, parentoff: {6:u16}, nodeI: {8:u16}{2? (newpage)}{3? (replacedead)}{4? (nulls)}",
    },
  },
  0x30: {
    13: { name: "ADD_NODE", describe: "off {0:u16}" },
    14: {
      name: "ADD_NODE",
      describe:
        "off: {0:u16}, newoff: {2:u16}, parentBlk: {5:i8}, parentoff: {6:u16}, nodeI: {8:u16}{4? (newpage)}",
    },
  },
  0x40: {
    13: {
      name: "SPLIT_TUPLE",
      describe: "prefix off: {0:u16}, postfix off: {2:u16} (same {5:u8}, new {4:u8})",
    },
    14: {
      name: "SPLIT_TUPLE",
      describe: "prefixoff: {0:u16}, postfixoff: {2:u16}{4? (newpage)}{5? (same)}",
    },
  },
  0x50: {
    13: {
      name: "PICKSPLIT",
      describe: "ndel {2:u16}; nins {4:u16}{12? (innerIsParent)}{0? (isRootSplit)}",
    },
    14: {
      name: "PICKSPLIT",
      describe:
        "ndelete: {2:u16}, ninsert: {4:u16}, inneroff: {8:u16}, parentoff: {14:u16}, nodeI: {16:u16}" +
        "{12? (innerIsParent)}{11? (nulls)}{0? (isRootSplit)}",
    },
  },
  0x60: {
    13: { name: "VACUUM_LEAF" },
    14: {
      name: "VACUUM_LEAF",
      describe: "ndead: {0:u16}, nplaceholder: {2:u16}, nmove: {4:u16}, nchain: {6:u16}",
    },
  },
  0x70: {
    13: { name: "VACUUM_ROOT" },
    14: { name: "VACUUM_ROOT", describe: "ndelete: {0:u16}" },
  },
  0x80: {
    13: { name: "VACUUM_REDIRECT", describe: "newest XID {4:u32}" },
    14: {
      name: "VACUUM_REDIRECT",
      describe: "ntoplaceholder: {0:u16}, firstplaceholder: {2:u16}, newestredirectxid: {4:u32}",
    },
    16: {
      name: "VACUUM_REDIRECT",
      describe:
        "ntoplaceholder: {0:u16}, firstplaceholder: {2:u16}, snapshotConflictHorizon: {4:u32}",
    },
    17: {
      name: "VACUUM_REDIRECT",
      describe:
        "ntoplaceholder: {0:u16}, firstplaceholder: {2:u16}, snapshotConflictHorizon: {4:u32}, isCatalogRel: {8:tf}",
    },
  },
});
