/**
 * The header of a WAL record and the bits of what follows it. Source: access/xlogrecord.h.
 */

/** XLogRecord, little-endian. */
export const RECORD_HEADER = {
  totalLength: 0, // u32  whole record, this header included
  xid: 4, //         u32
  prev: 8, //        u64  LSN of the record before
  info: 16, //       u8   high nibble belongs to the resource manager
  rmid: 17, //       u8   then two bytes of padding
  crc: 20, //        u32  CRC-32C of what follows the header, then of the header up to here
} as const;
export const RECORD_HEADER_BYTES = 24;

/** Block ids with a meaning of their own. */
export const BLOCK_ID_DATA_SHORT = 255;
export const BLOCK_ID_DATA_LONG = 254;
export const BLOCK_ID_ORIGIN = 253;
export const BLOCK_ID_TOPLEVEL_XID = 252;

/** fork_flags of a block header. */
export const FORK_MASK = 0x0f;
export const BLOCK_HAS_IMAGE = 0x10;
export const BLOCK_HAS_DATA = 0x20;
export const BLOCK_WILL_INIT = 0x40;
export const BLOCK_SAME_REL = 0x80;

/** BLCKSZ: the size of a relation's page. */
export const BLOCK_BYTES = 8192;

/** The bits of xl_info that are not the resource manager's: XLR_INFO_MASK. */
export const INFO_MASK = 0x0f;

/** RM_XLOG_ID and XLOG_SWITCH: what follows such a record in its segment is not WAL. */
export const RMGR_XLOG = 0;
export const XLOG_SWITCH = 0x40;
