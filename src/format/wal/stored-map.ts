/**
 * Takes a stored segment apart, with nothing but its readable bytes and its slots: finds the same secrets as were
 * found in the plain one. Records that cross the segment's ends have their boundaries in slots.
 */
import { decodeRecord } from "../../wal/decode-record.ts";
import { aligned, WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { createWalRecord } from "../../wal/record.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../wal/record-header.ts";
import { type PartScan, partScanOf } from "../../wal/structure/part-scan.ts";
import { readableParts } from "../../wal/structure/readable-parts.ts";
import { RecordParts } from "../../wal/structure/record-parts.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { type MapMemory, OPEN_HEADER_BYTES, SegmentMap } from "./segment-map.ts";
import { formatOfSegment } from "./wal-page.ts";
import { type Carry, WAL_SLOT_FLAG, type WalSlotFields } from "./wal-slot.ts";

/** Why a segment cannot be taken apart as its slots say. */
export class MapDefect extends Error {
  readonly block: number;

  constructor(block: number, message: string) {
    super(message);
    this.block = block;
  }
}

export interface StoredMap {
  readonly map: SegmentMap;
  /** Those that hold the CRC of a whole record, where it is not the one of the record's stored bytes. */
  readonly wrongCrcs: readonly number[];
}

/**
 * @param segment - as stored.
 * @param slotOf - the slot of a block, whose form has been checked.
 * @throws {MapDefect} where segment and slots contradict each other.
 */
export function mapStoredSegment(
  segment: Buffer,
  slotOf: (block: number) => WalSlotFields,
  carry: Carry,
  memory?: MapMemory,
): StoredMap {
  const map = new SegmentMap(segment, memory);
  const mapper = new StoredMapper(map, slotOf, carry);
  mapper.run();
  return { map, wrongCrcs: mapper.wrongCrcs };
}

class StoredMapper {
  readonly wrongCrcs: number[] = [];
  readonly #map: SegmentMap;
  readonly #slotOf: (block: number) => WalSlotFields;
  readonly #carry: Carry;
  readonly #format: WalFormat | undefined;
  readonly #scan: PartScan | undefined;
  readonly #parts = new RecordParts();
  readonly #record = createWalRecord();
  /** The block that the scan's window holds. */
  #loaded = -1;
  /** Up to here records have been taken apart, in offsets of the segment. */
  #done = 0;

  constructor(map: SegmentMap, slotOf: (block: number) => WalSlotFields, carry: Carry) {
    this.#map = map;
    this.#slotOf = slotOf;
    this.#carry = carry;
    this.#format = formatOfSegment(map.segment);
    this.#scan = this.#format && partScanOf(this.#format);
  }

  run(): void {
    const map = this.#map;
    const { leading, trailing } = this.#carry;
    if (leading !== undefined) {
      const start = map.headerOf(0);
      const { bounds, headerBefore } = leading;
      const crcAt = headerBefore === 0 ? undefined : start + RECORD_HEADER.crc - headerBefore;
      map.addLeading({ bounds, crcAt, before: NOTHING, goesOn: false });
      this.#done = map.advance(start, bounds.at(-1) ?? 0);
    }
    for (let block = 0; block < map.blockCount; block++) this.#mapBlock(block);
    if (trailing !== undefined && map.trailing === undefined) {
      throw new MapDefect(map.blockCount - 1, "no record goes on behind the segment");
    }
    for (let block = 0; block < map.blockCount; block++) this.#compare(block);
  }

  #mapBlock(block: number): void {
    const map = this.#map;
    const { flags, structureStart, structureEnd } = this.#slotOf(block);
    const base = block * WAL_PAGE_BYTES;
    const end = base + structureEnd;
    let at = Math.max(base + structureStart, this.#done);
    const isOpen = (flags & WAL_SLOT_FLAG.openHeader) !== 0;
    while (at < end) {
      // No record is as short.
      if (isOpen && end - at <= OPEN_HEADER_BYTES) {
        map.addOpenHeader(at);
        return;
      }
      const next = this.#mapRun(block, at, end);
      at = next > at ? next : this.#mapRecord(block, at);
      this.#done = at;
    }
  }

  /** @returns where what follows the records begins that the scan takes; `at` where it takes none. */
  #mapRun(block: number, at: number, end: number): number {
    const scan = this.#scan;
    if (scan === undefined) return at;
    const base = block * WAL_PAGE_BYTES;
    if (this.#loaded !== block) {
      this.#map.segment.copy(scan.window, 0, base, base + WAL_PAGE_BYTES);
      this.#loaded = block;
    }
    const next = base + scan.takeStoredRun(at - base, end - base);
    if (next > at) this.#map.addRun(block, scan, next);
    return next;
  }

  /** @returns where what follows the record begins, in its block or in a later one. */
  #mapRecord(block: number, at: number): number {
    const map = this.#map;
    const { segment } = map;
    if (this.#format === undefined || this.#scan === undefined) {
      throw new MapDefect(block, "records without a page header");
    }
    const total = segment.readUInt32LE(at);
    if (total < RECORD_HEADER_BYTES) throw new MapDefect(block, `a record of ${total} bytes`);
    const end = this.#endOf(at, aligned(total));
    if (end === undefined) {
      const { trailing } = this.#carry;
      if (trailing === undefined || map.trailing !== undefined) {
        throw new MapDefect(block, "a record goes on behind the segment");
      }
      const crcAt = map.advance(at, RECORD_HEADER.crc);
      map.addTrailing(at, {
        bounds: trailing,
        crcAt: crcAt < segment.length ? crcAt : undefined,
        before: NOTHING,
        goesOn: true,
      });
      return segment.length;
    }
    const record = this.#record;
    this.#load(this.#scan, block, at, total);
    const { bytes, start } = record;
    record.totalLength = total;
    record.info = bytes.readUInt8(start + RECORD_HEADER.info);
    record.rmid = bytes.readUInt8(start + RECORD_HEADER.rmid);
    const problem = decodeRecord(record, viewOf(bytes), this.#format);
    if (problem !== undefined) throw new MapDefect(block, problem);
    readableParts(record, this.#format, this.#parts);
    map.addWhole(at, this.#parts);
    if (
      this.#scan.recordCrc(bytes, start, total) !== bytes.readUInt32LE(start + RECORD_HEADER.crc)
    ) {
      this.wrongCrcs.push(Math.floor((map.wholeCrcs[map.wholeCount - 1] ?? 0) / WAL_PAGE_BYTES));
    }
    return end;
  }

  /** Where `count` bytes from `at` on end: the end of a page is not the beginning of the next one's content. */
  #endOf(at: number, count: number): number | undefined {
    const end = this.#map.advance(at, count - 1) + 1;
    return end <= this.#map.segment.length ? end : undefined;
  }

  /** Has the record in one piece: in the window with its block, or in scratch. */
  #load(scan: PartScan, block: number, at: number, total: number): void {
    const { segment } = this.#map;
    const record = this.#record;
    if ((at % WAL_PAGE_BYTES) + total <= WAL_PAGE_BYTES) {
      record.bytes = scan.window;
      record.start = at - block * WAL_PAGE_BYTES;
      return;
    }
    const { scratch } = scan;
    record.bytes = total <= scratch.length ? scratch : Buffer.alloc(total);
    record.start = 0;
    for (let from = at, done = 0; done < total;) {
      const length = Math.min(total - done, WAL_PAGE_BYTES - (from % WAL_PAGE_BYTES));
      segment.copy(record.bytes, done, from, from + length);
      done += length;
      from += length;
      if (from % WAL_PAGE_BYTES === 0 && done < total) {
        from += this.#map.headerOf(from / WAL_PAGE_BYTES);
      }
    }
  }

  /** What was found must be what the slot says: else the sidecar is of another segment, or the header was changed. */
  #compare(block: number): void {
    const { structureStart, structureEnd } = this.#slotOf(block);
    if (
      this.#map.structureStart(block) !== structureStart ||
      this.#map.structureEnd(block) !== structureEnd
    ) {
      throw new MapDefect(block, "its records are not where its slot says");
    }
  }
}

const NOTHING = Buffer.alloc(0);

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
