/**
 * Finds the directory with the WAL and the range to read, from the command line, in the order in which pg_waldump
 * looks: main and identify_target_directory of bin/pg_waldump/pg_waldump.c.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../../bytes/byte-path.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { formatHalves } from "../../wal/messages.ts";
import { isSegmentSize, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { isWalFileName, parseWalFileName, type SegmentName } from "../../wal/wal-file-name.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { parseCompressedName } from "../../wal/compressed-wal.ts";
import type { Dialect } from "./dialect.ts";
import { isZero, type LsnHalves, type WaldumpRequest } from "./request.ts";
import { systemText } from "./system-text.ts";
import { type OpenSegment, openSegmentFile, type WalKeys } from "./wal-files.ts";
import { usageProblem, WaldumpError } from "./waldump-error.ts";

const WAL_FOLDER = "pg_wal" as BytePath;
const HERE = "." as BytePath;

export interface Location {
  readonly directory: BytePath;
  readonly segmentBytes: number;
  readonly timeline: number;
  readonly start: LsnHalves;
  readonly end: LsnHalves | undefined;
  /** Names under which segments were given that are not the segments' own: `.partial`, `.gz`. */
  readonly givenNames: readonly BytePath[];
}

export interface LocateContext {
  readonly fs: FileSystem;
  readonly format: WalFormat;
  readonly dialect: Dialect;
  /** PGDATA of the environment. */
  readonly pgdata: BytePath | undefined;
  readonly keys: WalKeys;
}

/** @throws {WaldumpError} with pg_waldump's message for whatever is missing or contradicts. */
export async function locate(request: WaldumpRequest, context: LocateContext): Promise<Location> {
  const [first] = request.segments;
  const found =
    first === undefined
      ? {
          ...(await identifyDirectory(request.path, undefined, context)),
          timeline: request.timeline,
          start: request.start,
          end: request.end,
          givenNames: [],
        }
      : await locateSegments(first, request, context);
  const { start } = found;
  if (start === undefined || isZero(start)) throw usageProblem("no start WAL location given");
  return { ...found, start };
}

async function locateSegments(
  first: BytePath,
  request: WaldumpRequest,
  context: LocateContext,
): Promise<Omit<Location, "start"> & { start: LsnHalves }> {
  const { fs, format, keys } = context;
  const startName = nameOf(first);
  let path = request.path;
  if (path === undefined && first.includes("/")) {
    path = first.slice(0, first.lastIndexOf("/")) as BytePath;
    const problem = directoryProblem(fs, path);
    if (problem !== undefined) throw new WaldumpError(problem);
  }
  const { directory, segmentBytes } = await identifyDirectory(path, startName, context);
  const startSegment = segmentOf(startName, segmentBytes);
  let { timeline } = startSegment;
  let start: LsnHalves = { high: startSegment.high, low: startSegment.low };
  if (request.start !== undefined && !isZero(request.start)) {
    start = request.start;
    if (!isIn(start, startSegment, segmentBytes)) {
      throw usageProblem(
        `start WAL location ${text(start, format)} is not inside file "${displayPath(startName)}"`,
      );
    }
  }
  let endSegment = startSegment;
  const last = request.segments[1];
  const givenNames = [startName];
  if (last !== undefined) {
    const endName = nameOf(last);
    givenNames.push(endName);
    const file = await openSegmentFile(fs, directory, endName, keys);
    if (file === undefined) {
      throw new WaldumpError(`could not open file "${displayPath(endName)}"`);
    }
    file.close();
    endSegment = segmentOf(endName, segmentBytes);
    ({ timeline } = endSegment);
    if (compare(endSegment, startSegment) < 0) {
      throw new WaldumpError(
        `ENDSEG ${displayPath(last)} is before STARTSEG ${displayPath(first)}`,
      );
    }
  }
  const afterEnd = nextSegment(endSegment, segmentBytes);
  let end: LsnHalves = afterEnd;
  if (request.end !== undefined && !isZero(request.end)) {
    ({ end } = request);
    if (!isIn(end, endSegment, segmentBytes) && compare(end, afterEnd) !== 0) {
      const named = displayPath(request.segments.at(-1) ?? first);
      throw usageProblem(`end WAL location ${text(end, format)} is not inside file "${named}"`);
    }
  }
  return {
    directory,
    segmentBytes,
    timeline,
    start,
    end,
    givenNames: givenNames.filter((name) => !isWalFileName(name)),
  };
}

/** A file whose name says no segment has none to read: pg_waldump then reads what its memory happens to hold. */
function segmentOf(fileName: BytePath, segmentBytes: number): SegmentName {
  const segment = parseWalFileName(fileName, segmentBytes);
  if (segment !== undefined) return segment;
  throw new WaldumpError(`could not parse WAL file name "${displayPath(fileName)}"`);
}

async function identifyDirectory(
  path: BytePath | undefined,
  fileName: BytePath | undefined,
  context: LocateContext,
): Promise<{ directory: BytePath; segmentBytes: number }> {
  for (const directory of candidateDirectories(path, context.pgdata)) {
    const segmentBytes = await segmentSizeIn(directory, fileName, context);
    if (segmentBytes !== undefined) return { directory, segmentBytes };
  }
  throw new WaldumpError(
    fileName === undefined
      ? "could not find any WAL file"
      : `could not locate WAL file "${displayPath(fileName)}"`,
  );
}

/** Where pg_waldump looks for WAL files. */
export function candidateDirectories(
  path: BytePath | undefined,
  pgdata: BytePath | undefined,
): BytePath[] {
  if (path !== undefined) return [path, joinPath(path, WAL_FOLDER)];
  return [HERE, WAL_FOLDER, ...(pgdata === undefined ? [] : [joinPath(pgdata, WAL_FOLDER)])];
}

/** @returns undefined where the directory has no such file. */
async function segmentSizeIn(
  directory: BytePath,
  fileName: BytePath | undefined,
  { fs, dialect, keys }: LocateContext,
): Promise<number | undefined> {
  const name = fileName ?? anyWalFile(fs, directory);
  if (name === undefined) return undefined;
  const file = await openSegmentFile(fs, directory, name, keys);
  if (file === undefined) return undefined;
  try {
    const page = Buffer.alloc(WAL_PAGE_BYTES);
    const count = readPage(file, page, displayPath(name));
    if (count < page.length) {
      throw new WaldumpError(
        `could not read file "${displayPath(name)}": read ${count} of ${page.length}`,
      );
    }
    const bytes = page.readInt32LE(WAL_PAGE_HEADER.segmentSize);
    if (!isSegmentSize(bytes)) throw dialect.invalidSegmentSize(displayPath(name), bytes);
    return bytes;
  } finally {
    file.close();
  }
}

function readPage(file: OpenSegment, page: Buffer, name: string): number {
  try {
    return file.read(page, 0, page.length, 0);
  } catch (error) {
    throw new WaldumpError(`could not read file "${name}": ${systemText(error)}`);
  }
}

/** A file of a directory that has a WAL file's name; a plain one where there is one. */
export function anyWalFile(fs: FileSystem, directory: BytePath): BytePath | undefined {
  let entries;
  try {
    entries = fs.readDirectory(directory);
  } catch {
    return undefined;
  }
  const names = entries.map(({ name }) => name);
  return names.find(isWalFileName) ?? names.find((name) => parseCompressedName(name) !== undefined);
}

/** Why a directory cannot be read, as a message. */
export function directoryProblem(fs: FileSystem, path: BytePath): string | undefined {
  try {
    fs.readDirectory(path);
    return undefined;
  } catch (error) {
    return `could not open directory "${displayPath(path)}": ${systemText(error)}`;
  }
}

function text({ high, low }: LsnHalves, format: WalFormat): string {
  return formatHalves(high, low, format);
}

function compare(a: LsnHalves, b: LsnHalves): number {
  return a.high - b.high || a.low - b.low;
}

function isIn(lsn: LsnHalves, segment: LsnHalves, segmentBytes: number): boolean {
  return lsn.high === segment.high && lsn.low - (lsn.low % segmentBytes) === segment.low;
}

function nextSegment({ high, low }: LsnHalves, segmentBytes: number): LsnHalves {
  const next = low + segmentBytes;
  return next > 0xffffffff ? { high: (high + 1) >>> 0, low: 0 } : { high, low: next };
}
