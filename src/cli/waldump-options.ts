/**
 * The options of `tde waldump`, which are pg_waldump's, read as pg_waldump reads them: main of
 * bin/pg_waldump/pg_waldump.c.
 */
import { availableParallelism } from "node:os";
import type { Dialect } from "../engine/waldump/dialect.ts";
import { zoneSource } from "../wal/time-zone.ts";
import { readZoneFile } from "./zone-file.ts";
import type { LsnHalves, WaldumpRequest } from "../engine/waldump/request.ts";
import { usageProblem } from "../engine/waldump/waldump-error.ts";
import type { RelationId } from "../wal/record-filter.ts";
import { FORK_NAMES } from "../wal/record-text.ts";
import { FIRST_CUSTOM_RMGR, resourceManagersOf } from "../wal/rmgr/index.ts";
import type { WalFormat } from "../wal/wal-format.ts";
import type { GetoptEvent, OptionShape } from "./getopt.ts";
import { pathArgument, rawEnvironment } from "./raw-arguments.ts";
import { scanSigned, scanUnsigned, strtoul } from "./scanf.ts";

/** What opens a keyring, as for all other commands. */
const SECRET_OPTIONS = [
  { name: "keyring", argument: "required" },
  { name: "key-file", argument: "required" },
  { name: "passphrase", argument: "none" },
  { name: "passphrase-file", argument: "required" },
  { name: "passphrase-fd", argument: "required" },
  { name: "unwrap-command", argument: "required" },
] as const;

/** In pg_waldump's order, then tde's own. */
export const WALDUMP_OPTIONS: readonly OptionShape[] = [
  { name: "bkp-details", short: "b", argument: "none" },
  { name: "block", short: "B", argument: "required" },
  { name: "end", short: "e", argument: "required" },
  { name: "follow", short: "f", argument: "none" },
  { name: "fork", short: "F", argument: "required" },
  { name: "fullpage", short: "w", argument: "none" },
  { name: "help", argument: "none" },
  { name: "limit", short: "n", argument: "required" },
  { name: "path", short: "p", argument: "required" },
  { name: "quiet", short: "q", argument: "none" },
  { name: "relation", short: "R", argument: "required" },
  { name: "rmgr", short: "r", argument: "required" },
  { name: "start", short: "s", argument: "required" },
  { name: "timeline", short: "t", argument: "required" },
  { name: "xid", short: "x", argument: "required" },
  { name: "version", argument: "none" },
  { name: "stats", short: "z", argument: "optional" },
  { name: "save-fullpage", argument: "required" },
  { name: "format", argument: "required" },
  { name: "jobs", short: "j", argument: "required" },
  ...SECRET_OPTIONS.map(({ name, argument }) => ({ name, argument, wholeNameOnly: true })),
];

/** getopt complained, or an option came at a place where pg_waldump does not take it. */
export class GetoptError extends Error {
  /** Without a label before it; undefined where pg_waldump says nothing but the hint. */
  readonly complaint: string | undefined;

  constructor(complaint: string | undefined) {
    super(complaint ?? "");
    this.complaint = complaint;
  }
}

/** --rmgr=list: the names, and nothing else. */
export interface RmgrList {
  readonly rmgrs: readonly string[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * @throws {GetoptError} for what getopt finds wrong.
 * @throws {WaldumpError} for a value or a combination that is wrong.
 */
export function parseWaldumpOptions(
  events: readonly GetoptEvent[],
  positionals: readonly string[],
  { format, dialect }: { readonly format: WalFormat; readonly dialect: Dialect },
): WaldumpRequest | RmgrList {
  const filter: Mutable<WaldumpRequest["filter"]> = {};
  const rmgrs = new Set<number>();
  const request: Mutable<WaldumpRequest> = {
    path: undefined,
    segments: positionals.map(pathArgument),
    start: undefined,
    end: undefined,
    timeline: 1,
    filter,
    limit: 0,
    follow: false,
    quiet: false,
    statistics: "none",
    details: false,
    json: false,
    saveImages: undefined,
    jobs: availableParallelism(),
    timeZone: zoneSource(rawEnvironment("TZ"), readZoneFile),
  };
  for (const event of events) {
    if (event.kind === "error") throw new GetoptError(event.message);
    const value = event.value ?? "";
    switch (event.name) {
      case "bkp-details":
        request.details = true;
        break;
      case "block":
        filter.blockNumber = parseBlock(value);
        break;
      case "end":
        request.end = parseLsn(value, "end", format, dialect);
        break;
      case "follow":
        request.follow = true;
        break;
      case "fork":
        filter.fork = parseFork(value);
        break;
      case "format":
        request.json = parseFormat(value);
        break;
      case "fullpage":
        filter.fullPage = true;
        break;
      case "jobs":
        request.jobs = parseJobs(value);
        break;
      case "limit": {
        const limit = scanSigned(value);
        if (limit === undefined) throw dialect.invalidLimit(value);
        request.limit = limit;
        break;
      }
      case "path":
        request.path = pathArgument(value);
        break;
      case "quiet":
        request.quiet = true;
        break;
      case "relation":
        filter.relation = parseRelation(value);
        break;
      case "rmgr":
        if (value.toLowerCase() === "list") return { rmgrs: builtinNames(format) };
        // Up to 14 the last one counts.
        if (!dialect.takesSeveralRmgrs) rmgrs.clear();
        rmgrs.add(parseRmgr(value, format));
        filter.rmgrs = rmgrs;
        break;
      case "save-fullpage":
        request.saveImages = pathArgument(value);
        break;
      case "start":
        request.start = parseLsn(value, "start", format, dialect);
        break;
      case "stats":
        request.statistics = parseStats(event.value, dialect);
        break;
      case "timeline":
        request.timeline = parseTimeline(value, dialect);
        break;
      case "keyring":
      case "key-file":
      case "passphrase":
      case "passphrase-file":
      case "passphrase-fd":
      case "unwrap-command":
        // `keyringFlagsOf` has read them.
        break;
      case "xid": {
        const xid = scanUnsigned(value, 10);
        if (xid === undefined) throw dialect.invalidXid(value);
        filter.xid = xid.value;
        break;
      }
      default:
        // --help and --version count only as the first argument.
        throw new GetoptError(undefined);
    }
  }
  if (filter.blockNumber !== undefined && filter.relation === undefined) {
    throw usageProblem("option -B/--block requires option -R/--relation to be specified");
  }
  if (positionals.length > 2) {
    throw usageProblem(`too many command-line arguments (first is "${positionals[2]}")`);
  }
  return request;
}

function parseLsn(
  text: string,
  which: "start" | "end",
  format: WalFormat,
  dialect: Dialect,
): LsnHalves {
  const high = scanUnsigned(text, 16);
  if (high?.rest.startsWith("/") === true) {
    // `%08X` also bounds how many digits are read.
    const most = format.lsnLowDigits === 8 ? 8 : undefined;
    const low = scanUnsigned(high.rest.slice(1), 16, most);
    if (low !== undefined) return { high: high.value, low: low.value };
  }
  throw dialect.invalidLsn(which, text);
}

const INVALID_BLOCK = 0xffffffff;

function parseBlock(text: string): number {
  const scanned = scanUnsigned(text, 10);
  if (scanned !== undefined && scanned.value !== INVALID_BLOCK) return scanned.value;
  throw usageProblem(`invalid block number: "${text}"`);
}

function parseFork(text: string): number {
  const fork = FORK_NAMES.findIndex((name) => name === text);
  if (fork >= 0) return fork;
  throw usageProblem(`invalid fork name: "${text}"`);
}

function parseFormat(text: string): boolean {
  if (text === "json" || text === "text") return text === "json";
  throw usageProblem(`unrecognized value for option --format: ${text}`);
}

function parseJobs(text: string): number {
  const jobs = /^[0-9]{1,3}$/.test(text) ? Number(text) : 0;
  if (jobs >= 1 && jobs <= 256) return jobs;
  throw usageProblem("-j/--jobs must be in range 1..256");
}

/** `%u/%u/%u`, of which tablespace and relation must not be 0; what follows does not matter. */
function parseRelation(text: string): RelationId {
  const numbers: number[] = [];
  for (let rest = text; numbers.length < 3;) {
    const scanned = scanUnsigned(rest, 10);
    if (scanned === undefined) break;
    numbers.push(scanned.value);
    if (numbers.length < 3 && !scanned.rest.startsWith("/")) break;
    rest = scanned.rest.slice(1);
  }
  const [tablespaceOid = 0, databaseOid = 0, relfilenumber = 0] = numbers;
  if (numbers.length === 3 && tablespaceOid !== 0 && relfilenumber !== 0) {
    return { tablespaceOid, databaseOid, relfilenumber };
  }
  throw usageProblem(
    `invalid relation specification: "${text}"`,
    'Expecting "tablespace OID/database OID/relation filenode".',
  );
}

function builtinNames(format: WalFormat): string[] {
  return resourceManagersOf(format.major)
    .slice(0, format.builtinRmgrCount)
    .flatMap((rmgr) => (rmgr === undefined ? [] : [rmgr.name]));
}

function parseRmgr(text: string, format: WalFormat): number {
  const custom = /^custom[\t-\r ]*([+-]?[0-9]{1,3})/.exec(text);
  if (custom !== null && format.customRmgrs) {
    const rmid = Number(custom[1]);
    if (rmid >= FIRST_CUSTOM_RMGR && rmid <= 0xff) return rmid;
    throw usageProblem(`custom resource manager "${text}" does not exist`);
  }
  const wanted = text.toLowerCase();
  const rmid = builtinNames(format).findIndex((name) => name.toLowerCase() === wanted);
  if (rmid >= 0) return rmid;
  throw usageProblem(`resource manager "${text}" does not exist`);
}

function parseStats(text: string | undefined, dialect: Dialect): "rmgr" | "record" {
  if (text === undefined || text === "rmgr") return "rmgr";
  if (text === "record") return "record";
  throw dialect.invalidStats(text);
}

const LARGEST_TIMELINE = 0xffffffff;

function parseTimeline(text: string, dialect: Dialect): number {
  if (!dialect.checksTimeline) {
    const timeline = scanSigned(text);
    if (timeline === undefined) throw dialect.invalidTimeline(text);
    return timeline >>> 0;
  }
  const { value, rest } = strtoul(text);
  if (/[^\t-\r ]/.test(rest)) throw dialect.invalidTimeline(text);
  if (value < 1 || value > LARGEST_TIMELINE) {
    throw usageProblem(`-t/--timeline must be in range 1..${LARGEST_TIMELINE}`);
  }
  return value;
}
