/**
 * What became of transactions: where pg_xact and pg_multixact keep it, and how to read it from their bytes. Sources:
 * access/transam/clog.c, access/transam/multixact.c, access/multixact.h, access/slru.h of each major.
 *
 * pg_subtrans is not needed: it is empty when a server starts. A subtransaction whose parent has committed is committed
 * in pg_xact itself, and one of a prepared transaction is in progress there, as its parent is.
 */
import { FormatError } from "../errors.ts";
import { factsOf, type Major } from "./version.ts";

/** TransactionId: 32 bits, which go round; the first ones have a meaning of their own. */
export const XID = { invalid: 0, bootstrap: 1, frozen: 2, firstNormal: 3 } as const;

/** The two bits of a transaction in pg_xact. in-progress is also one that a crash ended. */
export const XACT_STATUSES = ["in-progress", "committed", "aborted", "sub-committed"] as const;
export type XactStatus = (typeof XACT_STATUSES)[number];

const XIDS_PER_BYTE = 4;
/** SLRU_PAGES_PER_SEGMENT: pages of the cluster's block size in one file. */
const PAGES_PER_FILE = 32;

/** Bytes in one file of an SLRU folder. */
export interface SlruPosition {
  /** Relative to the data directory. */
  readonly path: string;
  readonly offsetBytes: number;
}

/** Whether transaction `a` is older than `b`; both normal, and less than 2^31 apart. */
export function xidPrecedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** The byte that holds a transaction's status. */
export function xactPosition(xid: number, blockSizeBytes: number): SlruPosition {
  return slruPosition("pg_xact", Math.floor(xid / XIDS_PER_BYTE), blockSizeBytes, 4);
}

export function xactStatusIn(byte: number, xid: number): XactStatus {
  return XACT_STATUSES[(byte >> (2 * (xid % XIDS_PER_BYTE))) & 3] ?? "in-progress";
}

/** The entry of a multixact: the number of its first member, 4 or 8 bytes. */
export function multixactPosition(
  multixactId: number,
  major: Major,
  blockSizeBytes: number,
): SlruPosition {
  const { multixactOffsetBytes } = factsOf(major);
  const offset = multixactId * multixactOffsetBytes;
  return slruPosition("pg_multixact/offsets", offset, blockSizeBytes, 4);
}

/** Four members stand together: a byte of flags for each, then an xid for each. */
const MEMBERS_PER_GROUP = 4;
const MEMBER_GROUP_BYTES = MEMBERS_PER_GROUP * (1 + 4);

/** The group of four that a member is in. */
export function memberGroupPosition(
  memberNumber: number,
  major: Major,
  blockSizeBytes: number,
): SlruPosition {
  const group = Math.floor(memberNumber / MEMBERS_PER_GROUP);
  // Groups do not cross pages; what is left of a page is not used.
  const groupsPerPage = Math.floor(blockSizeBytes / MEMBER_GROUP_BYTES);
  const offset =
    Math.floor(group / groupsPerPage) * blockSizeBytes +
    (group % groupsPerPage) * MEMBER_GROUP_BYTES;
  const { multixactMembersDigits } = factsOf(major);
  return slruPosition("pg_multixact/members", offset, blockSizeBytes, multixactMembersDigits);
}

export const MEMBER_GROUP_SIZE_BYTES: number = MEMBER_GROUP_BYTES;

export interface MultixactMember {
  readonly xid: number;
  /** Whether it changed or deleted the row; the others only locked it. At most one member does. */
  readonly updates: boolean;
}

/** MultiXactStatusNoKeyUpdate; those before it are locks. */
const FIRST_UPDATE_STATUS = 4;
const LAST_UPDATE_STATUS = 5;

/** @param group - the 20 bytes of the group that the member is in. */
export function readMember(group: Buffer, memberNumber: number, where: string): MultixactMember {
  const index = memberNumber % MEMBERS_PER_GROUP;
  const status = group.readUInt8(index);
  if (status > LAST_UPDATE_STATUS) {
    throw new FormatError(
      `damaged multixact: ${where} member ${memberNumber} has status ${status}`,
    );
  }
  const xid = group.readUInt32LE(MEMBERS_PER_GROUP + 4 * index);
  return { xid, updates: status >= FIRST_UPDATE_STATUS };
}

function slruPosition(
  folder: string,
  offsetBytes: number,
  blockSizeBytes: number,
  digits: number,
): SlruPosition {
  const fileBytes = PAGES_PER_FILE * blockSizeBytes;
  const number = Math.floor(offsetBytes / fileBytes);
  const name = number.toString(16).toUpperCase().padStart(digits, "0");
  return { path: `${folder}/${name}`, offsetBytes: offsetBytes % fileBytes };
}
