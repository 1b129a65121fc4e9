/**
 * One WAL record as its reader hands it on: where its parts are, not copies of them. The same object serves for
 * every record of a run, so whoever wants to keep something copies it. Source: access/xlogreader.h, DecodedXLogRecord.
 */

/** XLR_MAX_BLOCK_ID of access/xlogrecord.h. */
export const MAX_BLOCK_ID = 32;

/** A block that a record names. Only meaningful where `present`; positions are offsets in the record's `bytes`. */
export interface BlockReference {
  present: boolean;
  /** 0 main, 1 fsm, 2 vm, 3 init; up to 15 in damaged WAL. */
  fork: number;
  /** BKPBLOCK_*: the high nibble of fork_flags. */
  flags: number;
  tablespaceOid: number;
  databaseOid: number;
  relfilenumber: number;
  blockNumber: number;
  hasImage: boolean;
  /** The image is to be restored at replay; without it it is there for consistency checking alone. */
  applyImage: boolean;
  imageStart: number;
  /** As stored: compressed, without the hole. */
  imageLength: number;
  holeOffset: number;
  holeLength: number;
  /** BKPIMAGE_*, as the major has them (WalFormat). */
  imageInfo: number;
  hasData: boolean;
  dataStart: number;
  dataLength: number;
}

export interface WalRecord {
  /** Holds the whole record contiguously; valid until the next one is read. */
  bytes: Buffer;
  /** Where its header begins in `bytes`. */
  start: number;
  /** xl_tot_len, header included. */
  totalLength: number;
  xid: number;
  /** xl_info, all eight bits. */
  info: number;
  rmid: number;
  lsnHigh: number;
  lsnLow: number;
  /** Where the next record may begin. */
  endHigh: number;
  endLow: number;
  prevHigh: number;
  prevLow: number;
  mainStart: number;
  mainLength: number;
  /** Preallocated; the index is the block id. Entries above `maxBlockId` hold what some earlier record left. */
  blocks: BlockReference[];
  /** -1 where it names no block. */
  maxBlockId: number;
  /** Replication origin; 0 for none. */
  originId: number;
  /** 0 for none. */
  toplevelXid: number;
  /** Its images, its data and what of its main data no description prints are ciphertext. */
  isEncrypted: boolean;
}

/** A record to read into. Its numbers are unsigned. */
export function createWalRecord(): WalRecord {
  return {
    bytes: Buffer.alloc(0),
    start: 0,
    totalLength: 0,
    xid: 0,
    info: 0,
    rmid: 0,
    lsnHigh: 0,
    lsnLow: 0,
    endHigh: 0,
    endLow: 0,
    prevHigh: 0,
    prevLow: 0,
    mainStart: 0,
    mainLength: 0,
    blocks: Array.from({ length: MAX_BLOCK_ID + 1 }, createBlockReference),
    maxBlockId: -1,
    originId: 0,
    toplevelXid: 0,
    isEncrypted: false,
  };
}

function createBlockReference(): BlockReference {
  return {
    present: false,
    fork: 0,
    flags: 0,
    tablespaceOid: 0,
    databaseOid: 0,
    relfilenumber: 0,
    blockNumber: 0,
    hasImage: false,
    applyImage: false,
    imageStart: 0,
    imageLength: 0,
    holeOffset: 0,
    holeLength: 0,
    imageInfo: 0,
    hasData: false,
    dataStart: 0,
    dataLength: 0,
  };
}
