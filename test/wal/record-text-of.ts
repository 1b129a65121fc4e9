/** A record as bytes, described. */
import { decodeRecord } from "../../src/wal/decode-record.ts";
import { createWalRecord } from "../../src/wal/record.ts";
import { RecordText } from "../../src/wal/record-text.ts";
import { TextBuffer } from "../../src/wal/text-buffer.ts";
import type { TimeZone } from "../../src/wal/time-zone.ts";
import type { WalFormat } from "../../src/wal/wal-format.ts";

const HEADER_BYTES = 24;

/** What stands after `desc: ` in the line of a record. @param cut - bytes that its main data is short of. */
export function textOf(bytes: Buffer, format: WalFormat, cut = 0): string {
  const record = createWalRecord();
  record.bytes = bytes;
  record.totalLength = bytes.length;
  record.info = bytes.readUInt8(16);
  record.rmid = bytes.readUInt8(17);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const problem = decodeRecord(record, view, format);
  if (problem !== undefined) throw new Error(problem);
  record.mainLength = Math.max(0, record.mainLength - cut);
  const { out, writer } = writerFor(format);
  out.reset();
  writer.write(out, record);
  const line = out.bytes.toString("latin1", 0, out.length);
  return line.slice(line.indexOf(", desc: ") + 8, -1);
}

interface Writer {
  readonly out: TextBuffer;
  readonly writer: RecordText;
}

/** A writer prepares what it prints often, which is not worth it for one record. */
const writers = new Map<WalFormat, Writer>();

function writerFor(format: WalFormat): Writer {
  let found = writers.get(format);
  if (found === undefined) {
    found = { out: new TextBuffer(format.lsnLowDigits), writer: new RecordText(format, false) };
    writers.set(format, found);
  }
  return found;
}

/** A record that names no block. @param main - fewer than 256 bytes, as hexadecimal with spaces. */
export function recordOf(rmid: number, info: number, main: string): Buffer {
  const data = Buffer.from(main.replaceAll(" ", ""), "hex");
  const bytes = Buffer.alloc(HEADER_BYTES + 2 + data.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes[16] = info;
  bytes[17] = rmid;
  bytes[HEADER_BYTES] = 255; // XLR_BLOCK_ID_DATA_SHORT
  bytes[HEADER_BYTES + 1] = data.length;
  data.copy(bytes, HEADER_BYTES + 2);
  return bytes;
}

/** A timestamp in this time zone. @param time - microseconds since 2000. */
export function timestampText(
  time: bigint,
  write: (out: TextBuffer, at: Buffer) => void,
  zone?: TimeZone,
): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(time);
  const out = new TextBuffer(1, zone);
  write(out, bytes);
  return out.bytes.toString("latin1", 0, out.length);
}
