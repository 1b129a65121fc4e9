/** Made-up WAL files for what never looks at records: a first page as PostgreSQL 17 writes it, and bytes behind it. */
import { randomFrom } from "./crash-nodes.ts";

export const CLUSTER = 7391234567890123456n;
export const SEGMENT_BYTES: number = 2 ** 20;
/** Stands in every made-up segment: nothing sealed may hold it. */
export const MARKER = "a row of the table of customers";

export interface SegmentShape {
  readonly systemIdentifier?: bigint;
  readonly timeline?: number;
  /** Counted in segments from LSN 0 on. */
  readonly number?: number;
  readonly seed?: number;
  /** How much of it does not shrink. */
  readonly noiseBytes?: number;
}

export function walSegmentName({ timeline = 1, number = 1 }: SegmentShape = {}): string {
  const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");
  const perLog = 2 ** 32 / SEGMENT_BYTES;
  return hex(timeline) + hex(Math.floor(number / perLog)) + hex(number % perLog);
}

/** A segment of 1 MB. */
export function walSegment(shape: SegmentShape = {}): Buffer {
  const { systemIdentifier = CLUSTER, timeline = 1, number = 1, seed = 1 } = shape;
  const { noiseBytes = SEGMENT_BYTES / 2 } = shape;
  const bytes = Buffer.alloc(SEGMENT_BYTES, `${MARKER} ${seed}. `);
  const random = randomFrom(seed);
  for (let at = SEGMENT_BYTES - noiseBytes; at < SEGMENT_BYTES; at += 4) {
    bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  }
  bytes.fill(0, 0, 40);
  bytes.writeUInt16LE(0xd116, 0);
  bytes.writeUInt16LE(0x02, 2);
  bytes.writeUInt32LE(timeline, 4);
  bytes.writeBigUInt64LE(BigInt(number * SEGMENT_BYTES), 8);
  bytes.writeBigUInt64LE(systemIdentifier, 24);
  bytes.writeUInt32LE(SEGMENT_BYTES, 32);
  bytes.writeUInt32LE(8192, 36);
  return bytes;
}
