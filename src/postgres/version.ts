/**
 * The supported majors of PostgreSQL and every constant that differs between them, as data, so that format code
 * never compares versions. Sources: catalog/pg_control.h, utils/cache/relmapper.c, catalog/pg_attribute.h,
 * access/multixact.h and storage/bufpage.h of each major, and data directories that its servers made.
 */
import { FormatError } from "../errors.ts";

export const SUPPORTED_MAJORS = [13, 14, 15, 16, 17, 18, 19] as const;
export type Major = (typeof SUPPORTED_MAJORS)[number];

export interface MajorFacts {
  /** PG_CONTROL_VERSION; 13 to 16 share one. */
  readonly pgControlVersion: number;
  /** Size of pg_filenode.map: RelMapFile has 62 mappings and padding up to 15, 64 mappings from 16 on. */
  readonly relationMapBytes: number;
  /** Mappings in it that can be used, MAX_MAPPINGS. */
  readonly relationMapEntries: 62 | 64;
  /**
   * Where these columns stand in a row of pg_attribute, in bytes from its first value; what precedes them, attrelid,
   * attname and atttypid, has its place in every major. It takes these to find out the columns of all other catalogs.
   */
  readonly pgAttribute: {
    readonly attlen: number;
    readonly attnum: number;
    readonly attalign: number;
  };
  /** Of one entry of pg_multixact/offsets: MultiXactOffset has 64 bits from 19 on. */
  readonly multixactOffsetBytes: 4 | 8;
  /** Hexadecimal digits that the names in pg_multixact/members have at least. */
  readonly multixactMembersDigits: 4 | 15;
  /** PG_PAGE_LAYOUT_VERSION, the low byte of pd_pagesize_version. */
  readonly pageLayoutVersion: number;
  /** Digits that the second half of a printed LSN has at least: `%X/%X` up to 18, `%X/%08X` from 19 on. */
  readonly lsnLowDigits: 1 | 8;
}

const COMMON = {
  relationMapBytes: 524,
  relationMapEntries: 64,
  pageLayoutVersion: 4,
  lsnLowDigits: 1,
  multixactOffsetBytes: 4,
  multixactMembersDigits: 4,
} as const;
const TO_15 = { ...COMMON, relationMapBytes: 512, relationMapEntries: 62 } as const;

const FACTS: Readonly<Record<Major, MajorFacts>> = {
  13: { ...TO_15, pgControlVersion: 1300, pgAttribute: { attlen: 76, attnum: 78, attalign: 94 } },
  14: { ...TO_15, pgControlVersion: 1300, pgAttribute: { attlen: 76, attnum: 78, attalign: 93 } },
  15: { ...TO_15, pgControlVersion: 1300, pgAttribute: { attlen: 76, attnum: 78, attalign: 93 } },
  16: { ...COMMON, pgControlVersion: 1300, pgAttribute: { attlen: 72, attnum: 74, attalign: 87 } },
  17: { ...COMMON, pgControlVersion: 1700, pgAttribute: { attlen: 72, attnum: 74, attalign: 87 } },
  18: { ...COMMON, pgControlVersion: 1800, pgAttribute: { attlen: 72, attnum: 74, attalign: 83 } },
  // 19 is a release candidate. Its betas had other control files; a later one is refused by number, not guessed at.
  19: {
    ...COMMON,
    pgControlVersion: 1905,
    pgAttribute: { attlen: 72, attnum: 74, attalign: 83 },
    lsnLowDigits: 8,
    multixactOffsetBytes: 8,
    multixactMembersDigits: 15,
  },
};

export function factsOf(major: Major): MajorFacts {
  return FACTS[major];
}

/** The majors whose pg_control has this version; empty for one that tde does not know. */
export function majorsOfControlVersion(pgControlVersion: number): readonly Major[] {
  return SUPPORTED_MAJORS.filter((major) => FACTS[major].pgControlVersion === pgControlVersion);
}

/**
 * The major that a PG_VERSION file names: a number and a line end.
 * @param where - the file, for the message.
 * @throws {FormatError} for anything else, and for a major that is not supported.
 */
export function parsePgVersion(content: Buffer, where: string): Major {
  const text = /^([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*$/.exec(content.toString("latin1"))?.[1];
  if (text === undefined) {
    throw new FormatError(`file "${where}" does not hold a PostgreSQL version number`, {
      hint: "Check that the path is a PostgreSQL data directory; PG_VERSION is one line such as 17.",
    });
  }
  const major = SUPPORTED_MAJORS.find((supported) => String(supported) === text);
  if (major === undefined) {
    throw new FormatError(`PostgreSQL ${text} is not supported: file "${where}"`, {
      hint: `tde reads data directories of PostgreSQL ${SUPPORTED_MAJORS[0]} to ${SUPPORTED_MAJORS.at(-1)}.`,
    });
  }
  return major;
}
