/**
 * The proof of a rotation and the manifest that comes of it. It looks at what now lies on disk: each file that was
 * sealed anew must be of this run alone, every slot and MAC of it under the run's key and of its epoch. Of all other
 * files the new manifest goes on saying what the one before said: a rotation vouches for nothing that it did not read.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import { BACKUP_MANIFEST } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { IntegrityError } from "../errors.ts";
import { openBackupManifest } from "../format/backup-manifest.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import type { Manifest } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyLoad, KeyLoads } from "../keyring/key-load.ts";
import { fileParts } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { ItemResult } from "../workers/tasks.ts";
import { changedFiles, hasSealedBackupManifest } from "./backup-manifest.ts";
import { type Planned, runBatches } from "./batches.ts";
import { addEntryLoad } from "./directory-load.ts";
import { writeManifestFile } from "./manifest-file.ts";
import { type RotationFile, rotationFiles } from "./rotation-files.ts";
import type { RotationSelection } from "./rotation-selection.ts";
import type { BackupRewriting, ManifestProof } from "./write-manifests.ts";

export interface RotationProofReport {
  /** 64 hex digits. */
  readonly root: string;
  /** Sealed anew. */
  readonly files: number;
  readonly bytes: number;
  /** What each key protects in the directory now. */
  readonly load: KeyLoads;
  /** Of that, what this run wrote. */
  readonly written: KeyLoads;
}

export interface RotationProofOptions {
  readonly header: ManifestHeader;
  readonly keys: DataKeys;
  /** Of the manifest that is to be replaced. */
  readonly before: Manifest;
  readonly selection: RotationSelection;
  /** Key ids that this run sealed under: one, or two when a new key was made while it was interrupted. */
  readonly runKeys: ReadonlySet<number>;
  /** The run was stopped by a file that cannot be opened: what is as it was goes on as it was. */
  readonly isCutShort: boolean;
  readonly signal: AbortSignal | undefined;
}

export class RotationProof implements ManifestProof<RotationProofReport> {
  readonly rewriting: (() => BackupRewriting) | undefined;
  private readonly fs: FileSystem;
  private readonly datadir: Datadir;
  private readonly options: RotationProofOptions;
  private readonly load: Map<number, KeyLoad> = new Map();
  private readonly written: Map<number, KeyLoad> = new Map();
  private files = 0;
  private bytes = 0;
  /** Sealed anew, kept where a backup_manifest lists them. */
  private readonly changed: Set<BytePath> = new Set();
  /** The digest of backup_manifest, as the manifest of before has it. */
  private listDigest: string | undefined;

  constructor(fs: FileSystem, datadir: Datadir, options: RotationProofOptions) {
    this.fs = fs;
    this.datadir = datadir;
    this.options = options;
    const hasList =
      hasSealedBackupManifest(fs, datadir.root) &&
      fs.stat(joinPath(datadir.root, BACKUP_MANIFEST))?.kind === "file";
    this.rewriting = hasList ? () => this.rewriteList() : undefined;
  }

  /** @throws {IntegrityError} when a file is not of this run, and not as it was where the run was cut short. */
  async writeManifest(runner: TaskRunner, name: BytePath): Promise<RotationProofReport> {
    const { fs, datadir, options } = this;
    const { before, selection, signal } = options;
    // What stays as it was, where the run was cut short, may be damaged: the manifest goes on saying what it said.
    const readBefore = { files: "of-run", pages: "sample" } as const;
    const { blockSizeBytes } = datadir.control;
    const root = await writeManifestFile(fs, datadir.root, name, options, (writer) =>
      runBatches<RotationFile>(
        runner,
        planned(rotationFiles(fs, datadir, before, selection)),
        {
          blockSizeBytes,
          splitLarge: true,
          task: (items) => ({ kind: "check", depth: "macs", readBefore, items }),
          signal,
        },
        (done) => {
          for (const { extra, result } of done) {
            const entry = this.entryOf(extra, result);
            if (entry === undefined) continue;
            addEntryLoad(this.load, entry, blockSizeBytes);
            writer.add(entry);
          }
        },
      ),
    );
    const { files, bytes, load, written } = this;
    return { root, files, bytes, load, written };
  }

  /** The line of the new manifest; undefined where there is none. */
  private entryOf(file: RotationFile, result: ItemResult | undefined): ManifestEntry | undefined {
    const { entry } = file;
    if (file.do === "drop") return undefined;
    if (entry.path === BACKUP_MANIFEST && this.rewriting !== undefined) {
      this.listDigest = entry.digest;
      return undefined;
    }
    if (file.do === "keep" || result === undefined) return entry;
    if (result.digest === entry.digest && this.options.isCutShort) return entry;
    this.assertOfThisRun(file, result);
    const keys = [...(result.keys ?? [])]
      .map(([keyId, count]) => ({ keyId, count }))
      .sort((a, b) => a.keyId - b.keyId);
    const next = { ...entry, keys, digest: result.digest };
    this.files++;
    this.bytes += entry.sizeBytes;
    addEntryLoad(this.written, next, this.datadir.control.blockSizeBytes);
    if (this.rewriting !== undefined) this.changed.add(entry.path);
    return next;
  }

  private assertOfThisRun({ entry }: RotationFile, result: ItemResult): void {
    const { runKeys } = this.options;
    const others = [...(result.keys ?? [])]
      .map(([keyId]) => keyId)
      .filter((id) => !runKeys.has(id));
    const why =
      result.problems?.[0]?.message ??
      (result.digest === entry.digest ? "it was not sealed anew" : undefined) ??
      (others.length > 0 ? `it still names key ${others.join(", ")}` : undefined) ??
      ((entry.class === "P" || entry.class === "W") && result.newestPages !== result.pages
        ? "it holds pages that this run did not write"
        : undefined);
    if (why === undefined) return;
    throw new IntegrityError(`${displayPath(entry.path)} is not sealed as it should be: ${why}`, {
      file: displayPath(entry.path),
      hint: "Run the same command again. If it fails again, restore this file and its sidecar from a backup.",
    });
  }

  private rewriteList(): BackupRewriting {
    const source = fileParts(this.fs, joinPath(this.datadir.root, BACKUP_MANIFEST));
    const hash = runningSha256();
    for (const part of source()) hash.update(part);
    if (hash.digest().toString("hex") !== this.listDigest) throw listWasChanged();
    const from = openBackupManifest(source, `"${BACKUP_MANIFEST}"`);
    return { from, toSum: changedFiles(from, this.changed) };
  }
}

function listWasChanged(): IntegrityError {
  return new IntegrityError(`"${BACKUP_MANIFEST}" was changed since the directory was encrypted`, {
    hint: "Restore it from a backup of the encrypted directory.",
  });
}

function* planned(files: Iterable<RotationFile>): Generator<Planned<RotationFile>> {
  for (const file of files) {
    yield { item: file.do === "reseal" ? file.item : undefined, extra: file };
  }
}
