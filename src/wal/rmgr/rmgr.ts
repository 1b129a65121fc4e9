/**
 * A resource manager: the owner of one kind of WAL records, which knows what they are called and what they hold.
 * Source: access/xlog_internal.h, RmgrData (rm_name, rm_desc, rm_identify).
 */
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";

export interface ResourceManager {
  readonly name: string;
  /**
   * Writes what pg_waldump of this major prints after `desc: ` and the record's name. A record that is too short for
   * what it should hold throws nothing and reads nothing beyond its end.
   */
  describe(out: TextBuffer, record: WalRecord, format: WalFormat): void;
  /**
   * What this type of record is called.
   * @param info - xl_info, all eight bits.
   * @returns undefined where the major has no such type.
   */
  identify(info: number): string | undefined;
}
