/**
 * WAL for a cut-down cluster of 17: segments of 1 MB with records that cross their ends, and what else lies in pg_wal.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { filler, message, SEGMENT, WalWriter } from "./written-wal.ts";

/** In pg_control of 17: xlog_seg_size, and where its CRC is. */
const SEGMENT_SIZE_AT = 228;
const CRC_AT = 288;

/** Nobody may read it without a key. */
export const SECRET = "no one but the owner reads this";

/** Says in a pg_control of 17 that segments have 1 MB. */
export function withSmallSegments(control: Buffer): Buffer {
  const changed = Buffer.from(control);
  changed.writeUInt32LE(SEGMENT, SEGMENT_SIZE_AT);
  changed.writeUInt32LE(crc32c(changed, 0, CRC_AT), CRC_AT);
  return changed;
}

/** Four segments: the record at the end of the first goes on in the second, one goes through the third. */
export function writeSegments(system: bigint): WalWriter {
  const writer = new WalWriter(17, { system });
  writer.append(message("tde", Buffer.from(SECRET)));
  writer.fillTo(1000);
  writer.append(message("crosses", Buffer.alloc(3000, SECRET)));
  writer.fillTo(24 + 8);
  writer.append(message("through", Buffer.alloc(SEGMENT + 5000, SECRET)));
  writer.append(filler(500));
  return writer;
}

/**
 * Fills pg_wal of a small cluster of 17.
 * @returns the writer, which can go on; and the paths of its segments.
 */
export function addSegments(datadir: string): { writer: WalWriter; paths: string[] } {
  const controlPath = join(datadir, "global/pg_control");
  const control = withSmallSegments(readFileSync(controlPath));
  writeFileSync(controlPath, control);
  const writer = writeSegments(control.readBigUInt64LE(0));
  // What an earlier use of the file left behind the end of WAL.
  writer.leave(3 * SEGMENT + 500_000, Buffer.alloc(20_000, SECRET));
  return { writer, paths: saveSegments(datadir, writer) };
}

/** @returns their paths, relative to the data directory. */
export function saveSegments(datadir: string, writer: WalWriter): string[] {
  return writer.segments.map((bytes, i) => {
    const path = `pg_wal/${writer.name(i)}`;
    writeFileSync(join(datadir, path), bytes, { mode: 0o600 });
    return path;
  });
}
