/**
 * Slots of a WAL segment's sidecar: one for each WAL block, then those that say how the records that cross the ends
 * of the segment are taken apart, so that a segment is decrypted alone. docs/FORMAT.md, "WAL slots".
 */
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { SLOT, SLOT_BYTES, SLOT_KIND, SUITE_AES_256_GCM } from "../slot.ts";

/** A sidecar page of WAL is as large as a WAL block, whatever the cluster's block size is. */
export const WAL_SIDECAR_PAGE_BYTES: number = WAL_PAGE_BYTES;

/** In a slot of kind 4, behind sealedBytes: the original xl_crc of a record that crosses an end of the segment. */
export const SEALED_CRC_OFFSET = 108;
const RESERVED_OFFSET = 112;

export const WAL_SLOT_FLAG = {
  /** The slot holds an original xl_crc. */
  sealedCrc: 1,
  /** The structure of the block ends in the header of a record that is not taken apart. */
  openHeader: 2,
} as const;
const KNOWN_FLAGS = WAL_SLOT_FLAG.sealedCrc | WAL_SLOT_FLAG.openHeader;

/** Which parts of the block are what; offsets in the block. */
export interface WalSlotFields {
  readonly flags: number;
  readonly structureStart: number;
  readonly structureEnd: number;
  readonly zerosFrom: number;
}

export function writeWalSlotFields(slots: Buffer, at: number, fields: WalSlotFields): void {
  slots.writeUInt16LE(fields.flags, at + SLOT.flags);
  slots.writeUInt32LE(fields.structureStart, at + SLOT.structureStart);
  slots.writeUInt32LE(fields.structureEnd, at + SLOT.structureEnd);
  slots.writeUInt32LE(fields.zerosFrom, at + SLOT.zerosFrom);
}

export function readWalSlotFields(slots: Buffer, at: number): WalSlotFields {
  return {
    flags: slots.readUInt16LE(at + SLOT.flags),
    structureStart: slots.readUInt32LE(at + SLOT.structureStart),
    structureEnd: slots.readUInt32LE(at + SLOT.structureEnd),
    zerosFrom: slots.readUInt32LE(at + SLOT.zerosFrom),
  };
}

/** Whether the four bytes behind the structure are stored as zero, and their ciphertext in the slot. */
export function hasSealedEnd({ flags, structureEnd, zerosFrom }: WalSlotFields): boolean {
  const isOpen = (flags & WAL_SLOT_FLAG.openHeader) !== 0;
  return structureEnd > 0 && structureEnd < zerosFrom && !isOpen;
}

/** What is wrong with the form of a block's slot; undefined when it is right. Says nothing about authenticity. */
export function walSlotDefect(slots: Buffer, at: number, maxEpoch: bigint): string | undefined {
  const kind = slots.readUInt8(at + SLOT.kind);
  if (kind !== SLOT_KIND.walBlock && kind !== SLOT_KIND.walZeroBlock) {
    return `unknown slot kind ${kind}`;
  }
  const suite = slots.readUInt8(at + SLOT.suite);
  if (suite !== SUITE_AES_256_GCM) return `unknown cipher suite ${suite}`;
  const fields = readWalSlotFields(slots, at);
  const { flags, structureStart, structureEnd, zerosFrom } = fields;
  if ((flags & ~KNOWN_FLAGS) !== 0) return `unknown slot flags 0x${flags.toString(16)}`;
  if (slots.readUInt32LE(at + SLOT.keyId) === 0) return "key id 0";
  const epoch = slots.readBigUInt64LE(at + SLOT.epoch);
  if (epoch > maxEpoch) return `written in epoch ${epoch}, later than epoch ${maxEpoch}`;
  if (slots.readUInt32LE(at + SLOT.length) !== WAL_PAGE_BYTES) return "wrong length";
  const rises =
    structureStart <= structureEnd && structureEnd <= zerosFrom && zerosFrom <= WAL_PAGE_BYTES;
  const leavesEnd = !hasSealedEnd(fields) || structureEnd + 4 <= zerosFrom;
  if (!rises || !leavesEnd) return "the bounds of its structure contradict each other";
  const isZeroBlock = kind === SLOT_KIND.walZeroBlock;
  if (isZeroBlock ? zerosFrom !== 0 || flags !== 0 : zerosFrom === 0) {
    return "a zero block with content, or another without";
  }
  const isReserved = (start: number, end: number): boolean =>
    slots.subarray(at + start, at + end).every((byte) => byte === 0);
  const used = {
    end: isZeroBlock || !hasSealedEnd(fields) ? SLOT.sealedBytes : SEALED_CRC_OFFSET,
    crc: (flags & WAL_SLOT_FLAG.sealedCrc) === 0 ? SEALED_CRC_OFFSET : RESERVED_OFFSET,
  };
  if (
    !isReserved(SLOT.nonce + 12, SLOT.tag) ||
    !isReserved(used.end, SEALED_CRC_OFFSET) ||
    !isReserved(used.crc, SLOT_BYTES)
  ) {
    return "reserved bytes of the slot are not zero";
  }
  return undefined;
}

/** Offsets in a slot of kind 6. */
export const CARRY = {
  kind: 0, //        u8
  headerBefore: 1, // u8
  count: 2, //       u16  1 to 30
  side: 4, //        u32
  bounds: 8, //      u32 each
} as const;
const MOST_BOUNDS = (SLOT_BYTES - CARRY.bounds) / 4;

/** Which record it is that a carry slot is about. */
export const CARRY_SIDE = { leading: 0, trailing: 1 } as const;
type CarrySide = (typeof CARRY_SIDE)[keyof typeof CARRY_SIDE];

/** The part in this segment of a record that begins in an earlier one. */
export interface LeadingCarry {
  readonly bounds: readonly number[];
  /** Bytes of its header in the segment before, where its xl_crc is in this one; else 0. */
  readonly headerBefore: number;
}

/** How the records that cross the ends of a segment are taken apart; undefined where none is. */
export interface Carry {
  readonly leading: LeadingCarry | undefined;
  readonly trailing: readonly number[] | undefined;
}

export function carrySlots({ leading, trailing = [] }: Carry): Buffer[] {
  return [
    ...slotsOfSide(leading?.bounds ?? [], CARRY_SIDE.leading, leading?.headerBefore ?? 0),
    ...slotsOfSide(trailing, CARRY_SIDE.trailing, 0),
  ];
}

function slotsOfSide(bounds: readonly number[], side: CarrySide, headerBefore: number): Buffer[] {
  const slots: Buffer[] = [];
  for (let first = 0; first < bounds.length; first += MOST_BOUNDS) {
    const some = bounds.slice(first, first + MOST_BOUNDS);
    const slot = Buffer.alloc(SLOT_BYTES);
    slot.writeUInt8(SLOT_KIND.walCarry, CARRY.kind);
    slot.writeUInt8(headerBefore, CARRY.headerBefore);
    slot.writeUInt16LE(some.length, CARRY.count);
    slot.writeUInt32LE(side, CARRY.side);
    for (const [i, bound] of some.entries()) slot.writeUInt32LE(bound, CARRY.bounds + 4 * i);
    slots.push(slot);
  }
  return slots;
}

/** @returns in words what is wrong with the slots behind those of the blocks. */
export function parseCarrySlots(slots: readonly Buffer[]): Carry | string {
  const sides: Readonly<Record<number, number[]>> = { 0: [], 1: [] };
  let headerBefore = 0;
  for (const [i, slot] of slots.entries()) {
    const count = slot.readUInt16LE(CARRY.count);
    const side = slot.readUInt32LE(CARRY.side);
    const before = slot.readUInt8(CARRY.headerBefore);
    if (slot.readUInt8(CARRY.kind) !== SLOT_KIND.walCarry) return "a slot for a block too many";
    const isFull = count === MOST_BOUNDS || slots[i + 1]?.readUInt32LE(CARRY.side) !== side;
    const bounds = sides[side];
    const end = CARRY.bounds + 4 * count;
    const fits = side === CARRY_SIDE.leading ? [0, 8, 16].includes(before) : before === 0;
    const isInOrder = side === CARRY_SIDE.trailing || sides[CARRY_SIDE.trailing]?.length === 0;
    if (
      bounds === undefined ||
      !fits ||
      !isInOrder ||
      (bounds.length > 0 && before !== headerBefore) ||
      count === 0 ||
      count > MOST_BOUNDS ||
      !isFull ||
      slot.subarray(end).some((byte) => byte !== 0)
    ) {
      return "a carry slot of wrong form";
    }
    headerBefore = before;
    for (let at: number = CARRY.bounds; at < end; at += 4) {
      const bound = slot.readUInt32LE(at);
      const last = bounds.at(-1);
      if (last !== undefined && bound <= last) return "boundaries in a carry slot do not rise";
      bounds.push(bound);
    }
  }
  const [leading = [], trailing = []] = [sides[CARRY_SIDE.leading], sides[CARRY_SIDE.trailing]];
  const before = slots[0]?.readUInt8(CARRY.headerBefore) ?? 0;
  return {
    leading: leading.length === 0 ? undefined : { bounds: leading, headerBefore: before },
    trailing: trailing.length === 0 ? undefined : trailing,
  };
}
