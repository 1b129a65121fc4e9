/**
 * Reads pg_control: what a cluster is, how large its blocks are, and how its server was last stopped. Nothing of it
 * is used before version and CRC hold. Source: catalog/pg_control.h (CheckPoint, ControlFileData) of each major, on
 * little-endian machines; 1905 was found by changing single bytes under pg_controldata of 19rc1. Where 64-bit fields are
 * aligned to 4 bytes, as on 32-bit x86, what follows the state stands elsewhere: the CRC tells which layout it is.
 */
import { FormatError } from "../errors.ts";
import { crc32c } from "./crc32c.ts";
import { type Lsn, lsn } from "./lsn.ts";
import { MAX_BLOCK_SIZE_BYTES, MIN_BLOCK_SIZE_BYTES } from "./page.ts";
import { type Major, majorsOfControlVersion } from "./version.ts";

/** PG_CONTROL_FILE_SIZE: the file on disk; zeros follow its content. */
export const CONTROL_FILE_BYTES = 8192;
/** PG_CONTROL_MAX_SAFE_SIZE: no version's content is longer. */
export const CONTROL_CONTENT_BYTES = 512;

/** Offsets of the fields that tde reads, for PG_CONTROL_VERSION 1300 and 1700. */
const LAYOUT_1300 = {
  systemIdentifier: 0, //         u64
  pgControlVersion: 8, //         u32
  catalogVersion: 12, //          u32
  state: 16, //                   u32  DBState; padding follows
  modifyTime: 24, //              i64  seconds since 1970
  checkpoint: 32, //              u64  LSN of the latest checkpoint record
  checkpointRedo: 40, //          u64  checkPointCopy begins here
  checkpointTimeline: 48, //      u32
  checkpointPrevTimeline: 52, //  u32
  checkpointNextXid: 64, //       u64  epoch in the high half
  checkpointNextOid: 72, //       u32
  checkpointNextMulti: 76, //     u32  the next multixact id
  checkpointNextMultiOffset: 80, // u32, from 1905 on u64
  checkpointTime: 104, //         i64
  minRecoveryPoint: 136, //       u64
  minRecoveryTimeline: 144, //    u32
  backupStartPoint: 152, //       u64
  backupEndPoint: 160, //         u64
  backupEndRequired: 168, //      u8
  maxAlign: 204, //               u32
  floatFormat: 208, //            f64
  blockSize: 216, //              u32
  blocksPerSegment: 220, //       u32
  walBlockSize: 224, //           u32
  walSegmentSize: 228, //         u32
  float8ByVal: 248, //            u8
  dataChecksumVersion: 252, //    u32
  crc: 288, //                    u32  after mock_authentication_nonce
};
type Layout = Readonly<typeof LAYOUT_1300>;

/** 1800 adds default_char_signedness before the nonce. */
const LAYOUT_1800: Layout = { ...LAYOUT_1300, crc: 292 };

/** 1905 has a larger checkpoint (logical decoding, 64-bit multixact offsets), and SLRU pages per segment. */
const LAYOUT_1905: Layout = {
  ...LAYOUT_1300,
  checkpointNextXid: 72,
  checkpointNextOid: 80,
  checkpointNextMulti: 84,
  checkpointNextMultiOffset: 88,
  checkpointTime: 112,
  minRecoveryPoint: 144,
  minRecoveryTimeline: 152,
  backupStartPoint: 160,
  backupEndPoint: 168,
  backupEndRequired: 176,
  maxAlign: 212,
  floatFormat: 216,
  blockSize: 224,
  blocksPerSegment: 228,
  walBlockSize: 236,
  walSegmentSize: 240,
  float8ByVal: 260,
  dataChecksumVersion: 268,
  crc: 308,
};

/** Of 1300 where 64-bit fields are aligned to 4 bytes: no padding behind the state, nor inside of the checkpoint. */
const PACKED_1300: Layout = {
  ...LAYOUT_1300,
  modifyTime: 20,
  checkpoint: 28,
  checkpointRedo: 36,
  checkpointTimeline: 44,
  checkpointPrevTimeline: 48,
  checkpointNextXid: 56,
  checkpointNextOid: 64,
  checkpointNextMulti: 68,
  checkpointNextMultiOffset: 72,
  checkpointTime: 92,
  minRecoveryPoint: 120,
  minRecoveryTimeline: 128,
  backupStartPoint: 132,
  backupEndPoint: 140,
  backupEndRequired: 148,
  maxAlign: 184,
  floatFormat: 188,
  blockSize: 196,
  blocksPerSegment: 200,
  walBlockSize: 204,
  walSegmentSize: 208,
  float8ByVal: 228,
  dataChecksumVersion: 232,
  crc: 268,
};

/** From 17 on the checkpoint has wal_level, where the other layout has padding. */
const PACKED_1700: Layout = {
  ...PACKED_1300,
  checkpointNextXid: 60,
  checkpointNextOid: 68,
  checkpointNextMulti: 72,
  checkpointNextMultiOffset: 76,
  checkpointTime: 96,
  minRecoveryPoint: 124,
  minRecoveryTimeline: 132,
  backupStartPoint: 136,
  backupEndPoint: 144,
  backupEndRequired: 152,
  maxAlign: 188,
  floatFormat: 192,
  blockSize: 200,
  blocksPerSegment: 204,
  walBlockSize: 208,
  walSegmentSize: 212,
  float8ByVal: 232,
  dataChecksumVersion: 236,
  crc: 272,
};

/** By the version and MAXIMUM_ALIGNOF. Of 1905 nobody has seen a packed one, and none is guessed at. */
const LAYOUTS: ReadonlyMap<number, { readonly 8: Layout; readonly 4?: Layout }> = new Map([
  [1300, { 8: LAYOUT_1300, 4: PACKED_1300 }],
  [1700, { 8: LAYOUT_1300, 4: PACKED_1700 }],
  [1800, { 8: LAYOUT_1800, 4: { ...PACKED_1700, crc: 276 } }],
  [1905, { 8: LAYOUT_1905 }],
]);

/** DBState in its order, in pg_controldata's words. */
export const CLUSTER_STATES = [
  "starting up",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production",
] as const;
export type ClusterState = (typeof CLUSTER_STATES)[number];

export interface ControlFile {
  readonly systemIdentifier: bigint;
  readonly pgControlVersion: number;
  /** The majors that have this version of pg_control; PG_VERSION tells which of them it is. */
  readonly majors: readonly Major[];
  readonly catalogVersion: number;
  readonly state: ClusterState;
  /** Seconds since 1970. */
  readonly modifyTime: bigint;
  readonly checkpoint: {
    readonly location: Lsn;
    readonly redo: Lsn;
    readonly timeline: number;
    readonly prevTimeline: number;
    readonly nextXidEpoch: number;
    readonly nextXid: number;
    readonly nextOid: number;
    readonly nextMulti: number;
    /** Where the members of the next multixact will stand. */
    readonly nextMultiOffset: number;
    /** Seconds since 1970. */
    readonly time: bigint;
  };
  readonly minRecoveryPoint: Lsn;
  readonly minRecoveryTimeline: number;
  readonly backupStartPoint: Lsn;
  readonly backupEndPoint: Lsn;
  readonly backupEndRequired: boolean;
  /** A power of two, 1 to 32 kB. */
  readonly blockSizeBytes: number;
  /** Blocks of a relation segment (RELSEG_SIZE), at least 1. */
  readonly blocksPerSegment: number;
  /** A power of two, 1 to 64 kB. */
  readonly walBlockSizeBytes: number;
  /** A power of two, 1 MB to 1 GB. */
  readonly walSegmentSizeBytes: number;
  /** 0: data pages have no checksums. */
  readonly dataChecksumVersion: 0 | 1;
  /**
   * False: a server of a 32-bit build wrote it. Its pages are as on any machine; of its WAL the headers may stand elsewhere,
   * and records have fields of the machine's word.
   */
  readonly is64Bit: boolean;
}

/**
 * @param bytes - the file, or its first 512 bytes.
 * @param where - the file's name, for messages.
 * @throws {FormatError} when version, layout, CRC or a value is not what tde can read.
 */
export function parseControlFile(bytes: Buffer, where = "global/pg_control"): ControlFile {
  if (bytes.length < CONTROL_CONTENT_BYTES) {
    throw new FormatError(
      `file "${where}" is cut short: ${bytes.length} bytes, at least ${CONTROL_CONTENT_BYTES} expected`,
      DAMAGED,
    );
  }
  const layout = layoutOf(bytes, where);
  const is64Bit = wordOf(bytes, layout, where);
  const u32 = (offset: number): number => bytes.readUInt32LE(offset);
  const position = (offset: number): Lsn => lsn(bytes.readBigUInt64LE(offset));
  const inRange = (what: string, value: number, least: number, most: number): number => {
    if (value < least || value > most) throw badValue(where, what, value);
    return value;
  };
  const powerOfTwo = (what: string, value: number, least: number, most: number): number => {
    if ((value & (value - 1)) !== 0) throw badValue(where, what, value);
    return inRange(what, value, least, most);
  };

  const pgControlVersion = u32(layout.pgControlVersion);
  const stateNumber = u32(layout.state);
  const state = CLUSTER_STATES[stateNumber];
  if (state === undefined) throw badValue(where, "cluster state", stateNumber);
  return {
    systemIdentifier: bytes.readBigUInt64LE(layout.systemIdentifier),
    pgControlVersion,
    majors: majorsOfControlVersion(pgControlVersion),
    catalogVersion: u32(layout.catalogVersion),
    state,
    modifyTime: bytes.readBigInt64LE(layout.modifyTime),
    checkpoint: {
      location: position(layout.checkpoint),
      redo: position(layout.checkpointRedo),
      timeline: u32(layout.checkpointTimeline),
      prevTimeline: u32(layout.checkpointPrevTimeline),
      nextXid: u32(layout.checkpointNextXid),
      nextXidEpoch: u32(layout.checkpointNextXid + 4),
      nextOid: u32(layout.checkpointNextOid),
      nextMulti: u32(layout.checkpointNextMulti),
      nextMultiOffset: multiOffset(bytes, layout),
      time: bytes.readBigInt64LE(layout.checkpointTime),
    },
    minRecoveryPoint: position(layout.minRecoveryPoint),
    minRecoveryTimeline: u32(layout.minRecoveryTimeline),
    backupStartPoint: position(layout.backupStartPoint),
    backupEndPoint: position(layout.backupEndPoint),
    backupEndRequired: bytes[layout.backupEndRequired] !== 0,
    blockSizeBytes: powerOfTwo(
      "block size",
      u32(layout.blockSize),
      MIN_BLOCK_SIZE_BYTES,
      MAX_BLOCK_SIZE_BYTES,
    ),
    blocksPerSegment: inRange("blocks per segment", u32(layout.blocksPerSegment), 1, 2 ** 31),
    walBlockSizeBytes: powerOfTwo("WAL block size", u32(layout.walBlockSize), 1024, 65536),
    walSegmentSizeBytes: powerOfTwo(
      "WAL segment size",
      u32(layout.walSegmentSize),
      2 ** 20,
      2 ** 30,
    ),
    dataChecksumVersion: checksumVersion(u32(layout.dataChecksumVersion), where),
    is64Bit,
  };
}

/**
 * Whether two control files (their first 512 bytes) differ at most in state, time, data checksum version and CRC:
 * what "pg_checksums --enable" and "--disable" change.
 */
export function sameButForChecksums(a: Buffer, b: Buffer): boolean {
  if (a.length !== CONTROL_CONTENT_BYTES || b.length !== CONTROL_CONTENT_BYTES) return false;
  const known = LAYOUTS.get(a.readUInt32LE(LAYOUT_1300.pgControlVersion));
  const layout = known && [known[8], known[4]].find((one) => one && hasCrcOf(a, one));
  if (layout === undefined) return false;
  const masked = [a, b].map((bytes) =>
    Buffer.from(bytes)
      .fill(0, layout.state, layout.state + 4)
      .fill(0, layout.modifyTime, layout.modifyTime + 8)
      .fill(0, layout.dataChecksumVersion, layout.dataChecksumVersion + 4)
      .fill(0, layout.crc, layout.crc + 4),
  );
  return masked[0]?.equals(masked[1] ?? Buffer.alloc(0)) === true;
}

function multiOffset(bytes: Buffer, layout: Layout): number {
  const at = layout.checkpointNextMultiOffset;
  return layout === LAYOUT_1905 ? Number(bytes.readBigUInt64LE(at)) : bytes.readUInt32LE(at);
}

const DAMAGED = {
  hint: "The control file is damaged. Restore it from a backup of this cluster.",
} as const;

/** @returns the one of the version's layouts whose CRC holds. */
function layoutOf(bytes: Buffer, where: string): Layout {
  const version = bytes.readUInt32LE(LAYOUT_1300.pgControlVersion);
  const layouts = LAYOUTS.get(version);
  if (layouts !== undefined) {
    const packed = layouts[4];
    if (hasCrcOf(bytes, layouts[8])) return layouts[8];
    if (packed !== undefined && hasCrcOf(bytes, packed)) return packed;
    if (packed === undefined && findMisplacedAlignment(bytes, layouts[8]) === 4) {
      throw new FormatError(
        `file "${where}" is of a server whose 64-bit fields are aligned to 4 bytes (pg_control version ${version})`,
        { hint: "tde knows that layout of PostgreSQL 13 to 18." },
      );
    }
    throw new FormatError(`file "${where}" fails its CRC check`, DAMAGED);
  }
  const swapped = bytes.readUInt32BE(LAYOUT_1300.pgControlVersion);
  if (version % 65536 === 0 && swapped > 0 && swapped < 65536) {
    throw new FormatError(`file "${where}" is big-endian (pg_control version ${swapped})`, {
      hint: "The cluster comes from a big-endian machine. tde reads little-endian clusters only.",
    });
  }
  throw new FormatError(`file "${where}" has the unknown pg_control version ${version}`, {
    hint: `tde knows ${[...LAYOUTS.keys()].join(", ")} (PostgreSQL 13 to 19). Other versions need another release of tde.`,
  });
}

function hasCrcOf(bytes: Buffer, { crc }: Layout): boolean {
  return bytes.readUInt32LE(crc) === crc32c(bytes, 0, crc);
}

/** What the file records about the machine that wrote it. @returns whether its word has 64 bits. */
function wordOf(bytes: Buffer, layout: Layout, where: string): boolean {
  const maxAlign = bytes.readUInt32LE(layout.maxAlign);
  if (maxAlign !== (layout.modifyTime === PACKED_1300.modifyTime ? 4 : 8))
    throw badValue(where, "maximum alignment", maxAlign);
  if (bytes.readDoubleLE(layout.floatFormat) !== FLOAT_FORMAT) {
    throw new FormatError(`file "${where}" has an unknown floating-point format`, {
      hint: "The cluster comes from a kind of machine that tde does not know.",
    });
  }
  const float8ByVal = bytes[layout.float8ByVal] ?? 0;
  if (float8ByVal > 1) throw badValue(where, "float8 argument passing", float8ByVal);
  return maxAlign === 8 && float8ByVal === 1;
}

/** FLOATFORMAT_VALUE: a constant that shows the format of a double. */
const FLOAT_FORMAT = 1234567.0;

/** The u32 before the floating-point constant, which is maxAlign, when that stands where it should not. */
function findMisplacedAlignment(bytes: Buffer, layout: Layout): number | undefined {
  const constant = Buffer.alloc(8);
  constant.writeDoubleLE(FLOAT_FORMAT);
  const at = bytes.subarray(0, CONTROL_CONTENT_BYTES).indexOf(constant);
  return at < 4 || at === layout.floatFormat ? undefined : bytes.readUInt32LE(at - 4);
}

function checksumVersion(version: number, where: string): 0 | 1 {
  if (version === 0 || version === 1) return version;
  throw new FormatError(`file "${where}" has the unknown data checksum version ${version}`, {
    hint: "Data checksums may be half enabled: let the server finish, stop it, and run the command again.",
  });
}

function badValue(where: string, what: string, value: number): FormatError {
  return new FormatError(`file "${where}" has an impossible ${what}: ${value}`, DAMAGED);
}
