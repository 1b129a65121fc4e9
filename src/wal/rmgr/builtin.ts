/**
 * The resource managers that every server has, in the order of their ids, which is the same from 13 to 19. Source:
 * access/rmgrlist.h.
 */
export const BUILTIN_RMGRS = [
  "xlog",
  "xact",
  "smgr",
  "clog",
  "dbase",
  "tblspc",
  "mxact",
  "relmap",
  "standby",
  "heap2",
  "heap",
  "nbt",
  "hash",
  "gin",
  "gist",
  "seq",
  "spg",
  "brin",
  "commitTs",
  "replOrigin",
  "generic",
  "logicalMessage",
] as const;

/** What there is for each of them. */
export type ByRmgr<T> = Readonly<Record<(typeof BUILTIN_RMGRS)[number], T>>;
