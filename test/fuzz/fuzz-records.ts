/**
 * One round: records of real servers, most of them damaged, with the CRC mended so that they reach the code that
 * describes them, laid out as a segment, which is then damaged in a few places itself; all of it read and printed in
 * every form. Throws where a reader would crash, loop, or print out of proportion.
 */
import assert from "node:assert/strict";
import { createWalRecord, type WalRecord } from "../../src/wal/record.ts";
import { decodeRecord, blockAt } from "../../src/wal/decode-record.ts";
import type { DecodeZstd } from "../../src/compression/zstd.ts";
import { restoreImage } from "../../src/wal/full-page-image.ts";
import { Outcome } from "../../src/wal/read-outcome.ts";
import { WAL_PAGE_BYTES } from "../../src/wal/page-header.ts";
import { WalReader } from "../../src/wal/reader.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES, XLOG_SWITCH } from "../../src/wal/record-header.ts";
import { matches } from "../../src/wal/record-filter.ts";
import { RecordJson } from "../../src/wal/record-json.ts";
import { RecordText } from "../../src/wal/record-text.ts";
import type { SegmentBytes } from "../../src/wal/segment-source.ts";
import { Statistics, statisticsText } from "../../src/wal/statistics.ts";
import { TextBuffer } from "../../src/wal/text-buffer.ts";
import { type WalFormat, walFormatOf } from "../../src/wal/wal-format.ts";
import { SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import { GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
import { writeWal } from "../support/wal-writer.ts";
import { damage, flipBit } from "./mutate.ts";
import { type Random, seededRandom } from "./random.ts";

export interface RecordCounts {
  /** Damaged records that were laid out. */
  mutated: number;
  /** Of those, what was described in every form, and what a reader refused, by an end of its reading. */
  described: number;
  refused: number;
}

const RECORDS_PER_ROUND = 500;
const SEGMENT_BYTES = 2 ** 20;
const START_HIGH = 1;
/** A round's damaged places that are in headers, or outside of what a CRC covers. */
const BREAKS = 4;
/** No byte of a record becomes more text than this, in all forms together. */
const TEXT_PER_BYTE = 200;
const TEXT_PER_RECORD = 20_000;

interface Seed {
  readonly bytes: Buffer;
  /** Where the headers of its blocks end. */
  readonly dataStart: number;
}

const seeds = new Map<number, readonly Seed[]>();

export function fuzzRecords(seed: number, decodeZstd: DecodeZstd): RecordCounts {
  const random = seededRandom(seed);
  const source = random.pick(GOLDEN_MAJORS);
  // Now and then the records are read as those of another major.
  const format = walFormatOf(random.once(8) ? random.pick(SUPPORTED_MAJORS) : source);
  const pool = seedsOf(source);
  const isMutated: boolean[] = [];
  const records = Array.from({ length: RECORDS_PER_ROUND }, () => {
    isMutated.push(!random.once(8));
    return isMutated.at(-1) === true ? mutated(pool, random) : random.pick(pool).bytes;
  });
  const start = BigInt(START_HIGH) << 32n;
  const { bytes, offsets } = writeWal(records, { format, segmentBytes: SEGMENT_BYTES, start });
  for (let i = 0; i < BREAKS; i++) {
    const offset = offsets[random.below(offsets.length)] ?? 0;
    // Anywhere, or where lengths and block headers are.
    flipBit(bytes, random.once(2) ? random.below(bytes.length) : offset + random.below(60), random);
  }
  const segment = bytes.subarray(0, random.once(4) ? random.below(bytes.length) : bytes.length);
  const counts = { mutated: isMutated.filter(Boolean).length, described: 0, refused: 0 };
  readAll(segment, offsets, format, decodeZstd, (index, described) => {
    if (isMutated[index] !== true) return;
    if (described) counts.described++;
    else counts.refused++;
  });
  return counts;
}

/** Damage to what a record holds; now and then to its headers, after which it is seldom still one. */
function mutated(pool: readonly Seed[], random: Random): Buffer {
  const original = random.pick(pool);
  let bytes = Buffer.from(original.bytes);
  if (random.once(300)) damage(bytes, RECORD_HEADER_BYTES, random);
  else damage(bytes, Math.min(original.dataStart, bytes.length - 1), random);
  if (random.once(4)) bytes[RECORD_HEADER.info] = random.below(256);
  if (random.once(16)) bytes[RECORD_HEADER.rmid] = random.below(22);
  if (random.once(200)) bytes[RECORD_HEADER.rmid] = random.below(256);
  if (random.once(600)) {
    bytes = bytes.subarray(0, RECORD_HEADER_BYTES + random.below(bytes.length));
    bytes.writeUInt32LE(bytes.length, RECORD_HEADER.totalLength);
  }
  if (random.once(2)) damage(bytes, Math.min(original.dataStart, bytes.length - 1), random);
  if (
    bytes[RECORD_HEADER.rmid] === 0 &&
    ((bytes[RECORD_HEADER.info] ?? 0) & 0xf0) === XLOG_SWITCH
  ) {
    // What follows would not be read.
    bytes[RECORD_HEADER.info] = 0;
  }
  return bytes;
}

/** @param seen - called with a record's index once it was described or ended the reading. */
function readAll(
  segment: Buffer,
  offsets: readonly number[],
  format: WalFormat,
  decodeZstd: DecodeZstd,
  seen: (index: number, described: boolean) => void,
): void {
  const indexOf = new Map(offsets.map((offset, index) => [offset, index]));
  const printer = new EveryForm(format, decodeZstd);
  let from = 0;
  while (from < segment.length) {
    const reader = readerOf(segment, format);
    let outcome = reader.find(START_HIGH, from);
    let last = -1;
    if (outcome === Outcome.record) outcome = reader.next();
    for (; outcome === Outcome.record; outcome = reader.next()) {
      const { lsnLow, totalLength } = reader.record;
      assert.ok(lsnLow > last, "reading went back");
      assert.ok(lsnLow + totalLength <= segment.length, "a record is longer than its segment");
      last = lsnLow;
      printer.print(reader.record);
      const index = indexOf.get(lsnLow);
      if (index !== undefined) seen(index, true);
    }
    // Where reading ended it begins again behind the next page's beginning.
    const ended = offsets.find((offset) => offset > Math.max(last, from - 1));
    if (ended === undefined) break;
    const index = indexOf.get(ended);
    if (index !== undefined) seen(index, false);
    from = (Math.floor(ended / WAL_PAGE_BYTES) + 1) * WAL_PAGE_BYTES;
  }
  printer.printStatistics();
}

function readerOf(segment: Buffer, format: WalFormat): WalReader {
  const bytes: SegmentBytes = {
    read: (buffer, offset, length, position) => {
      const part = segment.subarray(position, position + length);
      buffer.set(part, offset);
      return part.length;
    },
  };
  const nothing: SegmentBytes = { read: () => 0 };
  return new WalReader({
    format,
    segmentBytes: SEGMENT_BYTES,
    timeline: 1,
    source: { segment: (high, low) => (high === START_HIGH && low === 0 ? bytes : nothing) },
  });
}

/** Prints a record in each of the forms that there are. */
class EveryForm {
  readonly #format: WalFormat;
  readonly #decodeZstd: DecodeZstd;
  readonly #out: TextBuffer;
  readonly #writers: readonly (RecordText | RecordJson)[];
  readonly #json: RecordJson;
  readonly #statistics = new Statistics();
  #added = 0;

  constructor(format: WalFormat, decodeZstd: DecodeZstd) {
    this.#format = format;
    this.#decodeZstd = decodeZstd;
    this.#out = new TextBuffer(format.lsnLowDigits);
    this.#writers = [new RecordText(format, false), new RecordText(format, true)];
    this.#json = new RecordJson(format);
  }

  /** The types of all records together. */
  printStatistics(): void {
    const text = statisticsText(this.#statistics, this.#format, { byType: true, range: RANGE });
    const types = this.#statistics.types();
    const counted = types.reduce((sum, { count }) => sum + count, 0);
    assert.equal(counted, this.#added);
    assert.ok(text.split("\n").length > types.length);
  }

  print(record: WalRecord): void {
    const out = this.#out;
    out.reset();
    for (const writer of this.#writers) writer.write(out, record);
    const before = out.length;
    this.#json.write(out, record);
    const line = out.bytes.toString("utf8", before, out.length);
    assert.equal((JSON.parse(line) as { xid: number }).xid, record.xid);
    const most = TEXT_PER_RECORD + TEXT_PER_BYTE * record.totalLength;
    assert.ok(out.length < most, `${out.length} bytes of text of ${record.totalLength}`);
    this.#statistics.add(record);
    this.#added++;
    matches(record, { blockNumber: 7, fork: 1, fullPage: true });
    for (let i = 0; i <= record.maxBlockId; i++) {
      const block = blockAt(record, i);
      if (!block.present || !block.hasImage) continue;
      const page = restoreImage(record, block, i, this.#format, this.#decodeZstd);
      assert.ok(typeof page === "string" || page.length === WAL_PAGE_BYTES);
    }
  }
}

/** Any: statistics are not printed without one. */
const RANGE = { startHigh: 0, startLow: 0, endHigh: 0, endLow: 1 };

function seedsOf(major: (typeof GOLDEN_MAJORS)[number]): readonly Seed[] {
  const known = seeds.get(major);
  if (known !== undefined) return known;
  const made = goldenRecords(major).map(({ bytes }) => ({
    bytes,
    dataStart: dataStartOf(bytes, walFormatOf(major)),
  }));
  seeds.set(major, made);
  return made;
}

function dataStartOf(bytes: Buffer, format: WalFormat): number {
  const record = createWalRecord();
  record.bytes = bytes;
  record.totalLength = bytes.length;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assert.equal(decodeRecord(record, view, format), undefined);
  const blocks = record.blocks.slice(0, record.maxBlockId + 1).filter(({ present }) => present);
  const data = blocks.reduce((sum, block) => sum + block.imageLength + block.dataLength, 0);
  return bytes.length - record.mainLength - data;
}
