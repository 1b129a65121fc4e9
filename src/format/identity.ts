/**
 * What a file is: which cluster, tablespace, database, relation, fork and segment. The identity goes into every
 * derived key and every AAD, so that nothing sealed for one place authenticates in another.
 * docs/FORMAT.md, "Identity".
 */

/** Values of the fork byte. The first four are PostgreSQL's ForkNumber (src/include/common/relpath.h). */
export const FORK = { main: 0, fsm: 1, vm: 2, init: 3, wal: 16 } as const;
export type ForkName = keyof typeof FORK;

/** The backend of a relation that is not temporary. */
export const NO_BACKEND = 0xffffffff;

export interface FileIdentity {
  readonly systemIdentifier: bigint;
  /** 1663 for base/, 1664 for global/. Of WAL: the timeline. */
  readonly tablespaceOid: number;
  /** 0 for global/. Of WAL: 0. */
  readonly databaseOid: number;
  /** Of WAL: the segment number. */
  readonly relfilenumber: bigint;
  readonly fork: ForkName;
  /** Of WAL: the size of a segment in bytes. */
  readonly relationSegment: number;
  /** The number, within the fork, of the first block in this file. Of WAL: 0. */
  readonly firstBlock: number;
  /** Of a temporary relation, else NO_BACKEND. */
  readonly backend: number;
}

export const IDENTITY_BYTES = 37;

/** u64 system || u32 tablespace || u32 database || u64 relfilenumber || u8 fork || u32 segment || u32 first block || u32 backend. */
export function serializeIdentity(identity: FileIdentity): Buffer {
  const bytes = Buffer.alloc(IDENTITY_BYTES);
  bytes.writeBigUInt64LE(identity.systemIdentifier, 0);
  bytes.writeUInt32LE(identity.tablespaceOid, 8);
  bytes.writeUInt32LE(identity.databaseOid, 12);
  bytes.writeBigUInt64LE(identity.relfilenumber, 16);
  bytes.writeUInt8(FORK[identity.fork], 24);
  bytes.writeUInt32LE(identity.relationSegment, 25);
  bytes.writeUInt32LE(identity.firstBlock, 29);
  bytes.writeUInt32LE(identity.backend, 33);
  return bytes;
}

const FORK_NAMES: ReadonlyMap<number, ForkName> = new Map(
  (Object.keys(FORK) as ForkName[]).map((name) => [FORK[name], name]),
);

/** The name of a fork byte, or undefined where there is none. */
export function forkName(code: number): ForkName | undefined {
  return FORK_NAMES.get(code);
}

export function sameIdentity(a: FileIdentity, b: FileIdentity): boolean {
  return serializeIdentity(a).equals(serializeIdentity(b));
}

/** The identity in words, as the path that such a file has in a data directory. */
export function describeIdentity(identity: FileIdentity): string {
  const { tablespaceOid, databaseOid, relfilenumber, fork, relationSegment, backend } = identity;
  const folder =
    tablespaceOid === 1664
      ? "global"
      : tablespaceOid === 1663
        ? `base/${databaseOid}`
        : `pg_tblspc/${tablespaceOid}/${databaseOid}`;
  const owner = backend === NO_BACKEND ? "" : `t${backend}_`;
  const suffix = fork === "main" ? "" : `_${fork}`;
  return `${folder}/${owner}${relfilenumber}${suffix}${relationSegment === 0 ? "" : `.${relationSegment}`}`;
}
