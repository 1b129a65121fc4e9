/**
 * The AES-256-GCM message of one WAL block: its secrets joined are the plaintext, its structure with every xl_crc
 * zeroed is in the AAD. docs/FORMAT.md, "WAL message".
 */
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { copyWords } from "../../bytes/copy-words.ts";
import { type FileIdentity, IDENTITY_BYTES, serializeIdentity } from "../identity.ts";
import { SLOT_AAD_BYTES } from "../slot.ts";
import { type BlockText, blockText } from "./block-text.ts";
import type { SegmentMap } from "./segment-map.ts";

const LABEL = Buffer.from("tde/v1/wal");
const BLOCK = LABEL.length + IDENTITY_BYTES;
const SLOT_PART = BLOCK + 4;
const STRUCTURE_PART = SLOT_PART + SLOT_AAD_BYTES;

const CRC_BYTES = 4;

/** Goes through the blocks of a segment one after the other, from the first on. One at a time in a thread. */
export class WalMessages {
  readonly #map: SegmentMap;
  readonly #parted: BlockText = blockText();
  /** What stands before the structure. */
  readonly #head: Buffer;
  #base = 0;
  #structureBytes = 0;
  #textBytes = 0;
  /** The next ones that no block has had. */
  #nextSecret = 0;
  #nextCrc = 0;

  constructor(map: SegmentMap, identity: FileIdentity) {
    this.#map = map;
    this.#head = this.#parted.before(STRUCTURE_PART);
    LABEL.copy(this.#head);
    serializeIdentity(identity).copy(this.#head, LABEL.length);
  }

  /** What `start` found: valid until the next call. */
  get aad(): Buffer {
    return this.#parted.structure(STRUCTURE_PART, this.#structureBytes);
  }

  /** The secrets of the block as the segment has them, in order. */
  get text(): Buffer {
    return this.#parted.text(this.#textBytes);
  }

  /**
   * Finds the secrets of a block and gathers them, and its AAD.
   * @param zerosFrom - of its slot, which is filled in but for nonce, tag and what is sealed in it.
   */
  start(block: number, slots: Buffer, slotAt: number, zerosFrom: number): void {
    const base = block * WAL_PAGE_BYTES;
    this.#base = base;
    this.#head.writeUInt32LE(block, BLOCK);
    copyWords(slots, slotAt, this.#head, SLOT_PART, SLOT_AAD_BYTES);
    const rangeCount = this.#findRanges(block, base, zerosFrom);
    const wordCount = this.#findChecksums(base);
    const { segment } = this.#map;
    const found = this.#parted.part(segment, base, zerosFrom, rangeCount, wordCount);
    this.#textBytes = found.textBytes;
    this.#structureBytes = found.structureBytes;
  }

  /** Adds an original xl_crc behind the secrets. */
  append(crc: number): void {
    this.#textBytes += CRC_BYTES;
    this.text.writeUInt32LE(crc, this.#textBytes - CRC_BYTES);
  }

  /** Where in the text the byte of the segment at this offset is, which is the beginning of a secret. */
  positionOf(offset: number): number {
    return this.#parted.positionOf(offset - this.#base);
  }

  /** Puts other bytes in the place of the secrets. @param text - those of the whole block, in order. */
  scatter(text: Buffer): void {
    this.#parted.scatter(text, this.#map.segment, this.#base);
  }

  /** Around the part that was taken apart everything but the page header and the zeros at the end is secret. */
  #findRanges(block: number, base: number, zerosFrom: number): number {
    const map = this.#map;
    const { ranges } = this.#parted;
    const first = this.#nextSecret;
    const blockEnd = base + WAL_PAGE_BYTES;
    while (this.#nextSecret < map.secretCount && (map.secrets[this.#nextSecret] ?? 0) < blockEnd) {
      this.#nextSecret += 2;
    }
    ranges[0] = base + map.headerOf(block);
    ranges[1] = base + map.structureStart(block);
    ranges.set(map.secrets.subarray(first, this.#nextSecret), 2);
    const last = 2 + this.#nextSecret - first;
    ranges[last] = base + map.structureEnd(block);
    ranges[last + 1] = base + zerosFrom;
    return last / 2 + 1;
  }

  /** The CRC of a record is that of stored bytes, computed after they are there: in the AAD it is zero. */
  #findChecksums(base: number): number {
    const map = this.#map;
    const { words } = this.#parted;
    const blockEnd = base + WAL_PAGE_BYTES;
    let count = 0;
    const add = (at: number): void => {
      // Of records that are aligned; where a damaged segment has others, the tag tells.
      if (at + CRC_BYTES <= blockEnd) words[count++] = at - base;
    };
    const leading = map.leading?.crcAt;
    if (leading !== undefined && base === 0) add(leading);
    for (; this.#nextCrc < map.wholeCount; this.#nextCrc++) {
      const at = map.wholeCrcs[this.#nextCrc] ?? 0;
      if (at >= blockEnd) break;
      add(at);
    }
    const trailing = map.trailing?.crcAt;
    if (trailing !== undefined && trailing >= base && trailing < blockEnd) add(trailing);
    return count;
  }
}
