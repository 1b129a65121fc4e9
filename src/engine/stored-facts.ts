/**
 * Sizes and checksums of stored files for backup_manifest: the workers sum them up, and a file beside the manifest
 * holds what they found until it is written, so that the memory does not grow with the number of files. That file has
 * no meaning after its run: a crash leaves it as a working file, which is removed.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { workingName } from "../datadir/relation-path.ts";
import { StateError } from "../errors.ts";
import type { BackupFileFacts, ChecksumAlgorithm } from "../format/backup-manifest-file.ts";
import { linesOf } from "../format/lines.ts";
import { escapePath, unescapePath } from "../format/manifest-path.ts";
import { fileParts, writeAll } from "../storage/file-io.ts";
import { secondsOf, type FileStat, type FileSystem } from "../storage/file-system.ts";
import { notAsWritten } from "../storage/read-back.ts";
import type { TaskRunner } from "../workers/runner.ts";
import { type Planned, runBatches } from "./batches.ts";
import { readableItem } from "./plan-items.ts";

export interface FileToSum {
  readonly path: BytePath;
  readonly algorithm: ChecksumAlgorithm;
}

export type StoredFacts = BackupFileFacts & { readonly path: BytePath };

/** Its name tells that it belongs to an unfinished run. */
const SPOOL = workingName("tde.sums" as BytePath);
/** An escaped path of 4095 bytes, and a few numbers. */
const LINE_LIMIT_BYTES = 16384;
const FLUSH_CHARACTERS = 65536;

export class StoredFactsFile {
  private readonly fs: FileSystem;
  private readonly path: BytePath;
  /** Of all that was written, to know it again. */
  private written: Buffer | undefined;

  constructor(fs: FileSystem, root: BytePath) {
    this.fs = fs;
    this.path = joinPath(root, SPOOL);
  }

  /** Sums up `files`, several at a time. @throws {StorageError} {StateError} when one of them cannot be read. */
  async fill(
    runner: TaskRunner,
    datadir: Datadir,
    files: Iterable<FileToSum>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { blockSizeBytes } = datadir.control;
    this.fs.remove(this.path);
    const spool = this.fs.create(this.path, 0o600);
    const hash = runningSha256();
    try {
      let text = "";
      let position = 0;
      const flush = (): void => {
        const bytes = Buffer.from(text, "latin1");
        hash.update(bytes);
        writeAll(spool, bytes, 0, bytes.length, position);
        position += bytes.length;
        text = "";
      };
      await runBatches<Found>(
        runner,
        this.plan(datadir, files),
        {
          blockSizeBytes,
          splitLarge: false,
          task: (items) => ({ kind: "checksum", items }),
          signal,
        },
        (done) => {
          for (const { extra, result } of done) {
            text += serializeFacts(extra, result?.backupChecksum);
            if (text.length >= FLUSH_CHARACTERS) flush();
          }
        },
      );
      flush();
      this.written = hash.digest();
    } finally {
      spool.close();
    }
  }

  /**
   * What `fill` found, in its order.
   * @throws {StorageError} at the end, when what was read is not what was written: nothing made of it may be used.
   */
  *read(): Generator<StoredFacts> {
    const hash = runningSha256();
    const lines = linesOf(fileParts(this.fs, this.path)(), SPOOL, LINE_LIMIT_BYTES);
    for (const { text, bytes } of lines) {
      hash.update(bytes);
      yield parseFacts(text);
    }
    if (this.written?.equals(hash.digest()) !== true) throw notAsWritten(SPOOL);
  }

  remove(): void {
    this.fs.remove(this.path);
  }

  private *plan(datadir: Datadir, files: Iterable<FileToSum>): Generator<Planned<Found>> {
    const places = { source: datadir.root, output: undefined };
    for (const { path, algorithm } of files) {
      const stat = this.fs.stat(joinPath(datadir.root, path));
      if (stat?.kind !== "file") {
        throw new StateError(`"${displayPath(path)}" is changing while tde works on it`);
      }
      const item =
        algorithm === "NONE"
          ? undefined
          : { ...readableItem(places, path, stat.sizeBytes), algorithm };
      yield { item, extra: { path, algorithm, stat } };
    }
  }
}

type Found = FileToSum & { readonly stat: FileStat };

function serializeFacts({ path, algorithm, stat }: Found, checksum: string | undefined): string {
  const fields = [
    escapePath(path),
    stat.sizeBytes,
    Math.floor(secondsOf(stat.modifyTimeNs)),
    algorithm,
  ];
  return `${fields.join("\t")}\t${checksum ?? ""}\n`;
}

function parseFacts(text: string): StoredFacts {
  const [path = "", size, time, algorithm, checksum] = text.split("\t");
  return {
    path: unescapePath(path, SPOOL),
    sizeBytes: Number(size),
    modifyTime: Number(time),
    algorithm: algorithm as ChecksumAlgorithm,
    checksum: checksum === "" ? undefined : checksum,
  };
}
