/**
 * Encrypts a WAL segment in place and makes its sidecar. Afterwards every record has the CRC of its stored bytes, so
 * that stock tools read it, and the first page the guard, so that no server does. docs/FORMAT.md, "WAL segments".
 */
import {
  fillRandom,
  gcmEncryptInPlace,
  type KeyObject,
  KEY_BYTES,
  NONCE_BYTES,
  TAG_BYTES,
} from "../../crypto/primitives.ts";
import { pageChecksum } from "../../postgres/page-checksum.ts";
import { PAGE_HEADER } from "../../postgres/page.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { RECORD_HEADER } from "../../wal/record-header.ts";
import type { PageKey } from "../file-keys.ts";
import { finishSidecarPage, type SidecarHead, slotOffset, slotsPerPage } from "../sidecar-page.ts";
import { SLOT, SLOT_KIND, writeSlotFields } from "../slot.ts";
import { closeCrc, crossingCrc, type OpenCrc, writeWholeRecordCrcs } from "./record-checksum.ts";
import type { SegmentMap } from "./segment-map.ts";
import { WalMessages } from "./wal-message.ts";
import { toggleGuard } from "./wal-page.ts";
import {
  carrySlots,
  hasSealedEnd,
  SEALED_CRC_OFFSET,
  WAL_SIDECAR_PAGE_BYTES,
  WAL_SLOT_FLAG,
  type WalSlotFields,
  writeWalSlotFields,
} from "./wal-slot.ts";

export interface WalSealContext {
  readonly head: SidecarHead;
  readonly keyId: number;
  readonly pageKey: PageKey;
  readonly macKey: KeyObject;
  readonly epoch: bigint;
  /** Fills a buffer with nonces; random ones unless a test vector is made. */
  readonly fillNonces?: (nonces: Buffer) => void;
}

export interface SealedSegment {
  readonly sidecar: Buffer;
  readonly zeroBlocks: number;
  /** The CRC that can only be written when the next segment is stored, too. */
  readonly openCrc: OpenCrc | undefined;
}

const SLOTS_PER_PAGE = slotsPerPage(WAL_SIDECAR_PAGE_BYTES);

/** Where the n-th slot is in a sidecar. */
export function walSlotAt(slot: number): number {
  const page = Math.floor(slot / SLOTS_PER_PAGE);
  return page * WAL_SIDECAR_PAGE_BYTES + slotOffset(slot % SLOTS_PER_PAGE);
}

/** @param map - of the plain segment, whose bytes are replaced. */
export function sealSegment(map: SegmentMap, context: WalSealContext): SealedSegment {
  const carry = carrySlots({
    leading: map.leading && {
      bounds: map.leading.bounds,
      headerBefore: map.leading.crcAt === undefined ? 0 : map.leading.before.length,
    },
    trailing: map.trailing?.bounds,
  });
  const slotCount = map.blockCount + carry.length;
  const pages = Math.ceil(slotCount / SLOTS_PER_PAGE);
  const sidecar = Buffer.alloc(pages * WAL_SIDECAR_PAGE_BYTES);
  const sealer = new BlockSealer(map, sidecar, context);
  toggleGuard(map.segment);
  for (let block = 0; block < map.blockCount; block++) sealer.seal(block);
  for (const [i, slot] of carry.entries()) slot.copy(sidecar, walSlotAt(map.blockCount + i));
  for (let pageNumber = 0; pageNumber < pages; pageNumber++) {
    const start = pageNumber * WAL_SIDECAR_PAGE_BYTES;
    const page = sidecar.subarray(start, start + WAL_SIDECAR_PAGE_BYTES);
    const last = pageNumber === pages - 1;
    const { head, keyId: macKeyId, macKey } = context;
    finishSidecarPage(page, { ...head, pageNumber, last, macKeyId }, macKey);
    page.writeUInt16LE(pageChecksum(page, pageNumber), PAGE_HEADER.checksum);
  }
  writeWholeRecordCrcs(map);
  return { sidecar, zeroBlocks: sealer.zeroBlocks, openCrc: writeCrossingCrcs(map) };
}

class BlockSealer {
  zeroBlocks = 0;
  readonly #map: SegmentMap;
  readonly #sidecar: Buffer;
  readonly #context: WalSealContext;
  readonly #messages: WalMessages;
  readonly #nonces: Buffer;

  constructor(map: SegmentMap, sidecar: Buffer, context: WalSealContext) {
    this.#map = map;
    this.#sidecar = sidecar;
    this.#context = context;
    this.#messages = new WalMessages(map, context.head.identity);
    this.#nonces = Buffer.alloc(map.blockCount * NONCE_BYTES);
    (context.fillNonces ?? fillRandom)(this.#nonces);
  }

  seal(block: number): void {
    const { segment } = this.#map;
    const { keyId, epoch, pageKey } = this.#context;
    const slots = this.#sidecar;
    const slotAt = walSlotAt(block);
    const base = block * WAL_PAGE_BYTES;
    const fields = this.#fieldsOf(block);
    const isZero = fields.zerosFrom === 0;
    if (isZero) this.zeroBlocks++;
    const kind = isZero ? SLOT_KIND.walZeroBlock : SLOT_KIND.walBlock;
    writeSlotFields(slots, slotAt, { kind, flags: 0, keyId, epoch, lengthBytes: WAL_PAGE_BYTES });
    writeWalSlotFields(slots, slotAt, fields);
    const nonce = this.#nonces.subarray(block * NONCE_BYTES, (block + 1) * NONCE_BYTES);
    nonce.copy(slots, slotAt + SLOT.nonce);
    pageKey.commitment.copy(slots, slotAt + SLOT.commitment, 0, KEY_BYTES);

    const messages = this.#messages;
    messages.start(block, slots, slotAt, fields.zerosFrom);
    const crcAt = crcSealedIn(this.#map, block);
    if (crcAt !== undefined) messages.append(segment.readUInt32LE(crcAt));
    const { text } = messages;
    const tag = slots.subarray(slotAt + SLOT.tag, slotAt + SLOT.tag + TAG_BYTES);
    gcmEncryptInPlace(pageKey.key, nonce, messages.aad, text, tag);
    messages.scatter(text);
    if (crcAt !== undefined) text.copy(slots, slotAt + SEALED_CRC_OFFSET, text.length - 4);
    if (hasSealedEnd(fields)) {
      const end = base + fields.structureEnd;
      segment.copy(slots, slotAt + SLOT.sealedBytes, end, end + 4);
      segment.fill(0, end, end + 4);
    }
  }

  #fieldsOf(block: number): WalSlotFields {
    const map = this.#map;
    const openHeader = map.hasOpenHeader[block] === 1 ? WAL_SLOT_FLAG.openHeader : 0;
    const sealedCrc = crcSealedIn(map, block) === undefined ? 0 : WAL_SLOT_FLAG.sealedCrc;
    const structureStart = map.structureStart(block);
    const structureEnd = map.structureEnd(block);
    const zerosFrom = Math.max(structureEnd, zerosFromOf(map.segment, block));
    const fields = { flags: openHeader | sealedCrc, structureStart, structureEnd, zerosFrom };
    // What is stored as zero has room.
    if (!hasSealedEnd(fields)) return fields;
    return { ...fields, zerosFrom: Math.max(zerosFrom, structureEnd + 4) };
  }
}

/**
 * The xl_crc whose original stands in a block's slot, because the record is not wholly in the segment: in the first
 * block that of a record which began before it, in the last one that of a record which goes on.
 */
export function crcSealedIn(map: SegmentMap, block: number): number | undefined {
  if (block === 0) return map.leading?.crcAt;
  return block === map.blockCount - 1 ? map.trailing?.crcAt : undefined;
}

/** Behind the last byte of a block that is not zero. */
export function zerosFromOf(segment: Buffer, block: number): number {
  const base = block * WAL_PAGE_BYTES;
  let end = base + WAL_PAGE_BYTES;
  while (end > base && segment.readInt32LE(end - 4) === 0) end -= 4;
  while (end > base && segment[end - 1] === 0) end--;
  return end - base;
}

/** Writes the CRC of a record that ends here, and finds what the one lacks that goes on. */
function writeCrossingCrcs(map: SegmentMap): OpenCrc | undefined {
  const { leading, segment } = map;
  if (leading !== undefined) {
    const total =
      leading.before.length < 4 ? 0 : leading.before.readUInt32LE(RECORD_HEADER.totalLength);
    const end = leading.goesOn ? Infinity : total - leading.before.length;
    const open = crossingCrc(map, map.headerOf(0), leading, end);
    if (leading.goesOn) return open;
    if (open !== undefined) segment.writeUInt32LE(closeCrc(open, []), open.crcAt);
  }
  return trailingCrc(map);
}

/** The CRC of the record that begins here and goes on in the next segment, as far as this one has it. */
export function trailingCrc(map: SegmentMap): OpenCrc | undefined {
  return map.trailing && crossingCrc(map, map.trailingAt, map.trailing, Infinity);
}
