/**
 * How pg_waldump of each major says things outside of the reader: in the order and words of
 * bin/pg_waldump/pg_waldump.c and common/logging.c.
 */
import type { Major } from "../../postgres/version.ts";
import { usageProblem, WaldumpError } from "./waldump-error.ts";

export interface Dialect {
  /** What stands before an error that is not about the command line. */
  readonly fatalLabel: "fatal" | "error";
  /** The pointer to --help has `hint: ` before it. */
  readonly labelsHint: boolean;
  /** What is said about skipped bytes goes to standard output. */
  readonly skipsOnStdout: boolean;
  /** Where no record is found the reason is told. */
  readonly tellsWhyNothingFound: boolean;
  /** --timeline is read as C writes numbers, and checked; else as `%d`. */
  readonly checksTimeline: boolean;
  /** --rmgr may be repeated; else the last one counts. */
  readonly takesSeveralRmgrs: boolean;
  readonly invalidLsn: (which: "start" | "end", text: string) => WaldumpError;
  readonly invalidLimit: (text: string) => WaldumpError;
  readonly invalidTimeline: (text: string) => WaldumpError;
  readonly invalidXid: (text: string) => WaldumpError;
  readonly invalidStats: (text: string) => WaldumpError;
  readonly invalidSegmentSize: (fileName: string, bytes: number) => WaldumpError;
  /** A file that ends inside a page. */
  readonly shortRead: (fileName: string, offset: number, wanted: number) => WaldumpError;
}

const SINCE_17: Dialect = {
  fatalLabel: "error",
  labelsHint: true,
  skipsOnStdout: false,
  tellsWhyNothingFound: false,
  checksTimeline: true,
  takesSeveralRmgrs: true,
  invalidLsn: (_which, text) => usageProblem(`invalid WAL location: "${text}"`),
  invalidLimit: (text) => usageProblem(`invalid value "${text}" for option -n/--limit`),
  invalidTimeline: (text) => usageProblem(`invalid value "${text}" for option -t/--timeline`),
  invalidXid: (text) => usageProblem(`invalid transaction ID specification: "${text}"`),
  invalidStats: (text) => usageProblem(`unrecognized value for option --stats: ${text}`),
  invalidSegmentSize: (fileName, bytes) =>
    new WaldumpError(
      `invalid WAL segment size in WAL file "${fileName}" (${bytes} ${bytes === 1 ? "byte" : "bytes"})`,
      { detail: "The WAL segment size must be a power of two between 1 MB and 1 GB." },
    ),
  shortRead: (fileName, offset, wanted) =>
    new WaldumpError(
      `could not read from file "${fileName}", offset ${offset}: read 0 of ${wanted}`,
    ),
};

const IN_19: Dialect = { ...SINCE_17, tellsWhyNothingFound: true };

const IN_15: Dialect = {
  ...SINCE_17,
  skipsOnStdout: true,
  checksTimeline: false,
  invalidTimeline: (text) => usageProblem(`invalid timeline specification: "${text}"`),
  invalidSegmentSize: (fileName, bytes) =>
    new WaldumpError(
      `WAL segment size must be a power of two between 1 MB and 1 GB, but the WAL file "${fileName}" header specifies ${bytes} ${bytes === 1 ? "byte" : "bytes"}`,
    ),
  shortRead: (fileName, offset, wanted) =>
    new WaldumpError(`could not read from file ${fileName}, offset ${offset}: read 0 of ${wanted}`),
};

const IN_16: Dialect = {
  ...IN_15,
  checksTimeline: true,
  invalidTimeline: SINCE_17.invalidTimeline,
};

const UP_TO_14: Dialect = {
  ...IN_15,
  fatalLabel: "fatal",
  labelsHint: false,
  takesSeveralRmgrs: false,
  invalidLsn: (which, text) => usageProblem(`could not parse ${which} WAL location "${text}"`),
  invalidLimit: (text) => usageProblem(`could not parse limit "${text}"`),
  invalidTimeline: (text) => usageProblem(`could not parse timeline "${text}"`),
  invalidXid: (text) => usageProblem(`could not parse "${text}" as a transaction ID`),
  invalidStats: (text) => usageProblem(`unrecognized argument to --stats: ${text}`),
};

const DIALECTS: Readonly<Record<Major, Dialect>> = {
  13: UP_TO_14,
  14: UP_TO_14,
  15: IN_15,
  16: IN_16,
  17: SINCE_17,
  18: SINCE_17,
  19: IN_19,
};

export function dialectOf(major: Major): Dialect {
  return DIALECTS[major];
}
