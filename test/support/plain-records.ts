/**
 * The records of plain WAL with the place of each of their bytes, found without the product's own reader: a second
 * opinion on where the content of a record is. Sources: access/xlog_internal.h, access/xlogrecord.h.
 */
import { crc32c } from "../../src/postgres/crc32c.ts";

export interface PlainRecord {
  readonly rmid: number;
  /** xl_info & 0xF0. */
  readonly info: number;
  /** All of it, its header included. */
  readonly bytes: Buffer;
  /** Where each of its bytes is in the run; then those of the padding behind it. */
  readonly places: Int32Array;
  /** Where its headers end, in `bytes`. */
  readonly content: number;
  /** By block id: [start, end) of what it carries, in `bytes`. */
  readonly images: ReadonlyMap<number, Range>;
  readonly data: ReadonlyMap<number, Range>;
  readonly main: Range;
}

export type Range = readonly [start: number, end: number];

const PAGE = 8192;
const LONG_HEADER = 40;
const SHORT_HEADER = 24;
const CONTINUES = 0x01;
const RECORD_HEADER = 24;
const LINK_AT = 8;
const LINK_END = 16;
const CRC_AT = 20;
const XLOG = 0;
const XLOG_SWITCH = 0x40;

export interface PlainWal {
  /** Each record that is whole and whose CRC holds, up to where WAL ends. */
  readonly records: readonly PlainRecord[];
  /**
   * Where headers begin of records that do not hold, but stand where the next one is expected: with the right link to
   * the one before, or written over after a crash, as the page behind them says.
   */
  readonly openHeaders: readonly number[];
}

/** @param run - segments of one timeline that follow each other, joined. */
export function plainWal(run: Buffer, major: number, segmentBytes: number): PlainWal {
  return new RunReader(run, major, segmentBytes).read();
}

export function plainRecords(
  run: Buffer,
  major: number,
  segmentBytes: number,
): readonly PlainRecord[] {
  return plainWal(run, major, segmentBytes).records;
}

class RunReader {
  readonly #run: Buffer;
  readonly #major: number;
  readonly #segmentBytes: number;
  readonly #firstLsn: bigint;

  constructor(run: Buffer, major: number, segmentBytes: number) {
    this.#run = run;
    this.#major = major;
    this.#segmentBytes = segmentBytes;
    this.#firstLsn = run.readBigUInt64LE(8);
  }

  read(): PlainWal {
    const records: PlainRecord[] = [];
    const openHeaders: number[] = [];
    let previous: bigint | undefined;
    for (let at = this.#behindRest(0); at !== undefined && at < this.#run.length;) {
      const found = this.#recordAt(at);
      if (found === undefined) {
        if (previous !== undefined && this.#isLinked(at, previous)) openHeaders.push(at);
        break;
      }
      if (typeof found === "number") {
        openHeaders.push(at);
        at = this.#behindRest(found);
        previous = undefined;
        continue;
      }
      const { bytes, places } = found;
      if (previous !== undefined && bytes.readBigUInt64LE(8) !== previous) break;
      const record = takeApart(bytes, places, this.#major);
      records.push(record);
      previous = this.#firstLsn + BigInt(at);
      const end: number = (places.at(-1) ?? 0) + 1;
      const isSwitch = record.rmid === XLOG && record.info === XLOG_SWITCH;
      at = this.#atRecord(isSwitch ? roundUp(end, this.#segmentBytes) : end);
    }
    return { records, openHeaders };
  }

  /** Whether a header could stand there, as far as it is on the page, with this link. */
  #isLinked(at: number, previous: bigint): boolean {
    if (!this.#isPageOfRun(at - (at % PAGE)) || (at % PAGE) + LINK_END > PAGE) return false;
    const isRecord = this.#run.readUInt32LE(at) >= RECORD_HEADER;
    return isRecord && this.#run.readBigUInt64LE(at + LINK_AT) === previous;
  }

  /** Behind a page's header and the rest of a record that began on another page. */
  #behindRest(page: number): number | undefined {
    if (!this.#isPageOfRun(page)) return undefined;
    let rest = this.#continues(page) ? this.#run.readUInt32LE(page + 16) : 0;
    let at = page + this.#header(page);
    while (rest > 0) {
      const room = PAGE - (at % PAGE);
      if (rest < room) return this.#atRecord(roundUp(at + rest, 8));
      rest -= room;
      at += room;
      if (!this.#isPageOfRun(at)) return undefined;
      at += this.#header(at);
    }
    return at;
  }

  #atRecord(at: number): number {
    return at % PAGE === 0 && at < this.#run.length ? at + this.#header(at) : at;
  }

  /** @returns the page that says that the record was written over; undefined where no valid record is. */
  #recordAt(start: number): { bytes: Buffer; places: Int32Array } | number | undefined {
    const total = this.#run.readUInt32LE(start);
    if (total < RECORD_HEADER) return undefined;
    const bytes = Buffer.alloc(total);
    const places = new Int32Array(roundUp(total, 8));
    for (let done = 0, at = start; done < places.length; done++, at++) {
      if (at % PAGE === 0 && done > 0) {
        if (!this.#isPageOfRun(at)) return undefined;
        if (!this.#continues(at))
          return (this.#info(at) & this.#overwritten()) === 0 ? undefined : at;
        at += this.#header(at);
      }
      places[done] = at;
      if (done < total) bytes[done] = this.#run[at] ?? 0;
    }
    const crc = crc32c(bytes, 0, CRC_AT, crc32c(bytes, RECORD_HEADER));
    return crc === bytes.readUInt32LE(CRC_AT) ? { bytes, places } : undefined;
  }

  #isPageOfRun(page: number): boolean {
    if (page >= this.#run.length) return false;
    return this.#run.readBigUInt64LE(page + 8) === this.#firstLsn + BigInt(page);
  }

  #info(page: number): number {
    return this.#run.readUInt16LE(page + 2);
  }

  #continues(page: number): boolean {
    return (this.#info(page) & CONTINUES) !== 0;
  }

  /** XLP_FIRST_IS_OVERWRITE_CONTRECORD. */
  #overwritten(): number {
    return this.#major < 19 ? 0x08 : 0x04;
  }

  #header(page: number): number {
    return page % this.#segmentBytes === 0 ? LONG_HEADER : SHORT_HEADER;
  }
}

/** DecodeXLogRecord of access/transam/xlogreader.c. @param places - of its bytes and its padding. */
export function takeApart(bytes: Buffer, places: Int32Array, major: number): PlainRecord {
  const blocks: { id: number; imageBytes: number; dataBytes: number }[] = [];
  let mainBytes = 0;
  let at = RECORD_HEADER;
  while (
    bytes.length - at >
    blocks.reduce((sum, b) => sum + b.imageBytes + b.dataBytes, mainBytes)
  ) {
    const id = bytes.readUInt8(at);
    if (id === 255) {
      mainBytes = bytes.readUInt8(at + 1);
      at += 2;
      break;
    }
    if (id === 254) {
      mainBytes = bytes.readUInt32LE(at + 1);
      at += 5;
      break;
    }
    if (id === 253) at += 3;
    else if (id === 252) at += 5;
    else {
      const flags = bytes.readUInt8(at + 1);
      const dataBytes = bytes.readUInt16LE(at + 2);
      at += 4;
      let imageBytes = 0;
      if ((flags & 0x10) !== 0) {
        imageBytes = bytes.readUInt16LE(at);
        const image = bytes.readUInt8(at + 4);
        const isCompressed = (image & (major < 15 ? 0x02 : 0x1c)) !== 0;
        at += 5 + (isCompressed && (image & 0x01) !== 0 ? 2 : 0);
      }
      at += (flags & 0x80) === 0 ? 16 : 4;
      blocks.push({ id, imageBytes, dataBytes });
    }
  }
  const content = at;
  const images = new Map<number, Range>();
  const data = new Map<number, Range>();
  for (const { id, imageBytes, dataBytes } of blocks) {
    if (imageBytes > 0) images.set(id, [at, at + imageBytes]);
    if (dataBytes > 0) data.set(id, [at + imageBytes, at + imageBytes + dataBytes]);
    at += imageBytes + dataBytes;
  }
  const rmid = bytes.readUInt8(17);
  const info = bytes.readUInt8(16) & 0xf0;
  return { rmid, info, bytes, places, content, images, data, main: [at, at + mainBytes] };
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
