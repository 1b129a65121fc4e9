/**
 * The names of the bits in a heap tuple's t_infomask and t_infomask2, without their HEAP_.
 * Source: access/htup_details.h.
 */

const INFOMASK_NAMES: readonly string[] = [
  "HASNULL",
  "HASVARWIDTH",
  "HASEXTERNAL",
  "HASOID_OLD",
  "XMAX_KEYSHR_LOCK",
  "COMBOCID",
  "XMAX_EXCL_LOCK",
  "XMAX_LOCK_ONLY",
  "XMIN_COMMITTED",
  "XMIN_INVALID",
  "XMAX_COMMITTED",
  "XMAX_INVALID",
  "XMAX_IS_MULTI",
  "UPDATED",
  "MOVED_OFF",
  "MOVED_IN",
];

/** By bit; the eleven lowest count values, and the next two have no meaning. */
const INFOMASK2_NAMES: ReadonlyMap<number, string> = new Map([
  [13, "KEYS_UPDATED"],
  [14, "HOT_UPDATED"],
  [15, "ONLY_TUPLE"],
]);

/** Names of the bits that are set, the lowest first: first those of t_infomask, then those of t_infomask2. */
export function infomaskNames(infomask: number, infomask2: number): string[] {
  return [
    ...INFOMASK_NAMES.filter((_, bit) => (infomask & (1 << bit)) !== 0),
    ...[...INFOMASK2_NAMES]
      .filter(([bit]) => (infomask2 & (1 << bit)) !== 0)
      .map(([, name]) => name),
  ];
}
