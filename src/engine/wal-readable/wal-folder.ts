/**
 * The WAL segments of a folder in readable mode or on their way there: which of them are plain and which are stored
 * with a sidecar, of which cluster they are, and which follow which.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../../bytes/byte-path.ts";
import { sidecarName } from "../../datadir/relation-path.ts";
import { containerHeaderOf } from "../../datadir/sealed-file.ts";
import { walIdentity, walSidecarHead, type WalSegmentFiles } from "../../datadir/wal-segment.ts";
import { FormatError, IntegrityError, StateError, UsageError } from "../../errors.ts";
import { type FileIdentity, sameIdentity } from "../../format/identity.ts";
import type { SidecarPageHead } from "../../format/sidecar-page.ts";
import type { SegmentPlace } from "../../format/wal/plain-map.ts";
import { type FirstPage, firstPageOf } from "../../format/wal/wal-page.ts";
import { WAL_SIDECAR_PAGE_BYTES } from "../../format/wal/wal-slot.ts";
import { readUpTo, withFile } from "../../storage/file-io.ts";
import type { FileKind, FileSystem } from "../../storage/file-system.ts";
import { isSegmentSize, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { archivedKind, parseWalFileName } from "../../wal/wal-file-name.ts";
import { beginsAsContainer, isOfPgWal, sealedInPgWalAs } from "../wal-archive/sealed-wal.ts";

/**
 * plain: without a sidecar. stored: with one, and with the guard. unclear: with a sidecar and without the guard: plain,
 * beside what a run left that was ended before it replaced the segment, or before it removed the sidecar; or a segment
 * that was never written; or damaged. settle-segment.ts tells by the tags.
 */
export type SegmentState = "plain" | "stored" | "unclear";

export interface NumberedSegment {
  readonly place: SegmentPlace;
  /** LSN of its first byte / its size: counts segments through all timelines. */
  readonly number: bigint;
}

export interface WalSegment extends NumberedSegment {
  readonly name: BytePath;
  readonly path: BytePath;
  readonly isPartial: boolean;
  readonly state: SegmentState;
  /** That its sidecar names; undefined where it has none that says one. */
  readonly keyringId: string | undefined;
  /** Its key, as its sidecar says, which nothing proves. */
  readonly keyId: number | undefined;
  readonly files: WalSegmentFiles;
}

export interface WalFolder {
  readonly path: BytePath;
  readonly segmentBytes: number;
  readonly systemIdentifier: bigint;
  /** By number, then timeline; `.partial` behind the whole one. */
  readonly segments: readonly WalSegment[];
  /** Files with the name of a segment that are sealed as containers, as in an archive. */
  readonly sealed: readonly BytePath[];
  /** The same, where it was encrypt-datadir that sealed them, in the pg_wal of a data directory. */
  readonly sealedInPgWal: readonly SealedSegment[];
  /** Plain segments that do not count. */
  readonly passedOver: number;
}

/** A container, as its header says. */
export interface SealedSegment {
  readonly name: BytePath;
  readonly path: BytePath;
  readonly context: string;
  readonly systemIdentifier: bigint;
  /** Of the container. */
  readonly sizeBytes: number;
}

/** Which segments of a folder count. */
export interface SegmentSelection {
  /** Of the files; undefined: all segments of the folder. */
  readonly names?: ReadonlySet<BytePath> | undefined;
  /** Plain ones are passed over, whatever they are. */
  readonly onlyEncrypted?: boolean | undefined;
}

/** What the beginning of a segment and of its sidecar say. */
interface Head {
  readonly name: BytePath;
  readonly sizeBytes: number;
  readonly segmentBytes: number | undefined;
  /** Undefined where it has no header. */
  readonly page: FirstPage | undefined;
  readonly place: SegmentPlace | undefined;
  readonly sidecar: SidecarPageHead | undefined;
  readonly hasSidecar: boolean;
}

/**
 * @throws {FormatError} for a file that is no whole segment. @throws {IntegrityError} for one of another cluster.
 * @throws {StateError} for a link in the place of a file. @throws {UsageError} when there is no segment.
 */
export function readWalFolder(
  fs: FileSystem,
  path: BytePath,
  { names, onlyEncrypted = false }: SegmentSelection = {},
): WalFolder {
  const kinds = new Map(fs.readDirectory(path).map(({ name, kind }) => [name, kind]));
  const heads: Head[] = [];
  const sealed: BytePath[] = [];
  const sealedInPgWal: SealedSegment[] = [];
  let passedOver = 0;
  const wanted = [...kinds.keys()].filter((each) => names?.has(each) ?? isSegmentName(each));
  for (const name of wanted.sort()) {
    const file = joinPath(path, name);
    requireFile(path, name, kinds.get(name));
    requireFile(path, sidecarName(name), kinds.get(sidecarName(name)));
    if (withFile(fs, file, beginsAsContainer)) {
      const ofPgWal = sealedSegment(fs, file);
      if (ofPgWal === undefined) sealed.push(name);
      else sealedInPgWal.push(ofPgWal);
      continue;
    }
    const head = readHead(fs, path, name, kinds.has(sidecarName(name)));
    const isPlain = isSegmentName(name) && !head.hasSidecar && head.page?.isGuarded !== true;
    if (onlyEncrypted && isPlain) passedOver++;
    else heads.push(head);
  }
  const [first] = sealedInPgWal;
  if (heads.length === 0 && (first !== undefined || passedOver > 0)) {
    const systemIdentifier = first?.systemIdentifier ?? 0n;
    const nothing = { segmentBytes: 0, segments: [] };
    return { path, ...nothing, systemIdentifier, sealed, sealedInPgWal, passedOver };
  }
  if (heads.length === 0) {
    throw new UsageError(`"${displayPath(path)}" holds no WAL segment that is not sealed whole`);
  }
  const segmentBytes = commonSize(path, heads);
  const systemIdentifier = commonCluster(path, heads);
  const segments = heads.map((head) => segmentOf(path, head, segmentBytes, systemIdentifier));
  segments.sort(byPlace);
  return { path, segmentBytes, systemIdentifier, segments, sealed, sealedInPgWal, passedOver };
}

/** Of a file that begins as a container. Undefined where its header does not say that it is of a pg_wal. */
function sealedSegment(fs: FileSystem, path: BytePath): SealedSegment | undefined {
  const header = containerHeaderOf(fs, path);
  const name = nameOf(path);
  if (header === undefined || !isOfPgWal(header)) return undefined;
  const { systemIdentifier } = header;
  const sizeBytes = fs.stat(path)?.sizeBytes ?? 0;
  return { name, path, context: sealedInPgWalAs(name), systemIdentifier, sizeBytes };
}

/** What stands at the end of a link would stay as it is, plaintext or a sidecar that is missed. */
function requireFile(folder: BytePath, name: BytePath, kind: FileKind = "file"): void {
  if (kind === "file") return;
  const what = kind === "link" ? "a symbolic link" : "no file";
  throw new StateError(`"${displayPath(joinPath(folder, name))}" is ${what}`, {
    hint: "Put the file itself in its place, or take it away.",
  });
}

/** The name of a whole segment or of the last one of a timeline, which was never filled. */
export function isSegmentName(name: string): boolean {
  const kind = archivedKind(name);
  return kind === "segment" || kind === "partial";
}

/** In the order of WAL, through all timelines. */
export function byNumber(a: NumberedSegment, b: NumberedSegment): number {
  if (a.number !== b.number) return a.number < b.number ? -1 : 1;
  return a.place.timeline - b.place.timeline;
}

function byPlace(a: WalSegment, b: WalSegment): number {
  return byNumber(a, b) || Number(a.isPartial) - Number(b.isPartial);
}

/**
 * The segment before or after another one: of its timeline or, where that has none, of the nearest one that it comes
 * from or that comes from it.
 */
export function neighbourOf<Segment extends NumberedSegment>(
  segments: readonly Segment[],
  of: Segment,
  distance: 1 | -1,
): Segment | undefined {
  const candidates = segments.filter(({ number }) => number === of.number + BigInt(distance));
  const own = candidates.find(({ place }) => place.timeline === of.place.timeline);
  if (own !== undefined) return own;
  return distance < 0
    ? candidates.findLast(({ place }) => place.timeline < of.place.timeline)
    : candidates.find(({ place }) => place.timeline > of.place.timeline);
}

/** Segments that lack the one before them, but for the first: where a run of segments begins anew. */
export function gapsIn(segments: readonly WalSegment[]): WalSegment[] {
  return segments.filter(
    (each, i) =>
      i > 0 && neighbourOf(segments, each, -1) === undefined && each.number !== segments[0]?.number,
  );
}

function readHead(fs: FileSystem, folder: BytePath, name: BytePath, hasSidecar: boolean): Head {
  const path = joinPath(folder, name);
  const page = Buffer.alloc(WAL_PAGE_BYTES);
  const sizeBytes = withFile(fs, path, (file) => {
    readUpTo(file, page, 0, page.length, 0);
    return file.stat().sizeBytes;
  });
  const first = firstPageOf(page);
  const isKnown = first !== undefined;
  return {
    name,
    sizeBytes,
    page: first,
    segmentBytes: isKnown ? page.readUInt32LE(WAL_PAGE_HEADER.segmentSize) : undefined,
    place: isKnown
      ? {
          low: page.readUInt32LE(WAL_PAGE_HEADER.pageAddress),
          high: page.readUInt32LE(WAL_PAGE_HEADER.pageAddress + 4),
          timeline: page.readUInt32LE(WAL_PAGE_HEADER.timeline),
        }
      : undefined,
    hasSidecar,
    sidecar: hasSidecar ? readSidecarHead(fs, joinPath(folder, sidecarName(name))) : undefined,
  };
}

/** Undefined where it says nothing: a stored segment then fails when it is opened. */
function readSidecarHead(fs: FileSystem, path: BytePath): SidecarPageHead | undefined {
  const page = Buffer.alloc(WAL_SIDECAR_PAGE_BYTES);
  const count = withFile(fs, path, (file) => readUpTo(file, page, 0, page.length, 0));
  const head = walSidecarHead(page.subarray(0, count));
  return typeof head === "string" ? undefined : head;
}

function commonSize(path: BytePath, heads: readonly Head[]): number {
  const { segmentBytes: said } = heads.find(({ segmentBytes }) => segmentBytes !== undefined) ?? {};
  const size = said ?? heads[0]?.sizeBytes ?? 0;
  if (!isSegmentSize(size)) {
    throw new FormatError(
      `"${displayPath(path)}" holds no whole WAL segment of PostgreSQL 13 to 19`,
    );
  }
  for (const { name, sizeBytes, segmentBytes = size } of heads) {
    const where = `"${displayPath(joinPath(path, name))}"`;
    if (segmentBytes !== size) {
      throw new FormatError(
        `${where} is of segments of ${segmentBytes} bytes, others here of ${size}`,
        {
          hint: "Work on the segments of one cluster at a time.",
        },
      );
    }
    if (sizeBytes !== size) {
      throw new FormatError(
        `${where} is not a whole WAL segment: it has ${sizeBytes} bytes of ${size}`,
        {
          hint: "Fetch the segment again, or name the files that are whole.",
        },
      );
    }
  }
  return size;
}

/** The cluster of all of them; a segment that was never written says none. */
function commonCluster(path: BytePath, heads: readonly Head[]): bigint {
  const clusters = new Map<bigint, BytePath>();
  for (const head of heads) {
    const cluster = clusterOf(path, head);
    if (cluster !== undefined && !clusters.has(cluster)) clusters.set(cluster, head.name);
  }
  const [[cluster, name] = [], other] = clusters;
  if (cluster === undefined || name === undefined) {
    throw new FormatError(`no segment in "${displayPath(path)}" says of which cluster it is`);
  }
  if (other === undefined) return cluster;
  throw new IntegrityError(
    `"${displayPath(joinPath(path, other[1]))}" is from another cluster than "${displayPath(name)}": its system identifier is ${other[0]}, not ${cluster}`,
    { hint: "Work on the segments of one cluster at a time." },
  );
}

/** @throws {StateError} for ciphertext that has no sidecar. */
function clusterOf(path: BytePath, { name, sidecar, page }: Head): bigint | undefined {
  const sealedFor = sidecar?.identity.systemIdentifier;
  if (page?.isGuarded !== true) return page?.systemIdentifier ?? sealedFor;
  if (sealedFor !== undefined) return sealedFor;
  throw new StateError(
    `"${displayPath(joinPath(path, name))}" is encrypted already, but its sidecar is missing or damaged`,
    {
      hint: `Restore the segment together with "${displayPath(sidecarName(name))}"; nothing is ever encrypted twice.`,
    },
  );
}

function segmentOf(
  folder: BytePath,
  head: Head,
  segmentBytes: number,
  systemIdentifier: bigint,
): WalSegment {
  const { name } = head;
  const place = parseWalFileName(name, segmentBytes);
  const path = joinPath(folder, name);
  if (place === undefined)
    throw new FormatError(`"${displayPath(path)}" is not the name of a WAL segment`);
  if (
    head.place !== undefined &&
    head.place.high === place.high &&
    head.place.low === place.low &&
    head.place.timeline > place.timeline
  ) {
    throw new IntegrityError(
      `"${displayPath(path)}" is a segment of timeline ${head.place.timeline}, not of ${place.timeline} as its name says`,
      { hint: "The file was renamed. Give it its own name." },
    );
  }
  const identity = walIdentity(systemIdentifier, place, segmentBytes);
  return {
    name,
    path,
    place,
    number: identity.relfilenumber,
    isPartial: nameOf(path).endsWith(".partial"),
    state: stateOf(head, identity),
    keyringId: head.sidecar?.keyringId,
    keyId: head.sidecar?.macKeyId,
    files: {
      path: name,
      segment: path,
      sidecar: joinPath(folder, sidecarName(name)),
      identity,
      place,
    },
  };
}

/** With the sidecar of another segment it is not what it was sealed as. */
function stateOf({ hasSidecar, sidecar, page }: Head, identity: FileIdentity): SegmentState {
  if (!hasSidecar) return "plain";
  const isGuarded = page?.isGuarded === true;
  const isOwn = sidecar !== undefined && sameIdentity(sidecar.identity, identity);
  return isGuarded && isOwn && page.systemIdentifier === identity.systemIdentifier
    ? "stored"
    : "unclear";
}
