/**
 * Invalidation messages, with which records of several resource managers end. Sources: storage/sinval.h,
 * standbydesc.c (standby_desc_invalidations).
 */
import type { Major } from "../../postgres/version.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { writeElements, type WriteElement } from "./lists.ts";

/** SharedInvalidationMessage: its id as an int8, then by id. */
export const INVALIDATION_BYTES = 16;

/** Messages of id -6, about what a subscriber has cached, are known from here on. */
const RELSYNC_SINCE: Major = 18;

/** Stands before the messages, where there are any and the init file of the relation cache is invalid too. */
export function writeInitFile(out: TextBuffer, databaseOid: number, tablespaceOid: number): void {
  out.text("; relcache init file inval dbid ");
  out.unsigned(databaseOid);
  out.text(" tsid ");
  out.unsigned(tablespaceOid);
}

/** @param count - signed; nothing is written for 0 and less. */
export function writeInvalidations(
  out: TextBuffer,
  bytes: Buffer,
  start: number,
  end: number,
  count: number,
  format: WalFormat,
): void {
  if (count <= 0) return;
  out.text("; inval msgs:");
  const write = format.major >= RELSYNC_SINCE ? writeMessage : writeMessageBeforeRelsync;
  writeElements(out, bytes, start, end, count, INVALIDATION_BYTES, write);
}

const writeMessage: WriteElement = (out, bytes, at) => {
  const id = bytes.readInt8(at);
  if (id === -6) writeNumbered(out, " relsync ", bytes.readUInt32LE(at + 8));
  else writeMessageBeforeRelsync(out, bytes, at);
};

const writeMessageBeforeRelsync: WriteElement = (out, bytes, at) => {
  const id = bytes.readInt8(at);
  if (id >= 0) return writeNumbered(out, " catcache ", id);
  switch (id) {
    case -1:
      return writeNumbered(out, " catalog ", bytes.readUInt32LE(at + 8));
    case -2:
      return writeNumbered(out, " relcache ", bytes.readUInt32LE(at + 8));
    case -3:
      return out.text(" smgr");
    case -4:
      return writeNumbered(out, " relmap db ", bytes.readUInt32LE(at + 4));
    case -5:
      return writeNumbered(out, " snapshot ", bytes.readUInt32LE(at + 8));
    default:
      out.text(" unrecognized id ");
      out.signed(id);
  }
};

function writeNumbered(out: TextBuffer, what: string, value: number): void {
  out.text(what);
  out.unsigned(value);
}
