/** The file of a relation, from the data directory. Source: common/relpath.c, GetRelationPath. */
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";

/** RelFileLocator (RelFileNode up to 15): tablespace, database, relfilenumber. */
export const RELATION_BYTES = 12;

/** DEFAULTTABLESPACE_OID and GLOBALTABLESPACE_OID of catalog/pg_tablespace.dat. */
const DEFAULT_TABLESPACE = 1663;
const GLOBAL_TABLESPACE = 1664;

/** What a fork's file name ends with. Another number, which pg_waldump has no name for, ends with a question mark. */
const FORK_ENDINGS: readonly string[] = ["", "_fsm", "_vm", "_init"];

/** @param at - of a RelFileLocator in `bytes`. */
export function writeRelationPath(
  out: TextBuffer,
  bytes: Buffer,
  at: number,
  fork: number,
  format: WalFormat,
): void {
  const tablespaceOid = bytes.readUInt32LE(at);
  if (tablespaceOid === GLOBAL_TABLESPACE) {
    out.text("global/");
  } else {
    if (tablespaceOid === DEFAULT_TABLESPACE) {
      out.text("base/");
    } else {
      out.text("pg_tblspc/");
      out.unsigned(tablespaceOid);
      out.text(format.tablespaceVersionDirectory);
    }
    out.unsigned(bytes.readUInt32LE(at + 4));
    out.text("/");
  }
  out.unsigned(bytes.readUInt32LE(at + 8));
  out.text(FORK_ENDINGS[fork] ?? "_?");
}
