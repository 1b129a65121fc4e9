/**
 * A sidecar page: an ordinary PostgreSQL page with a valid header and checksum, so that stock tools check it like
 * any fork, full of slots, with a special space that says which file it belongs to and carries the page's MAC.
 * docs/FORMAT.md, "Sidecar page".
 */
import { type KeyObject, equalInConstantTime, hmacSha256 } from "../crypto/primitives.ts";
import { type FileIdentity, FORK, forkName } from "./identity.ts";
import { SLOT_BYTES } from "./slot.ts";

export const SPECIAL_BYTES = 104;
const PAGE_HEADER_BYTES = 24;

/** Offsets in the special space. */
export const SPECIAL = {
  magic: 0, //            4 bytes "TDES"
  version: 4, //          u16
  fork: 6, //             u8
  flags: 7, //            u8
  systemIdentifier: 8, // u64
  tablespaceOid: 16, //   u32
  databaseOid: 20, //     u32
  relfilenumber: 24, //   u64
  relationSegment: 32, // u32
  firstBlock: 36, //      u32
  pageNumber: 40, //      u32
  backend: 44, //         u32
  keyringId: 48, //       8 bytes
  macKeyId: 56, //        u32
  reserved1: 60, //       u32, zero
  fileSalt: 64, //        16 bytes
  reserved2: 80, //       8 bytes, zero
  mac: 88, //             16 bytes
} as const;

export const SIDECAR_MAGIC: Buffer = Buffer.from("TDES", "ascii");
export const SIDECAR_VERSION = 1;
export const SIDECAR_FLAG_LAST = 1;
export const SIDECAR_MAC_BYTES = 16;

/** Block size / 128 − 1: what the header and the special space leave. */
export function slotsPerPage(blockSizeBytes: number): number {
  return blockSizeBytes / SLOT_BYTES - 1;
}

export function slotOffset(slot: number): number {
  return PAGE_HEADER_BYTES + slot * SLOT_BYTES;
}

/** What all pages of one sidecar say in common. */
export interface SidecarHead {
  readonly identity: FileIdentity;
  /** 16 hex digits. */
  readonly keyringId: string;
  /** 16 bytes. */
  readonly fileSalt: Buffer;
}

export interface SidecarPageHead extends SidecarHead {
  readonly pageNumber: number;
  readonly last: boolean;
  readonly macKeyId: number;
}

/**
 * Writes page header, special space and MAC around slots that are already in place.
 * The caller sets pd_checksum afterwards: it counts the MAC, and the MAC leaves it out.
 * @param page - one page of `blockSizeBytes`, slots filled in.
 */
export function finishSidecarPage(page: Buffer, head: SidecarPageHead, macKey: KeyObject): void {
  const special = page.length - SPECIAL_BYTES;
  const { identity } = head;
  writePageHeader(page, page.length);
  SIDECAR_MAGIC.copy(page, special + SPECIAL.magic);
  page.writeUInt16LE(SIDECAR_VERSION, special + SPECIAL.version);
  page.writeUInt8(FORK[identity.fork], special + SPECIAL.fork);
  page.writeUInt8(head.last ? SIDECAR_FLAG_LAST : 0, special + SPECIAL.flags);
  page.writeBigUInt64LE(identity.systemIdentifier, special + SPECIAL.systemIdentifier);
  page.writeUInt32LE(identity.tablespaceOid, special + SPECIAL.tablespaceOid);
  page.writeUInt32LE(identity.databaseOid, special + SPECIAL.databaseOid);
  page.writeBigUInt64LE(identity.relfilenumber, special + SPECIAL.relfilenumber);
  page.writeUInt32LE(identity.relationSegment, special + SPECIAL.relationSegment);
  page.writeUInt32LE(identity.firstBlock, special + SPECIAL.firstBlock);
  page.writeUInt32LE(head.pageNumber, special + SPECIAL.pageNumber);
  page.writeUInt32LE(identity.backend, special + SPECIAL.backend);
  page.write(head.keyringId, special + SPECIAL.keyringId, "hex");
  page.writeUInt32LE(head.macKeyId, special + SPECIAL.macKeyId);
  page.writeUInt32LE(0, special + SPECIAL.reserved1);
  head.fileSalt.copy(page, special + SPECIAL.fileSalt);
  page.fill(0, special + SPECIAL.reserved2, special + SPECIAL.mac);
  computeMac(page, macKey).copy(page, special + SPECIAL.mac);
}

/**
 * Reads what a sidecar page says of itself.
 * @returns the head, or in words what makes it no sidecar page. Nothing of it is authentic until the MAC holds.
 */
export function parseSidecarPage(page: Buffer): SidecarPageHead | string {
  const special = page.length - SPECIAL_BYTES;
  if (!SIDECAR_MAGIC.equals(page.subarray(special, special + 4))) return "no sidecar page (magic)";
  const version = page.readUInt16LE(special + SPECIAL.version);
  if (version !== SIDECAR_VERSION) return `sidecar format version ${version} is not supported`;
  const fork = forkName(page.readUInt8(special + SPECIAL.fork));
  if (fork === undefined) return "unknown fork";
  const flags = page.readUInt8(special + SPECIAL.flags);
  if ((flags & ~SIDECAR_FLAG_LAST) !== 0) return `unknown sidecar flags 0x${flags.toString(16)}`;
  if (!hasPageHeader(page)) return "the page header is not a sidecar's";
  const reserved = page.subarray(special + SPECIAL.reserved2, special + SPECIAL.mac);
  if (page.readUInt32LE(special + SPECIAL.reserved1) !== 0 || reserved.some((byte) => byte !== 0)) {
    return "reserved bytes are not zero";
  }
  const macKeyId = page.readUInt32LE(special + SPECIAL.macKeyId);
  if (macKeyId === 0) return "key id 0";
  return {
    identity: {
      systemIdentifier: page.readBigUInt64LE(special + SPECIAL.systemIdentifier),
      tablespaceOid: page.readUInt32LE(special + SPECIAL.tablespaceOid),
      databaseOid: page.readUInt32LE(special + SPECIAL.databaseOid),
      relfilenumber: page.readBigUInt64LE(special + SPECIAL.relfilenumber),
      fork,
      relationSegment: page.readUInt32LE(special + SPECIAL.relationSegment),
      firstBlock: page.readUInt32LE(special + SPECIAL.firstBlock),
      backend: page.readUInt32LE(special + SPECIAL.backend),
    },
    keyringId: page.toString("hex", special + SPECIAL.keyringId, special + SPECIAL.macKeyId),
    fileSalt: Buffer.from(page.subarray(special + SPECIAL.fileSalt, special + SPECIAL.reserved2)),
    pageNumber: page.readUInt32LE(special + SPECIAL.pageNumber),
    last: (flags & SIDECAR_FLAG_LAST) !== 0,
    macKeyId,
  };
}

/** Whether the page's MAC holds. */
export function sidecarMacHolds(page: Buffer, macKey: KeyObject): boolean {
  const stored = page.subarray(page.length - SIDECAR_MAC_BYTES);
  return equalInConstantTime(computeMac(page, macKey), stored);
}

/** HMAC-SHA-256 over all of the page but pd_checksum and the MAC itself, its first 16 bytes. */
function computeMac(page: Buffer, macKey: KeyObject): Buffer {
  const end = page.length - SIDECAR_MAC_BYTES;
  return hmacSha256(macKey, page.subarray(0, 8), page.subarray(10, end)).subarray(
    0,
    SIDECAR_MAC_BYTES,
  );
}

/** pd_lower = pd_upper = pd_special: a pd_upper of 0 would make stock tools skip the page. */
function writePageHeader(header: Buffer, pageBytes: number): void {
  const special = pageBytes - SPECIAL_BYTES;
  header.fill(0, 0, PAGE_HEADER_BYTES);
  for (const offset of [12, 14, 16]) header.writeUInt16LE(special, offset);
  header.writeUInt16LE(pageBytes + 4, 18);
}

function hasPageHeader(page: Buffer): boolean {
  const expected = Buffer.alloc(PAGE_HEADER_BYTES);
  writePageHeader(expected, page.length);
  // pd_checksum (8..10) is checked where the block number is known.
  return (
    expected.compare(page, 0, 8, 0, 8) === 0 &&
    expected.compare(page, 10, PAGE_HEADER_BYTES, 10, PAGE_HEADER_BYTES) === 0
  );
}
