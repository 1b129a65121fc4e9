/**
 * A record as one line of JSON. The names of its fields are an interface: none changes or goes, further ones may come.
 */
import { blockAt } from "./decode-record.ts";
import { formatHalves } from "./messages.ts";
import { imageBytesOf } from "./record-lengths.ts";
import { INFO_MASK } from "./record-header.ts";
import { compressionOf, FORK_NAMES } from "./record-text.ts";
import type { BlockReference, WalRecord } from "./record.ts";
import { resourceManagersOf } from "./rmgr/index.ts";
import type { ResourceManager } from "./rmgr/rmgr.ts";
import type { Statistics, StatisticsRange } from "./statistics.ts";
import { TextBuffer } from "./text-buffer.ts";
import type { WalFormat } from "./wal-format.ts";

export class RecordJson {
  readonly #format: WalFormat;
  readonly #rmgrs: readonly (ResourceManager | undefined)[];
  readonly #description: TextBuffer;

  constructor(format: WalFormat) {
    this.#format = format;
    this.#rmgrs = resourceManagersOf(format.major);
    this.#description = new TextBuffer(format.lsnLowDigits);
  }

  /** Adds the record's line to `out`. */
  write(out: TextBuffer, record: WalRecord): void {
    const line = Buffer.from(`${JSON.stringify(this.#toJson(record))}\n`);
    out.copy(line, 0, line.length);
  }

  #toJson(record: WalRecord): unknown {
    const format = this.#format;
    const rmgr = this.#rmgrs[record.rmid];
    const info = record.info & ~INFO_MASK;
    this.#description.reset();
    rmgr?.describe(this.#description, record, format);
    const { bytes, length } = this.#description;
    const imageBytes = imageBytesOf(record);
    return {
      lsn: formatHalves(record.lsnHigh, record.lsnLow, LSN_FORMAT),
      prev: formatHalves(record.prevHigh, record.prevLow, LSN_FORMAT),
      end: formatHalves(record.endHigh, record.endLow, LSN_FORMAT),
      rmgr: rmgr?.name ?? "",
      type: rmgr?.identify(info) ?? null,
      info,
      xid: record.xid,
      toplevelXid: record.toplevelXid === 0 ? null : record.toplevelXid,
      origin: record.originId === 0 ? null : record.originId,
      totalBytes: record.totalLength,
      recordBytes: record.totalLength - imageBytes,
      imageBytes,
      mainBytes: record.mainLength,
      ...(record.isEncrypted ? { encrypted: true } : {}),
      description: bytes.toString("utf8", 0, length).trimEnd(),
      blocks: blocksOf(record, format),
    };
  }
}

/** LSNs look alike whatever the major: `%X/%08X`. */
const LSN_FORMAT = { lsnLowDigits: 8 } as const;

function blocksOf(record: WalRecord, format: WalFormat): unknown[] {
  const blocks: unknown[] = [];
  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = blockAt(record, id);
    if (!block.present) continue;
    blocks.push({
      id,
      tablespace: block.tablespaceOid,
      database: block.databaseOid,
      relfilenumber: block.relfilenumber,
      fork: FORK_NAMES[block.fork] ?? String(block.fork),
      block: block.blockNumber,
      dataBytes: block.dataLength,
      image: block.hasImage ? imageOf(block, format) : null,
    });
  }
  return blocks;
}

function imageOf(block: BlockReference, format: WalFormat): unknown {
  return {
    apply: block.applyImage,
    bytes: block.imageLength,
    holeOffset: block.holeOffset,
    holeBytes: block.holeLength,
    compression: compressionOf(block.imageInfo, format.image) ?? null,
  };
}

/** Statistics by type of record as one line of JSON. */
export function statisticsJson(
  statistics: Statistics,
  format: WalFormat,
  range: StatisticsRange | undefined,
): string {
  const rmgrs = resourceManagersOf(format.major);
  const types = statistics.types().map(({ rmid, info, count, recordBytes, imageBytes }) => ({
    rmgr: rmgrs[rmid]?.name ?? "",
    type: rmgrs[rmid]?.identify(info) ?? null,
    info,
    count,
    recordBytes,
    imageBytes,
  }));
  const start = range && formatHalves(range.startHigh, range.startLow, LSN_FORMAT);
  const end = range && formatHalves(range.endHigh, range.endLow, LSN_FORMAT);
  const count = types.reduce((sum, type) => sum + type.count, 0);
  const report = { start: start ?? null, end: end ?? null, count, types };
  return `${JSON.stringify(report)}\n`;
}
