/**
 * A resource manager as a table: what a record of each info value is called and what it prints, from which major on.
 * Everything that differs between the majors stands there, in the row of its record type.
 */
import { type Major, SUPPORTED_MAJORS } from "../../postgres/version.ts";
import type { WalRecord } from "../record.ts";
import type { TextBuffer } from "../text-buffer.ts";
import type { WalFormat } from "../wal-format.ts";
import { fields } from "./fields.ts";
import type { ResourceManager } from "./rmgr.ts";

export type Describe = (out: TextBuffer, record: WalRecord, format: WalFormat) => void;

export interface RecordType {
  readonly name: string;
  /** The text of its main data (fields.ts) or what writes it; nothing is printed without. */
  readonly describe?: string | Describe;
}

/** A record type by the majors that brought it or changed it; null where one has it no more. */
export type Versions = Partial<Readonly<Record<Major, RecordType | null>>>;

/** A resource manager as each major has it. */
export type ResourceManagerOf = (major: Major) => ResourceManager;

export interface InfoBits {
  /** What chooses the description; XLR_RMGR_INFO_MASK for most. */
  readonly describe?: number;
  /** What chooses the name. Where it is 0xff, the bits that do not belong to the resource manager matter too. */
  readonly identify?: number;
}

/** XLR_RMGR_INFO_MASK of access/xlogrecord.h: the bits of xl_info that belong to the resource manager. */
const RMGR_INFO_MASK = 0xf0;

/** @param types - by info value. */
export function resourceManager(
  name: string,
  types: Readonly<Record<number, Versions>>,
  bits: InfoBits = {},
): ResourceManagerOf {
  const describeMask = bits.describe ?? RMGR_INFO_MASK;
  const identifyMask = bits.identify ?? RMGR_INFO_MASK;
  return (major) => {
    const names: (string | undefined)[] = Array.from({ length: 256 });
    const descriptions: (Describe | undefined)[] = Array.from({ length: 256 });
    for (const [info, versions] of Object.entries(types)) {
      const type = versionFor(major, versions);
      if (type === undefined) continue;
      names[Number(info)] = type.name;
      descriptions[Number(info)] = compile(type.describe);
    }
    return {
      name,
      describe: (out, record, format) =>
        descriptions[record.info & describeMask]?.(out, record, format),
      identify: (info) => names[info & identifyMask],
    };
  };
}

function versionFor(major: Major, versions: Versions): RecordType | undefined {
  const since = SUPPORTED_MAJORS.findLast((each) => each <= major && versions[each] !== undefined);
  return (since && versions[since]) ?? undefined;
}

function compile(describe: string | Describe | undefined): Describe | undefined {
  if (typeof describe !== "string") return describe;
  const write = fields(describe);
  return (out, record) =>
    void write(out, record.bytes, record.mainStart, record.mainStart + record.mainLength);
}
