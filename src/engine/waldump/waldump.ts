/**
 * `tde waldump`: from a request to what is printed. First it is found out whose WAL it is, since even the words about
 * a wrong option are those of the major that wrote it; then what was asked for is read.
 */
import { displayPath } from "../../bytes/byte-path.ts";
import { TdeError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { ArchiveSource, isArchiveName } from "./archive.ts";
import { DEFAULT_FORMAT, detectFormat, type DetectPlaces } from "./detect-format.ts";
import { type Dialect, dialectOf } from "./dialect.ts";
import { dump, type DumpOutput, type DumpPlace } from "./dump.ts";
import { directoryProblem, type Location, locate } from "./locate.ts";
import { isZero, type LsnHalves, type WaldumpRequest } from "./request.ts";
import { ImageSaver, prepareImageDirectory } from "./save-images.ts";
import type { StartThreads } from "./chunk-threads.ts";
import { DirectorySource } from "./source.ts";
import { StreamSource } from "./stream.ts";
import { usageProblem, WaldumpError } from "./waldump-error.ts";

/** Where the WAL may be, before options have been read. */
export interface WaldumpPlaces extends DetectPlaces {
  /** Standard input; read only where a segment is called `-`. */
  readonly standardInput: () => AsyncIterable<Uint8Array>;
  /** Starts threads that see the same files; undefined where there are none. */
  readonly startThreads?: StartThreads | undefined;
}

/** Less WAL than this one thread has read before others have started. */
const PARALLEL_BYTES = 2 ** 25;

/** A segment argument that means standard input. */
const STREAM_NAMES: readonly string[] = ["-", "/dev/stdin"];

/** What is known of the WAL before it is read. */
export interface Waldump {
  readonly format: WalFormat;
  readonly dialect: Dialect;
  /** @throws {WaldumpError} with pg_waldump's message, after what could be read has been printed. */
  run(request: WaldumpRequest, output: DumpOutput): Promise<void>;
  close(): Promise<void>;
}

export async function openWaldump(fs: FileSystem, places: WaldumpPlaces): Promise<Waldump> {
  const [first] = places.segments;
  const stream =
    first !== undefined && STREAM_NAMES.includes(first)
      ? await StreamSource.open(places.standardInput(), places.keys)
      : undefined;
  const archivePath = [places.path, first].find((path) => path && isArchiveName(path));
  const archive = archivePath && new ArchiveSource(fs, archivePath, places.keys);
  const format =
    (await orNothing(stream?.format())) ??
    (await orNothing(archive?.format())) ??
    (await detectFormat(fs, places)) ??
    DEFAULT_FORMAT;
  const dialect = dialectOf(format.major);
  return {
    format,
    dialect,
    run: async (request, output) => {
      if (request.path !== undefined && !isArchiveName(request.path)) {
        const problem = directoryProblem(fs, request.path);
        if (problem !== undefined) throw usageProblem(problem);
      }
      if (request.saveImages !== undefined) prepareImageDirectory(fs, request.saveImages);
      const place =
        stream !== undefined
          ? await streamPlace(stream, request, { format, dialect })
          : archive !== undefined
            ? await archivePlace(archive, request, { format, dialect })
            : await directoryPlace(fs, request, { ...places, format, dialect });
      try {
        const saver =
          request.saveImages === undefined
            ? undefined
            : await ImageSaver.create(fs, request.saveImages, format, place.timeline);
        await dump(request, place, saver, output);
      } finally {
        await place.source.close();
      }
    },
    close: async () => {
      await stream?.close();
      await archive?.close();
    },
  };
}

interface Manners {
  readonly format: WalFormat;
  readonly dialect: Dialect;
}

async function directoryPlace(
  fs: FileSystem,
  request: WaldumpRequest,
  { format, dialect, pgdata, keys, startThreads }: Manners & WaldumpPlaces,
): Promise<DumpPlace> {
  const location = await locate(request, { fs, format, dialect, pgdata, keys });
  const { segmentBytes, timeline, end } = location;
  const start =
    request.jobs > 1 && !request.follow && walBytes(fs, location) >= PARALLEL_BYTES
      ? startThreads
      : undefined;
  const context = { request, format, segmentBytes, timeline, end };
  return {
    format,
    dialect,
    ...location,
    source: new DirectorySource(fs, location, request.follow, keys),
    startThreads: start && (() => start(request.jobs, { context, location }, keys)),
  };
}

/** How much WAL there is in the range, at most. */
function walBytes(fs: FileSystem, { directory, segmentBytes, start, end }: Location): number {
  if (end !== undefined) return (end.high - start.high) * 2 ** 32 + (end.low - start.low);
  return fs.readDirectory(directory).length * segmentBytes;
}

async function archivePlace(
  source: ArchiveSource,
  request: WaldumpRequest,
  manners: Manners,
): Promise<DumpPlace> {
  const { path, segments, timeline } = request;
  const [extra] = segments;
  if (path !== undefined && extra !== undefined && isArchiveName(path)) {
    throw usageProblem(
      `unnecessary command-line arguments specified with tar archive (first is "${displayPath(extra)}")`,
    );
  }
  const start = given(request.start);
  if (start === undefined) throw usageProblem("no start WAL location given");
  if (request.follow) {
    throw usageProblem("--follow is not supported when reading from a tar archive");
  }
  const { segmentBytes } = await source.prepare(timeline);
  return {
    ...manners,
    segmentBytes,
    timeline,
    start,
    end: given(request.end),
    source,
    startThreads: undefined,
  };
}

async function streamPlace(
  source: StreamSource,
  request: WaldumpRequest,
  manners: Manners,
): Promise<DumpPlace> {
  const [, extra] = request.segments;
  if (extra !== undefined) {
    throw usageProblem(`a segment follows standard input (it is "${displayPath(extra)}")`);
  }
  if (request.follow) {
    throw usageProblem("--follow is not supported when reading from standard input");
  }
  const place = await source.place();
  const start = given(request.start) ?? place.start;
  return { ...manners, ...place, start, end: given(request.end), source, startThreads: undefined };
}

function given(lsn: LsnHalves | undefined): LsnHalves | undefined {
  return lsn === undefined || isZero(lsn) ? undefined : lsn;
}

/** What cannot be read now is found again, and said, when it is read. */
async function orNothing<T>(work: Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof WaldumpError || error instanceof TdeError) return undefined;
    throw error;
  }
}
