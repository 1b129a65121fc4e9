/**
 * WAL read in chunks, each by itself, prints what one reader prints; and so does counting whole runs of records beside
 * counting one after the other. Chunks are a page each here, so that records end and begin everywhere in them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChunkPrinter, type ChunkContext } from "../../src/engine/waldump/chunk.ts";
import { dialectOf } from "../../src/engine/waldump/dialect.ts";
import { dump } from "../../src/engine/waldump/dump.ts";
import type { ChunkRunner } from "../../src/engine/waldump/print-chunks.ts";
import type { WaldumpRequest } from "../../src/engine/waldump/request.ts";
import type { FetchingSource } from "../../src/engine/waldump/source.ts";
import { WaldumpError } from "../../src/engine/waldump/waldump-error.ts";
import { inMemory } from "../../src/engine/waldump/segment-bytes.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { WAL_PAGE_BYTES } from "../../src/wal/page-header.ts";
import { RECORD_HEADER, RECORD_HEADER_BYTES } from "../../src/wal/record-header.ts";
import { walFormatOf, type WalFormat } from "../../src/wal/wal-format.ts";
import { type GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
import { writeWal } from "../support/wal-writer.ts";

const SEGMENT_BYTES = 2 ** 20;
/** The last segment below a change of the LSN's upper half. */
const START = 0x1_0000_0000n - BigInt(SEGMENT_BYTES);
const SWITCH_INFO = 0x40;

const REQUEST: WaldumpRequest = {
  path: undefined,
  segments: [],
  start: undefined,
  end: undefined,
  timeline: 1,
  filter: {},
  limit: 0,
  follow: false,
  quiet: false,
  statistics: "none",
  details: false,
  json: false,
  saveImages: undefined,
  jobs: 1,
  timeZone: { name: "", file: undefined },
};
const TEXT = REQUEST;
const STATISTICS: WaldumpRequest = { ...REQUEST, statistics: "record" };
/** Every record passes it, and every one has to be looked at. */
const STATISTICS_BY_ONE: WaldumpRequest = {
  ...STATISTICS,
  filter: { rmgrs: new Set(Array.from({ length: 256 }, (_, rmid) => rmid)) },
};

/** A record that goes over many pages, more than a reader has set memory aside for. */
const LONG_RECORD = recordWithData(Buffer.alloc(100_000, "long"));

/** The first and the last, and where messages and formats changed between them. */
for (const major of [13, 15, 19] as const) {
  test(`WAL of ${major} in chunks prints what one reader prints, damaged anywhere or not`, async () => {
    const format = walFormatOf(major);
    const { bytes, offsets } = writeWal(recordsOf(major), {
      format,
      segmentBytes: SEGMENT_BYTES,
      start: START,
    });
    assert.ok(bytes.length > 2 * SEGMENT_BYTES && offsets.length > 1000);
    const whole = await bothWays(bytes, format, TEXT);
    assert.equal(whole.output.split("\n").length - 1, offsets.length);
    assert.ok((await bothWays(bytes, format, STATISTICS)).output.includes(` ${offsets.length} `));

    let ended = 0;
    for (let i = 1; i <= 20; i++) {
      const damaged = Buffer.from(bytes);
      // Spread over the records, their headers, and those of pages.
      const at =
        i % 5 === 0 ? (i * WAL_PAGE_BYTES) / 5 + (i % 24) : Math.floor((bytes.length * i) / 21);
      damaged[at] = damaged.readUInt8(at) ^ (1 << (i % 8));
      const { message } = await bothWays(damaged, format, i % 2 === 0 ? TEXT : STATISTICS);
      if (message !== whole.message) ended++;
    }
    assert.ok(ended > 12, `${ended} ended before their time`);
    for (const length of [SEGMENT_BYTES, SEGMENT_BYTES + 5 * WAL_PAGE_BYTES, 300_001]) {
      await bothWays(bytes.subarray(0, length), format, TEXT);
    }
  });
}

test("chunks behind a switched segment go on with the next one", async () => {
  const format = walFormatOf(17);
  const records = recordsOf(17).slice(0, 300);
  const switchRecord = Buffer.alloc(RECORD_HEADER_BYTES);
  switchRecord.writeUInt32LE(RECORD_HEADER_BYTES, RECORD_HEADER.totalLength);
  switchRecord.writeUInt8(SWITCH_INFO, RECORD_HEADER.info);
  const layout = { format, segmentBytes: SEGMENT_BYTES };
  const first = writeWal([...records, switchRecord], { ...layout, start: START });
  const switched = START + BigInt(first.offsets.at(-1) ?? 0);
  const second = writeWal(records, { ...layout, start: START + BigInt(SEGMENT_BYTES) });
  relink(second.bytes, second.offsets[0] ?? 0, switched);
  const rest = Buffer.alloc(SEGMENT_BYTES - first.bytes.length);
  const { output } = await bothWays(Buffer.concat([first.bytes, rest, second.bytes]), format, TEXT);
  assert.equal(output.split("\n").length - 1, 2 * records.length + 1);
});

test("records whose own headers lie are counted in runs as far as one by one", async () => {
  const format = walFormatOf(17);
  const records = recordsOf(17);
  const counts = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const changed = [...records];
    // The CRC is made to fit again: it is the decoding that has to find fault.
    const index = 3 + ((i * 37) % (records.length - 10));
    const record = Buffer.from(records[index] ?? assert.fail());
    const at = RECORD_HEADER_BYTES + (i % Math.min(40, record.length - RECORD_HEADER_BYTES));
    record[at] = record.readUInt8(at) ^ (1 << ((i >>> 3) % 8));
    changed[index] = record;
    const { bytes } = writeWal(changed.slice(0, index + 20), {
      format,
      segmentBytes: SEGMENT_BYTES,
      start: START,
    });
    const inRuns = await runOf(bytes, format, STATISTICS);
    assert.deepEqual(inRuns, await runOf(bytes, format, STATISTICS_BY_ONE), `change ${i}`);
    counts.add(inRuns.message);
  }
  assert.ok(counts.size > 15);
});

/** Without switches: what follows them is not where the writer puts it. */
function recordsOf(major: (typeof GOLDEN_MAJORS)[number]): Buffer[] {
  const golden = goldenRecords(major)
    .map(({ bytes }) => bytes)
    .filter((bytes) => bytes.readUInt8(RECORD_HEADER.rmid) !== 0);
  const times = Math.ceil((2.1 * SEGMENT_BYTES) / Buffer.concat(golden).length);
  return Array.from({ length: times }, () => [...golden, LONG_RECORD]).flat();
}

function recordWithData(data: Buffer): Buffer {
  const header = Buffer.alloc(RECORD_HEADER_BYTES + 5);
  header.writeUInt32LE(header.length + data.length, RECORD_HEADER.totalLength);
  header.writeUInt8(20, RECORD_HEADER.rmid); // Generic
  header.writeUInt8(254, RECORD_HEADER_BYTES); // XLR_BLOCK_ID_DATA_LONG
  header.writeUInt32LE(data.length, RECORD_HEADER_BYTES + 1);
  return Buffer.concat([header, data]);
}

function relink(bytes: Buffer, at: number, prev: bigint): void {
  const record = bytes.subarray(at, at + bytes.readUInt32LE(at));
  record.writeBigUInt64LE(prev, RECORD_HEADER.prev);
  const crc = crc32c(record, 0, RECORD_HEADER.crc, crc32c(record, RECORD_HEADER_BYTES));
  record.writeUInt32LE(crc, RECORD_HEADER.crc);
}

interface Run {
  readonly output: string;
  readonly message: string;
}

/** By one reader and by chunks; both are the same. */
async function bothWays(bytes: Buffer, format: WalFormat, request: WaldumpRequest): Promise<Run> {
  const alone = await runOf(bytes, format, request);
  const inChunks = await runOf(bytes, format, request, chunkRunner);
  assert.equal(inChunks.message, alone.message);
  assert.ok(inChunks.output === alone.output, `other output before "${alone.message}"`);
  return alone;
}

async function runOf(
  bytes: Buffer,
  format: WalFormat,
  request: WaldumpRequest,
  runner?: (context: ChunkContext, bytes: Buffer) => ChunkRunner,
): Promise<Run> {
  const written: Buffer[] = [];
  const place = { format, segmentBytes: SEGMENT_BYTES, timeline: 1, end: undefined };
  try {
    await dump(
      request,
      {
        ...place,
        dialect: dialectOf(format.major),
        start: halves(START),
        source: sourceOf(bytes),
        startThreads: runner && (async () => runner({ ...place, request }, bytes)),
      },
      undefined,
      {
        write: (part) => written.push(Buffer.from(part)) > 0,
        note: () => assert.fail("nothing is skipped"),
        stopped: () => false,
      },
    );
  } catch (error) {
    assert.ok(error instanceof WaldumpError, String(error));
    return { output: Buffer.concat(written).toString("latin1"), message: error.message };
  }
  return { output: Buffer.concat(written).toString("latin1"), message: "" };
}

/** In this thread, several chunks under way as a thread has them, one read after the other. */
function chunkRunner(context: ChunkContext, bytes: Buffer): ChunkRunner {
  const printer = new ChunkPrinter(context, sourceOf(bytes));
  let last: Promise<unknown> = Promise.resolve();
  return {
    width: 3,
    chunkBytes: WAL_PAGE_BYTES,
    run: (task) => {
      const result = last.then(() => printer.print(task));
      last = result;
      return result;
    },
    close: async () => {},
  };
}

function sourceOf(bytes: Buffer): FetchingSource {
  let fetched = -1n;
  const offsetOf = (high: number, low: number): bigint =>
    ((BigInt(high) << 32n) | BigInt(low)) - START;
  return {
    segment(high, low) {
      const offset = offsetOf(high, low);
      if (offset !== fetched) return undefined;
      return inMemory(bytes.subarray(Number(offset), Number(offset) + SEGMENT_BYTES));
    },
    fetch: async (high, low) => {
      fetched = offsetOf(high, low);
      if (fetched >= bytes.length) throw new WaldumpError(`no segment ${fetched}`);
      return true;
    },
    close: async () => {},
  };
}

function halves(lsn: bigint): { high: number; low: number } {
  return { high: Number(lsn >> 32n), low: Number(lsn & 0xffffffffn) };
}
