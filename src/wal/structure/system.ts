/** Resource managers that keep the system itself: checkpoints, files, commit states, multixacts, standbys, origins. */
import { type KeepRule, type StructureOf, structureOf } from "./rows.ts";
import { keepInvalidations, keepText } from "./rules.ts";

/** A text behind a header, of which nothing is read that `from` leaves out. */
function keepTextAt(offset: number, from = 0): KeepRule {
  return (parts, { bytes }, at, end) => {
    parts.keep(at + from, at + offset);
    keepText(parts, bytes, at + offset, end);
  };
}

/** CheckPoint of catalog/pg_control.h, without its time and its padding. */
const CHECKPOINT = {
  13: "0-17 24-60 72-84",
  17: "0-17 20-60 72-84",
  19: "0-17 20-25 32-72 80-92",
} as const;

export const xlog: StructureOf = structureOf({
  0x00: CHECKPOINT, // CHECKPOINT_SHUTDOWN
  0x10: CHECKPOINT, // CHECKPOINT_ONLINE
  0x30: { 13: "0-4" }, // NEXTOID
  0x50: { 13: "0-8" }, // BACKUP_END
  0x60: { 13: "0-26" }, // PARAMETER_CHANGE
  0x70: { 13: keepTextAt(8, 8) }, // RESTORE_POINT: its name, not its time
  0x80: { 13: "0-1" }, // FPW_CHANGE
  0x90: { 13: "0-16", 17: "0-20" }, // END_OF_RECOVERY
  0xd0: { 13: "0-16" }, // OVERWRITE_CONTRECORD
  0xe0: { 17: "0-4" }, // CHECKPOINT_REDO
  0xf0: { 19: "0-1" }, // LOGICAL_DECODING_STATUS_CHANGE
});

export const smgr: StructureOf = structureOf({
  0x10: { 13: "0-16" }, // CREATE
  0x20: { 13: "0-20" }, // TRUNCATE
});

export const clog: StructureOf = structureOf({
  0x00: { 13: "0-4", 17: "0-8" }, // ZEROPAGE
  0x10: { 13: "0-8", 17: "0-12" }, // TRUNCATE
});

export const dbase: StructureOf = structureOf({
  0x00: { 13: "0-16" }, // CREATE, CREATE_FILE_COPY
  0x10: { 13: "0-", 15: "0-8" }, // DROP; CREATE_WAL_LOG
  0x20: { 15: "0-" }, // DROP
});

export const tblspc: StructureOf = structureOf({
  0x00: { 13: keepTextAt(4) }, // CREATE: with its path
  0x10: { 13: "0-4" }, // DROP
});

export const mxact: StructureOf = structureOf({
  0x00: { 13: "0-4", 17: "0-8" }, // ZERO_OFF_PAGE
  0x10: { 13: "0-4", 17: "0-8" }, // ZERO_MEM_PAGE
  0x20: { 13: "0-", 19: "0-4 8-" }, // CREATE_ID
  0x30: { 13: "4-" }, // TRUNCATE_ID
});

export const relmap: StructureOf = structureOf({
  0x00: { 13: "0-12" }, // UPDATE: not the map itself
});

/** xl_invalidations: the messages stand behind their count. */
const keepStandbyMessages: KeepRule = (parts, { bytes }, at, end, format) => {
  parts.keep(at, at + 9);
  if (at + 16 > end) return;
  parts.keep(at + 12, at + 16);
  keepInvalidations(parts, bytes, at + 16, end, bytes.readUInt32LE(at + 12), format);
};

export const standby: StructureOf = structureOf({
  0x00: { 13: "0-" }, // LOCK
  0x10: { 13: "0-9 12-" }, // RUNNING_XACTS
  0x20: { 13: keepStandbyMessages }, // INVALIDATIONS
});

export const commitTs: StructureOf = structureOf({
  0x00: { 13: "0-4", 17: "0-8" }, // ZEROPAGE
  0x10: { 13: "0-8", 17: "0-12" }, // TRUNCATE
  0x20: { 13: "0-", 14: null }, // SETTS
});

export const replOrigin: StructureOf = structureOf({
  0x00: { 13: "0-11" }, // SET
  0x10: { 13: "0-2" }, // DROP
});

/** Nothing but page contents. */
export const generic: StructureOf = structureOf({});

/** xl_logical_message: the prefix, of prefix_size bytes at 8, is printed from 14 on; the message itself is content. */
const keepPrefix: KeepRule = (parts, { bytes }, at, end) => {
  if (at + 24 > end) return;
  parts.keep(at + 4, at + 5);
  parts.keep(at + 8, at + 24);
  parts.keep(at + 24, at + 24 + Number(bytes.readBigUInt64LE(at + 8)));
};

export const logicalMessage: StructureOf = structureOf({
  0x00: { 13: "4-5 8-24", 14: keepPrefix }, // MESSAGE
});
