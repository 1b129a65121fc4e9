/**
 * The files of a data directory as the server wrote them, whether they are plain or sealed. Of a sealed file no byte
 * is handed out before its tag holds. What is sealed and what is not, the directory itself tells, as in an
 * encryption of some databases only; a manifest, where the caller has one, says what must be sealed.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { openRange } from "../datadir/open-relation.ts";
import { type RelationFiles, type RunFacts, slotCountOf } from "../datadir/relation-job.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { formatRelationPath, type RelationFile, sidecarName } from "../datadir/relation-path.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import { Chunk } from "../format/chunk.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import { isStoredChecksum, SEALED_PAGE_MARK } from "../format/page-message.ts";
import type { Problem } from "../format/problem.ts";
import { type ScopedRelation, scopeFilter } from "../format/scope.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import { readExactly, withFile } from "../storage/file-io.ts";
import type { FileReader, OpenFile } from "../storage/file-system.ts";

/** What opens sealed files. */
export interface Unsealing {
  /** Undefined: what is sealed cannot be read. */
  readonly keys?: DataKeys | undefined;
  /**
   * Of the directory's manifest, checked by the caller: its scope tells what must be sealed, its epoch how new a page
   * can be. Leave it out where a run was interrupted.
   */
  readonly manifest?: ManifestHeader | undefined;
}

/**
 * Takes one page.
 * @param page - valid until the call returns.
 * @param where - the block, for messages: `base/5/1259 block 3`.
 * @returns false to read no further.
 */
export type TakePage = (page: Buffer, where: string) => boolean;

const NO_LIMIT = 2n ** 64n - 1n;

export class StoredFiles {
  readonly fs: FileReader;
  readonly datadir: Datadir;
  private readonly unsealing: Unsealing;
  private chunk: Chunk | undefined;
  private busy = false;

  constructor(fs: FileReader, datadir: Datadir, unsealing: Unsealing) {
    this.fs = fs;
    this.datadir = datadir;
    this.unsealing = unsealing;
  }

  /**
   * Reads the main fork of a relation, a chunk of some 1 MB at a time: every whole page of every segment in turn.
   * @throws {KeyError} when it is sealed and the key is not at hand. @throws {IntegrityError} when a tag, or, where
   * the cluster has checksums, a checksum does not hold. @throws {StorageError} also when it is not there.
   */
  readPages(relation: ScopedRelation, take: TakePage): void {
    assert(!this.busy, "pages are read while others are being read");
    this.busy = true;
    try {
      const { blockSizeBytes, blocksPerSegment } = this.datadir.control;
      for (let relationSegment = 0; ; relationSegment++) {
        const file = { ...relation, fork: "main", relationSegment, backend: undefined } as const;
        const path = formatRelationPath(file, this.datadir);
        if (relationSegment > 0 && this.fs.stat(this.absolute(path)) === undefined) return;
        const read = this.readSegment(file, path, take);
        if (read.stopped || read.sizeBytes < blocksPerSegment * blockSizeBytes) return;
      }
    } finally {
      this.busy = false;
    }
  }

  private absolute(path: BytePath): BytePath {
    return joinPath(this.datadir.root, path);
  }

  private readSegment(
    file: RelationFile,
    path: BytePath,
    take: TakePage,
  ): { sizeBytes: number; stopped: boolean } {
    const { fs } = this;
    return withFile(fs, this.absolute(path), (stored) => {
      const { sizeBytes } = stored.stat();
      const sidecarPath = this.absolute(sidecarName(path));
      const isSealed = sizeBytes > 0 && fs.stat(sidecarPath) !== undefined;
      const stopped = isSealed
        ? withFile(fs, sidecarPath, (sidecar) =>
            this.readSealed({ file, path, stored, sizeBytes }, sidecar, take),
          )
        : this.readPlain({ file, path, stored, sizeBytes }, take);
      return { sizeBytes, stopped };
    });
  }

  private readPlain(segment: OpenSegment, take: TakePage): boolean {
    const { file, path, stored, sizeBytes } = segment;
    const { blockSizeBytes, dataChecksumVersion } = this.datadir.control;
    if (sizeBytes > 0 && this.mustBeSealed(file)) throw notSealed(path);
    const chunk = this.chunkOf();
    const blockCount = Math.floor(sizeBytes / blockSizeBytes);
    const segmentBlock = this.firstBlockOf(file);
    for (let first = 0; first < blockCount; first += chunk.slotCapacity) {
      const count = Math.min(chunk.slotCapacity, blockCount - first);
      readExactly(stored, chunk.data, 0, count * blockSizeBytes, first * blockSizeBytes);
      chunk.findZeroPages(count);
      chunk.checksumData(count, segmentBlock + first);
      for (let index = 0; index < count; index++) {
        const where = blockOf(path, segmentBlock + first + index);
        const page = pageOf(chunk, index);
        if (chunk.zero[index] !== 1) {
          const checksum = chunk.checksums[index] ?? 0;
          const storedChecksum = page.readUInt16LE(PAGE_HEADER.checksum);
          if (isMarked(page) && isStoredChecksum(storedChecksum, checksum)) {
            throw sidecarIsMissing(path);
          }
          if (dataChecksumVersion !== 0 && storedChecksum !== checksum) {
            throw new IntegrityError(`${where} fails its checksum`, DAMAGED);
          }
        }
        if (!take(page, where)) return true;
      }
    }
    return false;
  }

  private readSealed(segment: OpenSegment, sidecar: OpenFile, take: TakePage): boolean {
    const { file, path, stored, sizeBytes } = segment;
    const { blockSizeBytes } = this.datadir.control;
    const facts = this.runFacts(path);
    const files = this.relationFiles(file, path, sizeBytes);
    const chunk = this.chunkOf();
    const slotCount = slotCountOf(sizeBytes, blockSizeBytes);
    const segmentBlock = this.firstBlockOf(file);
    // No page is taken before all tags of its chunk held.
    const takeChunk = (firstSlot: number, dataBytes: number): boolean => {
      for (let index = 0; (index + 1) * blockSizeBytes <= dataBytes; index++) {
        const where = blockOf(path, segmentBlock + firstSlot + index);
        if (!take(pageOf(chunk, index), where)) return false;
      }
      return true;
    };
    for (let first = 0; first < slotCount; first += chunk.slotCapacity) {
      const range = {
        firstSlot: first,
        slotCount: Math.min(chunk.slotCapacity, slotCount - first),
      };
      const goOn = { wanted: true };
      openRange(
        chunk,
        facts,
        files,
        { sealed: stored, sidecar },
        range,
        { check: "tags" },
        stop,
        () => {},
        (firstSlot, dataBytes) => {
          goOn.wanted = takeChunk(firstSlot, dataBytes);
        },
      );
      if (!goOn.wanted) return true;
    }
    return false;
  }

  private mustBeSealed(file: RelationFile): boolean {
    const { manifest } = this.unsealing;
    return manifest !== undefined && scopeFilter(manifest.scope)(file);
  }

  private firstBlockOf({ relationSegment }: RelationFile): number {
    return relationSegment * this.datadir.control.blocksPerSegment;
  }

  private chunkOf(): Chunk {
    this.chunk ??= new Chunk(this.datadir.control.blockSizeBytes);
    return this.chunk;
  }

  private runFacts(path: BytePath): RunFacts {
    const { keys, manifest } = this.unsealing;
    if (keys === undefined) {
      throw new KeyError(`"${displayPath(path)}" is encrypted, and no keyring was given`, {
        hint: "Names of relations come with the keyring (--keyring or TDE_KEYRING). Paths work without it.",
      });
    }
    const { blockSizeBytes, dataChecksumVersion } = this.datadir.control;
    return {
      blockSizeBytes,
      dataChecksums: dataChecksumVersion !== 0,
      keys,
      keyringId: keys.keyringId,
      epoch: manifest?.epoch ?? NO_LIMIT,
    };
  }

  private relationFiles(file: RelationFile, path: BytePath, sizeBytes: number): RelationFiles {
    const sealed = this.absolute(path);
    const identity = identityOf(this.datadir, file);
    const sidecar = this.absolute(sidecarName(path));
    return { path, plain: sealed, sealed, sidecar, identity, sizeBytes };
  }
}

interface OpenSegment {
  readonly file: RelationFile;
  readonly path: BytePath;
  readonly stored: OpenFile;
  readonly sizeBytes: number;
}

const DAMAGED = {
  hint: "Names of relations cannot be read; paths still work. Restore the file from a backup.",
} as const;

function pageOf(chunk: Chunk, index: number): Buffer {
  return chunk.data.subarray(index * chunk.blockSizeBytes, (index + 1) * chunk.blockSizeBytes);
}

function isMarked(page: Buffer): boolean {
  return (page.readUInt16LE(PAGE_HEADER.flags) & SEALED_PAGE_MARK) !== 0;
}

function blockOf(path: BytePath, block: number): string {
  return `${displayPath(path)} block ${block}`;
}

function notSealed(path: BytePath): IntegrityError {
  return new IntegrityError(
    `"${displayPath(path)}" has no sidecar, but the manifest says that it is sealed`,
    DAMAGED,
  );
}

function sidecarIsMissing(path: BytePath): IntegrityError {
  return new IntegrityError(
    `"${displayPath(path)}" is sealed, but its sidecar is missing`,
    DAMAGED,
  );
}

/** Nothing of a chunk is used after its first problem. */
function stop({ kind, path, block, message }: Problem): never {
  const where = block === undefined ? path : `${path} block ${block}`;
  if (kind === "key") throw new KeyError(`${where}: ${message}`);
  throw new IntegrityError(`${where}: ${message}`, DAMAGED);
}
