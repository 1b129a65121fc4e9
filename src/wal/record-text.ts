/**
 * A record as pg_waldump prints it: one line, or with details one line more for each block. Source:
 * bin/pg_waldump/pg_waldump.c, XLogDumpDisplayRecord; access/rmgrdesc/xlogdesc.c, XLogRecGetBlockRefInfo.
 */
import { blockAt } from "./decode-record.ts";
import { imageBytesOf } from "./record-lengths.ts";
import { BLOCK_BYTES, INFO_MASK } from "./record-header.ts";
import type { BlockReference, WalRecord } from "./record.ts";
import { resourceManagersOf } from "./rmgr/index.ts";
import type { ResourceManager } from "./rmgr/rmgr.ts";
import { type Literal, literal, type TextBuffer } from "./text-buffer.ts";
import type { ImageBits, WalFormat } from "./wal-format.ts";

export const FORK_NAMES = ["main", "fsm", "vm", "init"] as const;

const NEWLINE = 0x0a;
const SLASH = 0x2f;
const NAME_COLUMNS = 11;
const UNNAMED = literal("");
const TX = literal(", tx: ");
const LSN = literal(", lsn: ");
const PREV = literal(", prev ");
const BLOCK_REFERENCE = literal(", blkref #");
const RELATION = literal(": rel ");
const BLOCK = literal(" blk ");

export class RecordText {
  readonly #format: WalFormat;
  readonly #details: boolean;
  readonly #rmgrs: readonly (ResourceManager | undefined)[];
  /** `rmgr: Heap        len (rec/tot): ` by rmgr id. */
  readonly #beginnings: readonly Literal[];
  /** `, desc: INSERT ` by rmgr id times 256 plus info, of those that occurred. */
  readonly #names: (Literal | undefined)[] = Array.from({ length: 256 * 256 });

  /** @param details - a line for each block, as --bkp-details asks for. */
  constructor(format: WalFormat, details: boolean) {
    this.#format = format;
    this.#details = details;
    this.#rmgrs = resourceManagersOf(format.major);
    this.#beginnings = Array.from(this.#rmgrs, (rmgr) =>
      literal(`rmgr: ${(rmgr?.name ?? "").padEnd(NAME_COLUMNS)} len (rec/tot): `),
    );
  }

  /** Adds the record's text to `out`. Its rmgr is one that the major has: the reader has seen to that. */
  write(out: TextBuffer, record: WalRecord): void {
    const { rmid, totalLength } = record;
    out.literal(this.#beginnings[rmid] ?? UNNAMED);
    out.unsignedRight(totalLength - imageBytesOf(record), 6);
    out.byte(SLASH);
    out.unsignedRight(totalLength, 6);
    out.literal(TX);
    out.unsignedRight(record.xid, 10);
    out.literal(LSN);
    out.lsnPadded(record.lsnHigh, record.lsnLow);
    out.literal(PREV);
    out.lsnPadded(record.prevHigh, record.prevLow);
    const name = rmid * 256 + record.info;
    out.literal((this.#names[name] ??= this.#nameOf(record)));
    this.#rmgrs[rmid]?.describe(out, record, this.#format);
    if (this.#details) this.#writeDetails(out, record);
    else writeBlocks(out, record);
  }

  #nameOf({ rmid, info }: WalRecord): Literal {
    const name = this.#rmgrs[rmid]?.identify(info);
    return literal(`, desc: ${name ?? `UNKNOWN (${(info & ~INFO_MASK).toString(16)})`} `);
  }

  #writeDetails(out: TextBuffer, record: WalRecord): void {
    out.byte(NEWLINE);
    for (let i = 0; i <= record.maxBlockId; i++) {
      const block = blockAt(record, i);
      if (!block.present) continue;
      out.text("\tblkref #");
      out.unsigned(i);
      out.text(": rel ");
      writeRelation(out, block);
      out.text(" fork ");
      writeFork(out, block.fork);
      out.text(" blk ");
      out.unsigned(block.blockNumber);
      if (block.hasImage) this.#writeImage(out, block);
      out.byte(NEWLINE);
    }
  }

  #writeImage(out: TextBuffer, block: BlockReference): void {
    out.text(
      block.applyImage ? " (FPW); hole: offset: " : " (FPW for WAL verification); hole: offset: ",
    );
    out.unsigned(block.holeOffset);
    out.text(", length: ");
    out.unsigned(block.holeLength);
    const { image, namesCompression } = this.#format;
    const method = compressionOf(block.imageInfo, image);
    if (method === undefined) return;
    out.text(", compression saved: ");
    // As an unsigned difference of 32 bits: what compression made longer shows as a very large number.
    out.unsigned((BLOCK_BYTES - block.holeLength - block.imageLength) >>> 0);
    if (!namesCompression) return;
    out.text(", method: ");
    out.text(method);
  }
}

/** How an image is compressed; undefined where it is not. */
export function compressionOf(
  imageInfo: number,
  image: ImageBits,
): "pglz" | "lz4" | "zstd" | undefined {
  if ((imageInfo & image.pglz) !== 0) return "pglz";
  if ((imageInfo & image.lz4) !== 0) return "lz4";
  if ((imageInfo & image.zstd) !== 0) return "zstd";
  return undefined;
}

function writeBlocks(out: TextBuffer, record: WalRecord): void {
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (!block.present) continue;
    out.literal(BLOCK_REFERENCE);
    out.unsigned(i);
    out.literal(RELATION);
    writeRelation(out, block);
    if (block.fork !== 0) {
      out.text(" fork ");
      writeFork(out, block.fork);
    }
    out.literal(BLOCK);
    out.unsigned(block.blockNumber);
    if (block.hasImage) out.text(block.applyImage ? " FPW" : " FPW for WAL verification");
  }
  out.byte(NEWLINE);
}

function writeRelation(out: TextBuffer, block: BlockReference): void {
  out.unsigned(block.tablespaceOid);
  out.byte(SLASH);
  out.unsigned(block.databaseOid);
  out.byte(SLASH);
  out.unsigned(block.relfilenumber);
}

/** By name; a number that no fork has, which only damaged WAL holds, as that number. */
function writeFork(out: TextBuffer, fork: number): void {
  const name = FORK_NAMES[fork];
  if (name === undefined) out.unsigned(fork);
  else out.text(name);
}
