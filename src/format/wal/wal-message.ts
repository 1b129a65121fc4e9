/**
 * The AES-256-GCM message of one WAL block: its secrets joined are the plaintext, its structure with every xl_crc
 * zeroed is in the AAD. docs/FORMAT.md, "WAL message".
 */
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { copyWords } from "../../bytes/copy-words.ts";
import { type FileIdentity, IDENTITY_BYTES, serializeIdentity } from "../identity.ts";
import { SLOT_AAD_BYTES } from "../slot.ts";
import type { SegmentMap } from "./segment-map.ts";

const LABEL = Buffer.from("tde/v1/wal");
const BLOCK = LABEL.length + IDENTITY_BYTES;
const SLOT_PART = BLOCK + 4;
const STRUCTURE_PART = SLOT_PART + SLOT_AAD_BYTES;

const CRC_BYTES = 4;
/** Bytes that one call of `copy` is not worth. */
const FEW_BYTES = 48;

/** Goes through the blocks of a segment one after the other, from the first on. */
export class WalMessages {
  readonly #map: SegmentMap;
  readonly #aad: Buffer = Buffer.alloc(STRUCTURE_PART + WAL_PAGE_BYTES);
  readonly #text: Buffer = Buffer.alloc(WAL_PAGE_BYTES + CRC_BYTES);
  /** Secret ranges of the block in hand, as start and end, in offsets of the segment. */
  readonly #ranges: Int32Array = new Int32Array(WAL_PAGE_BYTES);
  #rangeCount = 0;
  #aadBytes = 0;
  #textBytes = 0;
  /** The next ones that no block has had. */
  #nextSecret = 0;
  #nextCrc = 0;

  constructor(map: SegmentMap, identity: FileIdentity) {
    this.#map = map;
    LABEL.copy(this.#aad, 0);
    serializeIdentity(identity).copy(this.#aad, LABEL.length);
  }

  /** What `start` found: valid until the next call. */
  get aad(): Buffer {
    return this.#aad.subarray(0, this.#aadBytes);
  }

  /** The secrets of the block as the segment has them, in order. */
  get text(): Buffer {
    return this.#text.subarray(0, this.#textBytes);
  }

  /**
   * Finds the secrets of a block and gathers them, and its AAD.
   * @param zerosFrom - of its slot, which is filled in but for nonce, tag and what is sealed in it.
   */
  start(block: number, slots: Buffer, slotAt: number, zerosFrom: number): void {
    const base = block * WAL_PAGE_BYTES;
    this.#aad.writeUInt32LE(block, BLOCK);
    copyWords(slots, slotAt, this.#aad, SLOT_PART, SLOT_AAD_BYTES);
    this.#findRanges(block, base, zerosFrom);
    this.#gather(base, base + zerosFrom);
    this.#zeroChecksums(base);
  }

  /** Adds an original xl_crc behind the secrets. */
  append(crc: number): void {
    this.#text.writeUInt32LE(crc, this.#textBytes);
    this.#textBytes += CRC_BYTES;
  }

  /** Where in the text the byte of the segment at this offset is, which is the beginning of a secret. */
  positionOf(offset: number): number {
    let position = 0;
    for (let i = 0; i < this.#rangeCount; i += 2) {
      const start = this.#ranges[i] ?? 0;
      const end = this.#ranges[i + 1] ?? 0;
      if (offset < end) return position + offset - start;
      position += end - start;
    }
    return position;
  }

  /** Puts other bytes in the place of the secrets. @param text - those of the whole block, in order. */
  scatter(text: Buffer): void {
    const { segment } = this.#map;
    let from = 0;
    for (let i = 0; i < this.#rangeCount; i += 2) {
      const start = this.#ranges[i] ?? 0;
      const length = (this.#ranges[i + 1] ?? 0) - start;
      move(text, from, segment, start, length);
      from += length;
    }
  }

  /** Around the part that was taken apart everything but the page header and the zeros at the end is secret. */
  #findRanges(block: number, base: number, zerosFrom: number): void {
    const map = this.#map;
    this.#rangeCount = 0;
    this.#addRange(base + map.headerOf(block), base + map.structureStart(block));
    const blockEnd = base + WAL_PAGE_BYTES;
    for (; this.#nextSecret < map.secretCount; this.#nextSecret += 2) {
      const start = map.secrets[this.#nextSecret] ?? 0;
      if (start >= blockEnd) break;
      this.#addRange(start, map.secrets[this.#nextSecret + 1] ?? 0);
    }
    this.#addRange(base + map.structureEnd(block), base + zerosFrom);
  }

  #addRange(start: number, end: number): void {
    if (end <= start) return;
    const last = this.#rangeCount - 1;
    if (last > 0 && this.#ranges[last] === start) {
      this.#ranges[last] = end;
      return;
    }
    this.#ranges[this.#rangeCount++] = start;
    this.#ranges[this.#rangeCount++] = end;
  }

  /** Secrets into the text, what is between them into the AAD. */
  #gather(base: number, end: number): void {
    const { segment } = this.#map;
    let done = base;
    let text = 0;
    let aad = STRUCTURE_PART;
    for (let i = 0; i < this.#rangeCount; i += 2) {
      const start = this.#ranges[i] ?? 0;
      const next = this.#ranges[i + 1] ?? 0;
      move(segment, done, this.#aad, aad, start - done);
      aad += start - done;
      move(segment, start, this.#text, text, next - start);
      text += next - start;
      done = next;
    }
    move(segment, done, this.#aad, aad, end - done);
    this.#aadBytes = aad + Math.max(0, end - done);
    this.#textBytes = text;
  }

  /** The CRC of a record is that of stored bytes, computed after they are there. */
  #zeroChecksums(base: number): void {
    const map = this.#map;
    const end = base + WAL_PAGE_BYTES;
    let range = 0;
    let secretBytes = 0;
    const zero = (at: number): void => {
      while (range < this.#rangeCount && (this.#ranges[range] ?? 0) < at) {
        secretBytes += (this.#ranges[range + 1] ?? 0) - (this.#ranges[range] ?? 0);
        range += 2;
      }
      this.#aad.fill(
        0,
        STRUCTURE_PART + at - base - secretBytes,
        STRUCTURE_PART + at - base - secretBytes + CRC_BYTES,
      );
    };
    const leading = map.leading?.crcAt;
    if (leading !== undefined && base === 0) zero(leading);
    for (; this.#nextCrc < map.wholeCount; this.#nextCrc++) {
      const at = map.wholeCrcs[this.#nextCrc] ?? 0;
      if (at >= end) break;
      zero(at);
    }
    const trailing = map.trailing?.crcAt;
    if (trailing !== undefined && trailing >= base && trailing < end) zero(trailing);
  }
}

function move(from: Buffer, fromAt: number, to: Buffer, toAt: number, length: number): void {
  if (length > FEW_BYTES) {
    from.copy(to, toAt, fromAt, fromAt + length);
    return;
  }
  for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i] ?? 0;
}
