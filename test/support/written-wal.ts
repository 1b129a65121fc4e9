/**
 * Writes WAL as a server lays it out: pages, headers, records that cross pages and segments, CRCs. For cases that the
 * recorded segments of real servers do not have. Layouts: access/xlog_internal.h, access/xlogrecord.h.
 */
import { crc32c } from "../../src/postgres/crc32c.ts";
import type { Major } from "../../src/postgres/version.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";

export const PAGE = 8192;
export const SEGMENT: number = 2 ** 20;
const LONG_HEADER = 40;
const SHORT_HEADER = 24;
const RECORD_HEADER = 24;

export interface WrittenRecord {
  readonly rmid: number;
  readonly info?: number;
  readonly main?: Buffer;
  /** A full-page image of block 0 without a hole. */
  readonly image?: Buffer;
  /** Data of block 0. */
  readonly data?: Buffer;
}

export const WRITTEN_SYSTEM = 7_391_234_567_890_123_456n;

export class WalWriter {
  /** Of segment `firstSegment` on, one after the other. */
  readonly segments: Buffer[] = [];
  readonly firstSegment: number;
  readonly timeline: number;
  readonly system: bigint;
  readonly #magic: number;
  #at: number;
  #previous: number;

  constructor(
    major: Major,
    {
      firstSegment = 5,
      timeline = 1,
      system = WRITTEN_SYSTEM,
    }: { firstSegment?: number; timeline?: number; system?: bigint } = {},
  ) {
    this.firstSegment = firstSegment;
    this.timeline = timeline;
    this.system = system;
    this.#magic = walFormatOf(major).pageMagic;
    this.#at = firstSegment * SEGMENT;
    this.#previous = this.#at - 64;
  }

  /** Where the next record begins. */
  get position(): number {
    const start = this.#at % PAGE === 0 ? this.#at + headerAt(this.#at) : this.#at;
    return start - this.firstSegment * SEGMENT;
  }

  name(index: number): string {
    const digits = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");
    const number = this.firstSegment + index;
    return digits(this.timeline) + digits(Math.floor(number / 4096)) + digits(number % 4096);
  }

  /** @returns offset of the record from the first segment's beginning. */
  append(record: WrittenRecord): number {
    const body = bodyOf(record);
    const bytes = Buffer.concat([Buffer.alloc(RECORD_HEADER), body]);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(777, 4);
    bytes.writeBigUInt64LE(BigInt(this.#previous), 8);
    bytes[16] = record.info ?? 0;
    bytes[17] = record.rmid;
    bytes.writeUInt32LE(crc32c(bytes, 0, 20, crc32c(bytes, RECORD_HEADER)), 20);
    const start = this.position;
    this.#previous = start + this.firstSegment * SEGMENT;
    this.#write(bytes);
    this.#at = Math.ceil(this.#at / 8) * 8;
    return start;
  }

  /** Fills up with records until only `left` bytes of this segment are left, a multiple of 8. */
  fillTo(left: number): void {
    const goal = (Math.floor(this.#at / SEGMENT) + 1) * SEGMENT - left;
    while (this.#at < goal) {
      const start = this.#at % PAGE === 0 ? this.#at + headerAt(this.#at) : this.#at;
      const room = Math.min(goal, start - (start % PAGE) + PAGE) - start;
      // None ends less than a record before the end of its page.
      this.append(filler(room <= 4000 ? room : Math.min(4000, room - 80)));
    }
  }

  /** Puts bytes behind the end of WAL, as a recycled segment has them. */
  leave(offset: number, bytes: Buffer): void {
    bytes.copy(this.#segment(offset), offset % SEGMENT);
  }

  #write(bytes: Buffer): void {
    for (let done = 0; done < bytes.length || done === 0;) {
      if (this.#at % PAGE === 0) this.#beginPage(done === 0 ? 0 : bytes.length - done);
      const offset = this.#at - this.firstSegment * SEGMENT;
      const length = Math.min(bytes.length - done, PAGE - (this.#at % PAGE));
      bytes.copy(this.#segment(offset), offset % SEGMENT, done, done + length);
      done += length;
      this.#at += length;
    }
  }

  #beginPage(remaining: number): void {
    const isFirst = this.#at % SEGMENT === 0;
    const offset = this.#at - this.firstSegment * SEGMENT;
    const header = this.#segment(offset).subarray(offset % SEGMENT);
    header.writeUInt16LE(this.#magic, 0);
    header.writeUInt16LE((remaining > 0 ? 1 : 0) | (isFirst ? 2 : 0), 2);
    header.writeUInt32LE(this.timeline, 4);
    header.writeBigUInt64LE(BigInt(this.#at), 8);
    header.writeUInt32LE(remaining, 16);
    if (isFirst) {
      header.writeBigUInt64LE(this.system, 24);
      header.writeUInt32LE(SEGMENT, 32);
      header.writeUInt32LE(PAGE, 36);
    }
    this.#at += headerAt(this.#at);
  }

  #segment(offset: number): Buffer {
    const index = Math.floor(offset / SEGMENT);
    while (this.segments.length <= index) this.segments.push(Buffer.alloc(SEGMENT));
    return this.segments[index] ?? Buffer.alloc(0);
  }
}

function headerAt(position: number): number {
  return position % SEGMENT === 0 ? LONG_HEADER : SHORT_HEADER;
}

function bodyOf({ main = Buffer.alloc(0), image, data }: WrittenRecord): Buffer {
  const headers: Buffer[] = [];
  if (image !== undefined || data !== undefined) {
    const flags = (image === undefined ? 0 : 0x10) | (data === undefined ? 0 : 0x20);
    headers.push(Buffer.of(0, flags, (data?.length ?? 0) & 0xff, (data?.length ?? 0) >> 8));
    // No hole, to be applied: 8192 bytes.
    if (image !== undefined) headers.push(Buffer.from("0020000002", "hex"));
    const relation = Buffer.alloc(16);
    for (const [i, value] of [1663, 5, 16_384, 7].entries()) relation.writeUInt32LE(value, 4 * i);
    headers.push(relation);
  }
  if (main.length > 255) {
    const long = Buffer.alloc(5, 254);
    long.writeUInt32LE(main.length, 1);
    headers.push(long);
  } else if (main.length > 0) headers.push(Buffer.of(255, main.length));
  return Buffer.concat([...headers, image ?? EMPTY, data ?? EMPTY, main]);
}

const EMPTY = Buffer.alloc(0);

/** XLOG_NOOP, of whose content nothing is printed. @param total - its bytes, at least 26. */
export function filler(total: number): WrittenRecord {
  const main = total - RECORD_HEADER - (total - RECORD_HEADER - 2 > 255 ? 5 : 2);
  return { rmid: 0, info: 0x20, main: Buffer.alloc(main, "secret filler ") };
}

/** A message of pg_logical_emit_message: of 17, its prefix is readable and its text is not. */
export function message(prefix: string, text: Buffer): WrittenRecord {
  const head = Buffer.alloc(24);
  head.writeBigUInt64LE(BigInt(prefix.length + 1), 8);
  head.writeBigUInt64LE(BigInt(text.length), 16);
  return { rmid: 21, main: Buffer.concat([head, Buffer.from(`${prefix}\0`), text]) };
}

/** A commit with invalidation messages, whose readable bytes alternate with secret ones. */
export function commitWithMessages(count: number): WrittenRecord {
  const main = Buffer.alloc(8 + 4 + 4 + 16 * count, 0xee);
  main.writeBigInt64LE(848_483_822_047_670n, 0);
  main.writeUInt32LE(1 << 3, 8);
  main.writeUInt32LE(count, 12);
  for (let i = 0; i < count; i++) {
    main.writeInt8(i % 2 === 0 ? -2 : 7, 16 + 16 * i);
    main.writeUInt32LE(50_000 + i, 16 + 16 * i + 8);
  }
  return { rmid: 1, info: 0x80, main };
}
