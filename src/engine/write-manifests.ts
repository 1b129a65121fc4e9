/**
 * The end of a run that seals: the proof, and the manifests that come of it. Where the directory is a base backup, two
 * manifests list each other: tde.manifest digests the rewritten backup_manifest, and that one lists tde.manifest by its
 * size alone, which the digest does not change. So first comes tde.manifest without it, a draft from which the size is
 * known; then backup_manifest; then tde.manifest with it.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import { BACKUP_MANIFEST, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { workingName } from "../datadir/relation-path.ts";
import { StateError } from "../errors.ts";
import { type BackupManifest, mutualSizes } from "../format/backup-manifest.ts";
import { type ManifestEntry, serializeEntry } from "../format/manifest-entry.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import {
  type Manifest,
  type ManifestSummary,
  ManifestWriter,
  openManifest,
} from "../format/manifest.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { attributesAt, fileParts, writeAll } from "../storage/file-io.ts";
import {
  secondsOf,
  type FileStat,
  type FileSystem,
  type OpenFile,
} from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { EngineContext } from "./context.ts";
import { isManifest } from "./manifest-file.ts";
import { writeNewFile } from "./new-file.ts";
import { type FileToSum, type StoredFacts, StoredFactsFile } from "./stored-facts.ts";

export interface ManifestOptions {
  readonly header: ManifestHeader;
  readonly keys: DataKeys;
}

/** What a new tde.manifest is made from. */
export interface ManifestProof<Report> {
  /** Writes it under `name`, durably, without a line for a backup_manifest that is rewritten. */
  writeManifest(runner: TaskRunner, name: BytePath): Promise<Report>;
  /** Undefined where backup_manifest is not rewritten; called after `writeManifest`. */
  readonly rewriting: (() => BackupRewriting) | undefined;
}

export interface BackupRewriting {
  readonly from: BackupManifest;
  /** Files whose facts changed, in the order of `from`; then those to be added to it. */
  readonly toSum: Iterable<FileToSum>;
}

export interface WrittenManifests<Report> {
  /** Its root is that of the draft, where there was one. */
  readonly proof: Report;
  /** 64 hex digits. */
  readonly root: string;
  /** Of a backup_manifest that was rewritten. */
  readonly backupManifestBytes: number | undefined;
  /** What lets the new files, which are synced, take their places: all of them in one entry of the journal. */
  readonly steps: readonly DueStep[];
}

/** Not a file of its own: only as a working name, which tells what is left of an unfinished run. */
const DRAFT = workingName("tde.draft.manifest" as BytePath);
const MANIFEST = workingName(OWN_FILES.manifest);
const REWRITTEN = workingName(BACKUP_MANIFEST);
const MANIFEST_STEP: DueStep = { action: "rename", from: MANIFEST, to: OWN_FILES.manifest };
const REWRITTEN_STEP: DueStep = { action: "rename", from: REWRITTEN, to: BACKUP_MANIFEST };

/**
 * Proves what lies on disk and writes tde.manifest and, where it is to be rewritten, backup_manifest under their
 * working names, durably.
 * @throws {IntegrityError} when something is not sealed as it should be. @throws {KeyError} {StorageError}.
 */
export async function writeManifests<Report extends { readonly root: string }>(
  engine: EngineContext,
  runner: TaskRunner,
  datadir: Datadir,
  options: ManifestOptions,
  proof: ManifestProof<Report>,
): Promise<WrittenManifests<Report>> {
  const { fs, signal } = engine;
  const { rewriting } = proof;
  if (rewriting === undefined) {
    const report = await proof.writeManifest(runner, MANIFEST);
    const { root } = report;
    return { proof: report, root, backupManifestBytes: undefined, steps: [MANIFEST_STEP] };
  }
  const report = await proof.writeManifest(runner, DRAFT);
  const draft = openDraft(fs, datadir, options);
  const { from, toSum } = rewriting();

  engine.progress.end();
  engine.progress.begin("checksumming", storedBytes(draft));
  const facts = new StoredFactsFile(fs, datadir.root);
  await facts.fill(runner, datadir, toSum, signal);

  const entry = writeBackupManifest(fs, datadir, { draft, original: from, facts });
  const root = writeFinalManifest(fs, datadir, options, draft, entry);
  facts.remove();
  fs.remove(joinPath(datadir.root, DRAFT));
  return {
    proof: report,
    root,
    backupManifestBytes: entry.sizeBytes,
    steps: [REWRITTEN_STEP, MANIFEST_STEP],
  };
}

interface Sources {
  readonly draft: Manifest;
  readonly original: BackupManifest;
  readonly facts: StoredFactsFile;
}

/** @returns its entry in tde.manifest. */
function writeBackupManifest(fs: FileSystem, datadir: Datadir, sources: Sources): ManifestEntry {
  const { root } = datadir;
  const path = joinPath(root, OWN_FILES["backup-manifest"]);
  const like = attributesAt(fs, path) ?? attributesOf(fs, root, OWN_FILES["backup-manifest"]);
  const modifyTime = secondsOf(attributesOf(fs, root, "PG_VERSION").modifyTimeNs);
  // Both sizes without the digits of the other's: one digit is there each time.
  const count = { path: OWN_FILES.manifest, sizeBytes: 0, modifyTime } as const;
  let withOneDigit = 0;
  for (const part of rewritten(sources, count)) withOneDigit += part.length;
  const sizes = mutualSizes(finalSize(sources.draft) - 1, withOneDigit - 1);

  let sizeBytes = 0;
  let digest = "";
  fs.remove(joinPath(root, REWRITTEN));
  writeNewFile(fs, joinPath(root, REWRITTEN), {
    name: BACKUP_MANIFEST,
    attributes: like,
    write: (file) => {
      const hash = runningSha256();
      for (const part of rewritten(sources, { ...count, sizeBytes: sizes.manifestBytes })) {
        hash.update(part);
        writeAll(file, part, 0, part.length, sizeBytes);
        sizeBytes += part.length;
      }
      digest = hash.digest().toString("hex");
    },
    isRight: (path) => digestOf(fs, path) === digest,
  });
  assert(
    sizeBytes === sizes.backupManifestBytes,
    "backup_manifest has another size than worked out",
  );
  return entryOf(sizeBytes, digest);
}

function digestOf(fs: FileSystem, path: BytePath): string {
  const hash = runningSha256();
  for (const part of fileParts(fs, path)()) hash.update(part);
  return hash.digest().toString("hex");
}

/** The new text of backup_manifest. */
function* rewritten(
  { original, facts }: Sources,
  manifest: { readonly path: BytePath; readonly sizeBytes: number; readonly modifyTime: number },
): Generator<Buffer> {
  const found = facts.read();
  let next = found.next();
  const take = (): StoredFacts => {
    assert(next.done !== true);
    const facts = next.value;
    next = found.next();
    return facts;
  };
  const added = function* (): Generator<StoredFacts> {
    while (next.done !== true) yield take();
    // Its checksum would depend on this file's: the format allows a size alone.
    yield { ...manifest, algorithm: "NONE", checksum: undefined };
  };
  try {
    yield* original.rewrite({
      changeOf({ path }) {
        // It is listed anew, behind all others.
        if (path === OWN_FILES.manifest) return "remove";
        // The facts come in the order of the original: what they do not name has not changed.
        return next.done !== true && next.value.path === path ? take() : "keep";
      },
      added: added(),
    });
  } finally {
    found.return(undefined);
  }
}

/** @returns the root, 64 hex digits. */
function writeFinalManifest(
  fs: FileSystem,
  { root }: Datadir,
  { header, keys }: ManifestOptions,
  draft: Manifest,
  added: ManifestEntry,
): string {
  const dek = dekFor(keys, header.keyringId, header.keyId, OWN_FILES.manifest);
  const like = attributesOf(fs, root, "PG_VERSION");
  let summary: ManifestSummary | undefined;
  const write = (file: OpenFile): void => {
    let position = 0;
    const writer = new ManifestWriter(header, dek, (text) => {
      writeAll(file, text, 0, text.length, position);
      position += text.length;
    });
    let isAdded = false;
    for (const entry of draft.entries()) {
      if (!isAdded && entry.path > added.path) {
        writer.add(added);
        isAdded = true;
      }
      writer.add(entry);
    }
    if (!isAdded) writer.add(added);
    summary = writer.finish();
    assert(
      summary.sizeBytes === finalSize(draft) - 1 + String(added.sizeBytes).length,
      "tde.manifest has another size than worked out",
    );
  };
  fs.remove(joinPath(root, MANIFEST));
  writeNewFile(fs, joinPath(root, MANIFEST), {
    name: OWN_FILES.manifest,
    attributes: like,
    write,
    isRight: (path) => summary !== undefined && isManifest(fs, path, keys, summary.root),
  });
  assert(summary !== undefined, "what was written has a root");
  return summary.root.toString("hex");
}

/** The size of tde.manifest with an entry of backup_manifest whose size has one digit. */
function finalSize({ sizeBytes, entryCount }: Manifest): number {
  const line = serializeEntry(entryOf(0, "0".repeat(64))).length;
  return sizeBytes + line + String(entryCount + 1).length - String(entryCount).length;
}

/** Backup tools leave it out, as they do the one of a restored cluster. */
function entryOf(sizeBytes: number, digest: string): ManifestEntry {
  const path = BACKUP_MANIFEST;
  return { path, class: "R", expendable: true, added: false, sizeBytes, keys: [], digest };
}

function openDraft(fs: FileSystem, { root }: Datadir, { keys }: ManifestOptions): Manifest {
  return openManifest(fileParts(fs, joinPath(root, DRAFT)), keys, DRAFT);
}

function storedBytes(draft: Manifest): number {
  let bytes = 0;
  for (const entry of draft.entries()) {
    if (entry.class !== "R" && entry.class !== "O") bytes += entry.sizeBytes;
  }
  return bytes;
}

function attributesOf(fs: FileSystem, root: BytePath, name: string): FileStat {
  const stat = fs.stat(joinPath(root, name));
  if (stat === undefined) throw new StateError(`"${name}" is gone`);
  return stat;
}
