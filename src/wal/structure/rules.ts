/**
 * Readable parts whose length stands in the record itself: texts, arrays, invalidation messages. A length is kept
 * before it is read, so that the encrypted record gives the same one.
 */
import type { Major } from "../../postgres/version.ts";
import { INVALIDATION_BYTES } from "../rmgr/invalidations.ts";
import type { WalFormat } from "../wal-format.ts";
import type { RecordParts } from "./record-parts.ts";

/** Messages of id -6 are known from here on. */
const RELSYNC_SINCE: Major = 18;

/** A count that is kept; 0 where the area ends before it. */
export function keepCount(parts: RecordParts, bytes: Buffer, at: number, end: number): number {
  if (at + 4 > end) return 0;
  parts.keep(at, at + 4);
  return bytes.readUInt32LE(at);
}

/** A text with its NUL. @returns where what follows it begins. */
export function keepText(parts: RecordParts, bytes: Buffer, at: number, end: number): number {
  const nul = at < end ? bytes.indexOf(0, at) : -1;
  const next = nul === -1 || nul >= end ? end : nul + 1;
  parts.keep(at, next);
  return next;
}

/**
 * Invalidation messages: of each its id and the OID that is printed. The other bytes hold hashes of catalog keys and
 * whatever the server's memory held. Source: storage/sinval.h, SharedInvalidationMessage.
 * @returns where what follows them begins.
 */
export function keepInvalidations(
  parts: RecordParts,
  bytes: Buffer,
  at: number,
  end: number,
  count: number,
  format: WalFormat,
): number {
  const next = at + count * INVALIDATION_BYTES;
  for (let message = at; message < next && message < end; message += INVALIDATION_BYTES) {
    parts.keep(message, message + 1);
    switch (bytes.readInt8(message)) {
      case -1: // catalog
      case -2: // relcache
      case -5: // snapshot
        parts.keep(message + 8, message + 12);
        break;
      case -4: // relation map
        parts.keep(message + 4, message + 8);
        break;
      case -6: // relsync
        if (format.major >= RELSYNC_SINCE) parts.keep(message + 8, message + 12);
        break;
    }
  }
  return next;
}
