/**
 * XLOG's own records. Sources: catalog/pg_control.h (CheckPoint, XLOG_*), access/xlog_internal.h, xlogdesc.c.
 */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

/** Of a CheckPoint, what stands before and behind the fields that later majors put into it. */
const POSITION = "redo {0:lsn}; tli {8:u32}; prev tli {12:u32}; fpw {16:bool}; ";
const CHECKPOINT_13 =
  "xid {24:xid64}; oid {32:u32}; multi {36:u32}; offset {40:u32}; " +
  "oldest xid {44:u32} in DB {48:u32}; oldest multi {52:u32} in DB {56:u32}; " +
  "oldest/newest commit timestamp xid: {72:u32}/{76:u32}; oldest running xid {80:u32}; ";
const CHECKPOINT_17 = `wal_level {20:level}; ${CHECKPOINT_13}`;
const CHECKPOINT_19 =
  "wal_level {20:level}; logical decoding {24:bool}; " +
  "xid {32:xid64}; oid {40:u32}; multi {44:u32}; offset {48:u64}; " +
  "oldest xid {56:u32} in DB {60:u32}; oldest multi {64:u32} in DB {68:u32}; " +
  "oldest/newest commit timestamp xid: {80:u32}/{84:u32}; oldest running xid {88:u32}; ";

const PARAMETERS =
  "max_connections={0:i32} max_worker_processes={4:i32} max_wal_senders={8:i32} " +
  "max_prepared_xacts={12:i32} max_locks_per_xact={16:i32} wal_level={20:level} " +
  "wal_log_hints={24:on} track_commit_timestamp={25:on}";

const END_OF_RECOVERY = "tli {8:u32}; prev tli {12:u32}; time {0:time}";

export const xlog: ResourceManagerOf = resourceManager("XLOG", {
  0x00: {
    13: { name: "CHECKPOINT_SHUTDOWN", describe: `${POSITION}${CHECKPOINT_13}shutdown` },
    17: { name: "CHECKPOINT_SHUTDOWN", describe: `${POSITION}${CHECKPOINT_17}shutdown` },
    19: { name: "CHECKPOINT_SHUTDOWN", describe: `${POSITION}${CHECKPOINT_19}shutdown` },
  },
  0x10: {
    13: { name: "CHECKPOINT_ONLINE", describe: `${POSITION}${CHECKPOINT_13}online` },
    17: { name: "CHECKPOINT_ONLINE", describe: `${POSITION}${CHECKPOINT_17}online` },
    19: { name: "CHECKPOINT_ONLINE", describe: `${POSITION}${CHECKPOINT_19}online` },
  },
  0x20: { 13: { name: "NOOP" } },
  0x30: { 13: { name: "NEXTOID", describe: "{0:u32}" } },
  0x40: { 13: { name: "SWITCH" } },
  0x50: { 13: { name: "BACKUP_END", describe: "{0:lsn}" } },
  0x60: { 13: { name: "PARAMETER_CHANGE", describe: PARAMETERS } },
  0x70: { 13: { name: "RESTORE_POINT", describe: "{8:string}" } },
  0x80: { 13: { name: "FPW_CHANGE", describe: "{0:bool}" } },
  0x90: {
    13: { name: "END_OF_RECOVERY", describe: END_OF_RECOVERY },
    17: { name: "END_OF_RECOVERY", describe: `${END_OF_RECOVERY}; wal_level {16:level}` },
  },
  0xa0: { 13: { name: "FPI_FOR_HINT" } },
  0xb0: { 13: { name: "FPI" } },
  0xc0: { 19: { name: "ASSIGN_LSN" } },
  0xd0: { 13: { name: "OVERWRITE_CONTRECORD", describe: "lsn {0:lsn}; time {8:time}" } },
  0xe0: { 17: { name: "CHECKPOINT_REDO", describe: "wal_level {0:level}" } },
  0xf0: { 19: { name: "LOGICAL_DECODING_STATUS_CHANGE", describe: "{0:bool}" } },
});
