/**
 * Where the secrets of one WAL segment are: byte ranges that never cross a block, and for each block the part of it
 * that was taken apart into records. Made from the plain segment when it is encrypted and from the stored one when it
 * is decrypted; both find the same.
 */
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { RECORD_HEADER } from "../../wal/record-header.ts";
import type { RecordParts } from "../../wal/structure/record-parts.ts";
import { pageHeaderBytes } from "./wal-page.ts";

/** Of the header of a record that is not taken apart what stays readable: all before its CRC. */
export const OPEN_HEADER_BYTES: number = RECORD_HEADER.crc;

/** For shorter ones the arrays grow. */
const USUAL_RECORD_BYTES = 64;

/** A record that crosses an end of the segment. */
export interface CrossingPart {
  /** As those of RecordParts, but in the part of the record that is in this segment, from its first byte on. */
  readonly bounds: readonly number[];
  /** Offset in the segment of its xl_crc; undefined where that is in another segment. */
  readonly crcAt: number | undefined;
  /** The beginning of the record's header, as far as it is before this part; known of a plain segment alone. */
  readonly before: Buffer;
  /** Whether the record goes on behind this segment, too. */
  readonly goesOn: boolean;
}

/** Records of one block that follow one another. */
export interface RecordRun {
  /** Where they begin. */
  readonly records: Int32Array;
  /** Start and end of each secret, rising. */
  readonly secrets: Int32Array;
}

/**
 * What a map keeps its ranges in, for one map after the other: with the next one, what an earlier one knew of its
 * records is gone.
 */
export class MapMemory {
  secrets: Int32Array = new Int32Array(0);
  records: Int32Array = new Int32Array(0);
  crcs: Int32Array = new Int32Array(0);

  /** Has room for so many, and for a secret of each. */
  reserve(records: number): void {
    if (this.records.length >= records) return;
    if (this.secrets.length < 2 * records) this.secrets = enlarged(this.secrets, 2 * records);
    this.records = enlarged(this.records, records);
    this.crcs = enlarged(this.crcs, records);
  }

  reserveSecrets(length: number): void {
    if (this.secrets.length < length) this.secrets = enlarged(this.secrets, 2 * length);
  }
}

function enlarged(array: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}

export class SegmentMap {
  readonly segment: Buffer;
  readonly blockCount: number;
  /** Bytes of each block's page header; 0 where it has none. */
  readonly headerBytes: Uint8Array;
  /** Of each block, relative to it: where records begin and end that are taken apart. -1: there are none. */
  readonly #structureStart: Int32Array;
  readonly #structureEnd: Int32Array;
  /** 1 where the structure of a block ends in the header of a record that is not taken apart. */
  readonly hasOpenHeader: Uint8Array;
  secretCount = 0;
  wholeCount = 0;
  /** The record that began in an earlier segment, if it is taken apart. */
  leading: CrossingPart | undefined;
  /** The one that begins here and goes on in the next segment. */
  trailing: CrossingPart | undefined;
  /** Where that begins. */
  trailingAt = 0;

  readonly #memory: MapMemory;

  constructor(segment: Buffer, memory: MapMemory = new MapMemory()) {
    this.#memory = memory;
    this.segment = segment;
    this.blockCount = segment.length / WAL_PAGE_BYTES;
    this.headerBytes = new Uint8Array(this.blockCount);
    for (let block = 0; block < this.blockCount; block++) {
      this.headerBytes[block] = pageHeaderBytes(segment, block * WAL_PAGE_BYTES);
    }
    this.#structureStart = new Int32Array(this.blockCount).fill(-1);
    this.#structureEnd = new Int32Array(this.blockCount).fill(-1);
    this.hasOpenHeader = new Uint8Array(this.blockCount);
    memory.reserve(Math.ceil(segment.length / USUAL_RECORD_BYTES));
  }

  /** Start and end of each secret range among the records, in offsets of the segment, rising. */
  get secrets(): Int32Array {
    return this.#memory.secrets;
  }

  /** Offsets of the records that are wholly in the segment. */
  get wholeRecords(): Int32Array {
    return this.#memory.records;
  }

  /** Offsets of their xl_crc. */
  get wholeCrcs(): Int32Array {
    return this.#memory.crcs;
  }

  headerOf(block: number): number {
    return this.headerBytes[block] ?? 0;
  }

  /** Where records begin in a block; where there are none, behind its page header. */
  structureStart(block: number): number {
    const start = this.#structureStart[block] ?? -1;
    return start < 0 ? this.headerOf(block) : start;
  }

  structureEnd(block: number): number {
    const end = this.#structureEnd[block] ?? -1;
    return end < 0 ? this.headerOf(block) : end;
  }

  /** Names a record that is wholly in the segment, and its parts. */
  addWhole(offset: number, parts: RecordParts): void {
    this.#reserveRecord();
    this.wholeRecords[this.wholeCount] = offset;
    this.wholeCrcs[this.wholeCount++] = this.advance(offset, RECORD_HEADER.crc);
    this.#place(offset, parts.bounds, parts.count);
  }

  /**
   * Names records of one block that follow one another, and their secrets.
   * @param run - in offsets of the block. @param end - offset of the segment where they end.
   */
  addRun(block: number, { records, secrets }: RecordRun, end: number): void {
    const base = block * WAL_PAGE_BYTES;
    const memory = this.#memory;
    if (this.wholeCount + records.length > memory.records.length) {
      memory.reserve(2 * (this.wholeCount + records.length));
    }
    memory.reserveSecrets(this.secretCount + secrets.length);
    const { secrets: ranges, records: offsets, crcs } = memory;
    let count = this.wholeCount;
    for (const record of records) {
      offsets[count] = base + record;
      crcs[count++] = base + record + RECORD_HEADER.crc;
    }
    this.wholeCount = count;
    let secretCount = this.secretCount;
    for (const bound of secrets) ranges[secretCount++] = base + bound;
    this.secretCount = secretCount;
    this.#structure(base + (records[0] ?? 0), end);
  }

  /** The record that began before this segment. */
  addLeading(part: CrossingPart): void {
    this.leading = part;
    this.#place(this.headerOf(0), part.bounds, part.bounds.length);
  }

  /** The record that begins at this offset and goes on behind the segment. */
  addTrailing(offset: number, part: CrossingPart): void {
    this.trailing = part;
    this.trailingAt = offset;
    this.#place(offset, part.bounds, part.bounds.length);
  }

  /** Keeps the header of a record that is not taken apart, as far as it is in its block. */
  addOpenHeader(offset: number): void {
    const block = Math.floor(offset / WAL_PAGE_BYTES);
    const room = (block + 1) * WAL_PAGE_BYTES - offset;
    this.#structure(offset, offset + Math.min(OPEN_HEADER_BYTES, room));
    this.hasOpenHeader[block] = 1;
  }

  /** Where the byte of a record is that begins, or goes on, at `offset`: pages have headers of their own. */
  advance(offset: number, count: number): number {
    let at = offset;
    for (let left = count; ;) {
      const room = WAL_PAGE_BYTES - (at % WAL_PAGE_BYTES);
      if (left < room) return at + left;
      left -= room;
      at += room;
      if (at >= this.segment.length) return left === 0 ? at : Infinity;
      at += this.headerOf(at / WAL_PAGE_BYTES);
    }
  }

  /** Lays the parts of a record over the pages, as far as the segment goes. */
  #place(offset: number, bounds: ArrayLike<number>, count: number): void {
    let at = offset;
    let done = 0;
    for (let i = 0; i < count; i++) {
      const end = bounds[i] ?? 0;
      const isSecret = i % 2 === 1;
      while (done < end) {
        const inPage = at % WAL_PAGE_BYTES;
        if (inPage === 0) {
          if (at >= this.segment.length) return;
          at += this.headerOf(at / WAL_PAGE_BYTES);
        }
        const length = Math.min(end - done, WAL_PAGE_BYTES - (at % WAL_PAGE_BYTES));
        if (isSecret) this.#addSecret(at, at + length);
        this.#structure(at, at + length);
        at += length;
        done += length;
      }
    }
  }

  /** [start, end) of one block belongs to records. */
  #structure(start: number, end: number): void {
    const block = Math.floor(start / WAL_PAGE_BYTES);
    const base = block * WAL_PAGE_BYTES;
    if ((this.#structureStart[block] ?? -1) < 0) this.#structureStart[block] = start - base;
    this.#structureEnd[block] = end - base;
  }

  #reserveRecord(): void {
    const { length } = this.#memory.records;
    if (this.wholeCount === length) this.#memory.reserve(2 * (length + 1));
  }

  #addSecret(start: number, end: number): void {
    this.#memory.reserveSecrets(this.secretCount + 2);
    this.secrets[this.secretCount++] = start;
    this.secrets[this.secretCount++] = end;
  }
}
