/**
 * The files of an archive: listed by what their names say, and each opened and judged by itself.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { nameWithoutSidecarSuffix } from "../../datadir/relation-path.ts";
import { containerHeaderOf } from "../../datadir/sealed-file.ts";
import type { WalSegmentFiles } from "../../datadir/wal-segment.ts";
import { FormatError, IntegrityError, KeyError, StorageError, TdeError } from "../../errors.ts";
import type { ContainerHeader } from "../../format/container.ts";
import { firstPageOf, pageHeaderBytes } from "../../format/wal/wal-page.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { addLoad, type KeyLoad } from "../../keyring/key-load.ts";
import { readWholeFile } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { parseSegmentHead, SEGMENT_HEAD_BYTES, type SegmentHead } from "../../wal/segment-head.ts";
import { type ArchivedKind, archivedKind } from "../../wal/wal-file-name.ts";
import { isStoredSegment, readStoredSegment } from "../wal-readable/read-stored.ts";
import { isSegmentName } from "../wal-readable/wal-folder.ts";
import type { ArchiveProblem, ArchiveProblemKind } from "./archive-report.ts";
import {
  archivedLimitBytes,
  beginsAsContainer,
  isOfPgWal,
  readArchivedWal,
  readSealedWal,
} from "./sealed-wal.ts";
import { clusterOf } from "./wal-source.ts";
import { segmentNamed } from "./timelines.ts";

export interface ListedArchive {
  /** Sorted. */
  readonly names: Readonly<Record<ArchivedKind, readonly BytePath[]>>;
  /** Segments that are not there, but their sidecars. */
  readonly lost: readonly BytePath[];
  readonly others: number;
}

/** @param folder - tde's own, which is passed over. */
export function listArchive(fs: FileSystem, archive: BytePath, folder: BytePath): ListedArchive {
  const names: Record<ArchivedKind, BytePath[]> = {
    segment: [],
    partial: [],
    history: [],
    backup: [],
  };
  const withSidecar: BytePath[] = [];
  let others = 0;
  for (const { name } of fs.readDirectory(archive)) {
    const kind = archivedKind(name);
    const segment = nameWithoutSidecarSuffix(name);
    if (kind !== undefined) names[kind].push(name);
    else if (segment !== undefined && isSegmentName(segment)) withSidecar.push(segment);
    else if (joinPath(archive, name) !== folder) others++;
  }
  for (const list of Object.values(names)) list.sort();
  const present = new Set([...names.segment, ...names.partial]);
  return { names, lost: withSidecar.filter((name) => !present.has(name)).sort(), others };
}

/** A segment that is whole, with what its first page says. */
export interface WholeSegment {
  readonly head: SegmentHead;
  readonly content: Buffer;
}

/** One that a server keeps to write to it later: empty, or still with what an earlier life of the file has left. */
export const SPARE = "spare";

/** What a file holds, and how. */
interface OpenedFile {
  readonly content: Buffer;
  /** Sealed by an archiver, which takes no spare segment. */
  readonly isArchived: boolean;
}

/** Opens files of one archive and keeps account of them. */
export class ArchiveFiles {
  readonly problems: ArchiveProblem[] = [];
  readonly keys: Map<number, KeyLoad> = new Map();
  /** In readable mode. */
  readonly stored: WalSegmentFiles[] = [];
  sealed = 0;
  plain = 0;
  spare = 0;
  bytes = 0;
  /** Of the archive's identity or, without one, of the first segment. */
  systemIdentifier: bigint | undefined;
  readonly #fs: FileSystem;
  readonly #archive: BytePath;
  readonly #dataKeys: DataKeys;
  readonly #allowPlain: boolean;
  /** It has the identity of one. */
  readonly #isArchive: boolean;
  /** It is the pg_wal of a data directory, or a copy, whose files are sealed as the files of that. */
  readonly #isPgWal: boolean;

  constructor(
    fs: FileSystem,
    archive: BytePath,
    options: {
      readonly keys: DataKeys;
      readonly allowPlain: boolean;
      readonly systemIdentifier: bigint | undefined;
      /** It holds nothing that an archiver has sealed, but what encrypt-datadir has. */
      readonly isCopyOfPgWal: boolean;
    },
  ) {
    this.#fs = fs;
    this.#archive = archive;
    this.#dataKeys = options.keys;
    this.#allowPlain = options.allowPlain;
    this.systemIdentifier = options.systemIdentifier;
    this.#isArchive = options.systemIdentifier !== undefined;
    this.#isPgWal = !this.#isArchive && (options.isCopyOfPgWal || isPgWal(fs, archive));
  }

  /** Looks at one file of the archive; what is wrong with that, or stands in the way, is noted as a problem. */
  look<T>(name: BytePath, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#take(error, name);
      return undefined;
    }
  }

  problem(kind: ArchiveProblemKind, name: BytePath, message: string): void {
    this.problems.push({ kind, name: displayPath(name), message });
  }

  /** The content of a file; undefined where it does not open, which is noted as a problem. */
  async read(name: BytePath): Promise<Buffer | undefined> {
    return (await this.#orProblem(name, () => this.#open(name)))?.content;
  }

  /** A segment's content, which is one of this cluster and of this place; undefined as for `read`. */
  async readSegment(name: BytePath): Promise<WholeSegment | typeof SPARE | undefined> {
    return await this.#orProblem(name, async () => {
      const { content, isArchived } = await this.#open(name);
      if (!isArchived && isSpare(content, name)) {
        this.spare++;
        return SPARE;
      }
      const head = parseSegmentHead(content, content.length, name, "it");
      this.#requireCluster(head.systemIdentifier);
      this.systemIdentifier ??= head.systemIdentifier;
      return { head, content };
    });
  }

  async #open(name: BytePath): Promise<OpenedFile> {
    const path = joinPath(this.#archive, name);
    const file = this.#fs.open(path);
    try {
      if (isStoredSegment(this.#fs, this.#archive, name)) return this.#openStored(name);
      if (!beginsAsContainer(file)) return this.#openPlain(name, path);
      const read = this.#isPgWal ? readSealedWal : readArchivedWal;
      const { header, content } = await read(file, this.#dataKeys);
      this.#requireCluster(header.systemIdentifier);
      addLoad(this.keys, header.keyId, { pages: 1, bytes: file.stat().sizeBytes });
      this.sealed++;
      this.bytes += content.length;
      return { content, isArchived: !this.#isPgWal };
    } finally {
      file.close();
    }
  }

  /** A segment in readable mode, with its sidecar. */
  #openStored(name: BytePath): OpenedFile {
    const stored = readStoredSegment(this.#fs, this.#archive, name, this.#dataKeys);
    this.#requireCluster(stored.files.identity.systemIdentifier);
    for (const [keyId, blocks] of stored.blocksByKey) {
      addLoad(this.keys, keyId, { pages: 1, bytes: blocks * WAL_PAGE_BYTES });
    }
    this.stored.push(stored.files);
    this.bytes += stored.segment.length;
    return { content: stored.segment, isArchived: false };
  }

  #openPlain(name: BytePath, path: BytePath): OpenedFile {
    const content = readWholeFile(this.#fs, path, archivedLimitBytes(name));
    if (content.length >= WAL_PAGE_BYTES && firstPageOf(content)?.isGuarded === true) {
      throw new IntegrityError("it is encrypted in readable mode, and its sidecar is missing");
    }
    this.plain++;
    if (!this.#isPlainByDesign(name)) this.problem("plain", name, "it is not encrypted");
    this.bytes += content.length;
    return { content, isArchived: false };
  }

  /**
   * Histories hold no rows, and "tde wal encrypt" leaves them as they are. Where files are sealed, they are, too: else
   * anybody could have put them there, and "tde wal restore" refuses them.
   */
  #isPlainByDesign(name: BytePath): boolean {
    if (this.#allowPlain) return true;
    return !isSegmentName(name) && !this.#isArchive && this.sealed === 0 && this.stored.length > 0;
  }

  #requireCluster(systemIdentifier: bigint): void {
    const wanted = this.systemIdentifier;
    if (wanted === undefined || systemIdentifier === 0n || systemIdentifier === wanted) return;
    throw new OtherCluster(`it is from cluster ${systemIdentifier}, not ${wanted}`);
  }

  async #orProblem<T>(name: BytePath, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#take(error, name);
      return undefined;
    }
  }

  #take(error: unknown, name: BytePath): void {
    if (!(error instanceof TdeError)) throw error;
    this.problem(kindOf(error), name, error.message);
  }
}

/** @param content - as a server left it. */
function isSpare(content: Buffer, name: BytePath): boolean {
  const start = content.subarray(0, SEGMENT_HEAD_BYTES);
  if (start.length === SEGMENT_HEAD_BYTES && start.every((byte) => byte === 0)) return true;
  if (content.length < WAL_PAGE_BYTES || pageHeaderBytes(content, 0) === 0) return false;
  const { high, low } = segmentNamed(name, content.readUInt32LE(WAL_PAGE_HEADER.segmentSize));
  const itsHigh = content.readUInt32LE(WAL_PAGE_HEADER.pageAddress + 4);
  const itsLow = content.readUInt32LE(WAL_PAGE_HEADER.pageAddress);
  return itsHigh < high || (itsHigh === high && itsLow < low);
}

function isPgWal(fs: FileSystem, folder: BytePath): boolean {
  // "." is one, too, in a data directory's pg_wal; and a pg_wal that is a link lies under another name.
  return [folder, fs.realPath(folder)].some(
    (path) => clusterOf(fs, joinPath(path, "segment")) !== undefined,
  );
}

/**
 * Whether all containers of a folder say that they were sealed in a pg_wal. Where one does not, it is an archive, in which
 * such a file has no business: "tde wal restore" refuses it.
 */
export function isCopyOfPgWal(
  fs: FileSystem,
  folder: BytePath,
  { names }: Pick<ListedArchive, "names">,
): boolean {
  let found = false;
  for (const name of Object.values(names).flat()) {
    const header = headerOf(fs, joinPath(folder, name));
    if (header === undefined) continue;
    if (!isOfPgWal(header)) return false;
    found = true;
  }
  return found;
}

/** Undefined for what is no container, or cannot be read: whoever opens it says why. */
function headerOf(fs: FileSystem, path: BytePath): ContainerHeader | undefined {
  try {
    return fs.stat(path)?.kind === "file" ? containerHeaderOf(fs, path) : undefined;
  } catch (error) {
    if (error instanceof TdeError) return undefined;
    throw error;
  }
}

class OtherCluster extends IntegrityError {}

function kindOf(error: TdeError): ArchiveProblemKind {
  if (error instanceof OtherCluster) return "cluster";
  if (error instanceof KeyError) return "key";
  if (error instanceof StorageError) return "unreadable";
  return error instanceof IntegrityError || error instanceof FormatError ? "tag" : "unreadable";
}
