/**
 * The files of an archive: listed by what their names say, and each opened and judged by itself.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { nameWithoutSidecarSuffix } from "../../datadir/relation-path.ts";
import { FormatError, IntegrityError, KeyError, StorageError, TdeError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { addLoad, type KeyLoad } from "../../keyring/key-load.ts";
import { readWholeFile } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { parseSegmentHead, type SegmentHead } from "../../wal/segment-head.ts";
import { type ArchivedKind, archivedKind } from "../../wal/wal-file-name.ts";
import { isStoredSegment, readStoredSegment } from "../wal-readable/read-stored.ts";
import { isSegmentName } from "../wal-readable/wal-folder.ts";
import type { ArchiveProblem, ArchiveProblemKind } from "./archive-report.ts";
import { beginsAsContainer, readSealedWal, WAL_FILE_LIMIT_BYTES } from "./sealed-wal.ts";

export interface ListedArchive {
  /** Sorted. */
  readonly names: Readonly<Record<ArchivedKind, readonly BytePath[]>>;
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
  let others = 0;
  for (const { name } of fs.readDirectory(archive)) {
    const kind = archivedKind(name);
    if (kind !== undefined) names[kind].push(name);
    else if (joinPath(archive, name) !== folder && !isSidecar(name)) others++;
  }
  for (const list of Object.values(names)) list.sort();
  return { names, others };
}

function isSidecar(name: BytePath): boolean {
  return isSegmentName(nameWithoutSidecarSuffix(name) ?? "");
}

/** A segment that is whole, with what its first page says. */
export interface WholeSegment {
  readonly head: SegmentHead;
  readonly content: Buffer;
}

/** Opens files of one archive and keeps account of them. */
export class ArchiveFiles {
  readonly problems: ArchiveProblem[] = [];
  readonly keys: Map<number, KeyLoad> = new Map();
  plain = 0;
  bytes = 0;
  /** Of the archive's identity or, without one, of the first segment. */
  systemIdentifier: bigint | undefined;
  readonly #fs: FileSystem;
  readonly #archive: BytePath;
  readonly #dataKeys: DataKeys;
  readonly #allowPlain: boolean;

  constructor(
    fs: FileSystem,
    archive: BytePath,
    options: {
      readonly keys: DataKeys;
      readonly allowPlain: boolean;
      readonly systemIdentifier: bigint | undefined;
    },
  ) {
    this.#fs = fs;
    this.#archive = archive;
    this.#dataKeys = options.keys;
    this.#allowPlain = options.allowPlain;
    this.systemIdentifier = options.systemIdentifier;
  }

  problem(kind: ArchiveProblemKind, name: BytePath, message: string): void {
    this.problems.push({ kind, name: displayPath(name), message });
  }

  /** The content of a file; undefined where it does not open, which is noted as a problem. */
  async read(name: BytePath): Promise<Buffer | undefined> {
    return await this.#orProblem(name, async () => {
      const path = joinPath(this.#archive, name);
      const file = this.#fs.open(path);
      try {
        if (isStoredSegment(this.#fs, this.#archive, name)) return this.#readStored(name);
        if (!beginsAsContainer(file)) return this.#readPlain(name, path);
        const { header, content } = await readSealedWal(file, this.#dataKeys);
        this.#requireCluster(header.systemIdentifier);
        addLoad(this.keys, header.keyId, { pages: 1, bytes: file.stat().sizeBytes });
        this.bytes += content.length;
        return content;
      } finally {
        file.close();
      }
    });
  }

  /** A segment's content, which is one of this cluster and of this place; undefined as for `read`. */
  async readSegment(name: BytePath): Promise<WholeSegment | undefined> {
    const content = await this.read(name);
    if (content === undefined) return undefined;
    return await this.#orProblem(name, async () => {
      const head = parseSegmentHead(content, content.length, name, "it");
      this.#requireCluster(head.systemIdentifier);
      this.systemIdentifier ??= head.systemIdentifier;
      return { head, content };
    });
  }

  /** A segment in readable mode, with its sidecar. */
  #readStored(name: BytePath): Buffer {
    const stored = readStoredSegment(this.#fs, this.#archive, name, this.#dataKeys);
    this.#requireCluster(stored.systemIdentifier);
    for (const [keyId, blocks] of stored.blocksByKey) {
      addLoad(this.keys, keyId, { pages: 1, bytes: blocks * WAL_PAGE_BYTES });
    }
    this.bytes += stored.segment.length;
    return stored.segment;
  }

  #readPlain(name: BytePath, path: BytePath): Buffer {
    this.plain++;
    if (!this.#allowPlain) this.problem("plain", name, "it is not encrypted");
    const content = readWholeFile(this.#fs, path, WAL_FILE_LIMIT_BYTES);
    this.bytes += content.length;
    return content;
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
      if (!(error instanceof TdeError)) throw error;
      this.problem(kindOf(error), name, error.message);
      return undefined;
    }
  }
}

class OtherCluster extends IntegrityError {}

function kindOf(error: TdeError): ArchiveProblemKind {
  if (error instanceof OtherCluster) return "cluster";
  if (error instanceof KeyError) return "key";
  if (error instanceof StorageError) return "unreadable";
  return error instanceof IntegrityError || error instanceof FormatError ? "tag" : "unreadable";
}
