/**
 * A sidecar slot: 128 bytes of what one page needs beside its ciphertext. Slots are read and written in place,
 * in the buffer of their sidecar page, because there is one for each page of a cluster.
 * docs/FORMAT.md, "Slot".
 */

export const SLOT_BYTES = 128;

/** Offsets in a slot. */
export const SLOT = {
  kind: 0, //           u8
  suite: 1, //          u8
  flags: 2, //          u16
  keyId: 4, //          u32
  epoch: 8, //          u64
  length: 16, //        u32  bytes of the original
  structureStart: 20, //u32  WAL only
  structureEnd: 24, //  u32  WAL only
  zerosFrom: 28, //     u32  WAL only
  nonce: 32, //         24 bytes: 12, then zeros (suite 1)
  tag: 56, //           16 bytes
  commitment: 72, //    32 bytes
  sealedBytes: 104, //  4 bytes
  reserved: 108, //     20 bytes, zero
} as const;

/** The part of a slot that goes into the AAD of its message. */
export const SLOT_AAD_BYTES = 32;

export const SLOT_KIND = {
  unused: 0,
  page: 1,
  zeroPage: 2,
  tail: 3,
  /** Of WAL, as the next two: format/wal/wal-slot.ts. */
  walBlock: 4,
  walZeroBlock: 5,
  walCarry: 6,
} as const;
export const SUITE_AES_256_GCM = 1;

export const SLOT_FLAG = {
  /** The original checksum was wrong, and the stored one is wrong on purpose. */
  wrongChecksum: 1,
  /** The original pd_flags had 0x8000. */
  originalMark: 2,
} as const;
const KNOWN_FLAGS = SLOT_FLAG.wrongChecksum | SLOT_FLAG.originalMark;

/** A random nonce at every slot of a chunk, padded with zeros to the field. */
export const NONCE_FIELD_BYTES = 24;

export interface SlotFields {
  readonly kind: number;
  readonly flags: number;
  readonly keyId: number;
  readonly epoch: bigint;
  readonly lengthBytes: number;
}

export function writeSlotFields(page: Buffer, offset: number, fields: SlotFields): void {
  page.writeUInt8(fields.kind, offset + SLOT.kind);
  page.writeUInt8(SUITE_AES_256_GCM, offset + SLOT.suite);
  page.writeUInt16LE(fields.flags, offset + SLOT.flags);
  page.writeUInt32LE(fields.keyId, offset + SLOT.keyId);
  page.writeBigUInt64LE(fields.epoch, offset + SLOT.epoch);
  page.writeUInt32LE(fields.lengthBytes, offset + SLOT.length);
}

export function readSlotFields(page: Buffer, offset: number): SlotFields {
  return {
    kind: page.readUInt8(offset + SLOT.kind),
    flags: page.readUInt16LE(offset + SLOT.flags),
    keyId: page.readUInt32LE(offset + SLOT.keyId),
    epoch: page.readBigUInt64LE(offset + SLOT.epoch),
    lengthBytes: page.readUInt32LE(offset + SLOT.length),
  };
}

/** Whether bytes [start, end) of a slot's page are zero; both are multiples of two. */
function isZero(page: Buffer, start: number, end: number): boolean {
  let at = start;
  for (; at + 4 <= end; at += 4) if (page.readInt32LE(at) !== 0) return false;
  return at === end || page.readUInt16LE(at) === 0;
}

export function isUnusedSlot(page: Buffer, offset: number): boolean {
  return isZero(page, offset, offset + SLOT_BYTES);
}

/**
 * What is wrong with a used slot of a relation's sidecar, or undefined when its form is right. Says nothing
 * about authenticity.
 * @param maxEpoch - no slot can be from a later run than the manifest.
 */
export function slotDefect(
  page: Buffer,
  offset: number,
  blockSizeBytes: number,
  maxEpoch: bigint,
): string | undefined {
  const { kind, flags, keyId, epoch, lengthBytes } = readSlotFields(page, offset);
  if (kind < SLOT_KIND.page || kind > SLOT_KIND.tail) return `unknown slot kind ${kind}`;
  const suite = page.readUInt8(offset + SLOT.suite);
  if (suite !== SUITE_AES_256_GCM) return `unknown cipher suite ${suite}`;
  if ((flags & ~KNOWN_FLAGS) !== 0) return `unknown slot flags 0x${flags.toString(16)}`;
  if (flags !== 0 && kind !== SLOT_KIND.page) return "slot flags on an entry that is no page";
  if (keyId === 0) return "key id 0";
  if (epoch > maxEpoch)
    return `written in epoch ${epoch}, later than the directory's epoch ${maxEpoch}`;
  const fits =
    kind === SLOT_KIND.tail
      ? lengthBytes >= 1 && lengthBytes < blockSizeBytes
      : lengthBytes === blockSizeBytes;
  if (!fits) return `length ${lengthBytes} does not fit the kind of slot`;
  const sealedEnd = SLOT.sealedBytes + (kind === SLOT_KIND.page ? 2 : 0);
  if (
    !isZero(page, offset + SLOT.structureStart, offset + SLOT.nonce) ||
    !isZero(page, offset + SLOT.nonce + 12, offset + SLOT.tag) ||
    !isZero(page, offset + sealedEnd, offset + SLOT_BYTES)
  ) {
    return "reserved bytes of the slot are not zero";
  }
  return undefined;
}
