/**
 * PostgreSQL's backup_manifest of a base backup that is encrypted: its original, which holds digests of plaintext, is
 * sealed as tde.backup_manifest, and a rewritten one with the facts of what now lies on disk takes its name, so that
 * stock pg_verifybackup passes. Of readable, missing and unlisted files it goes on saying what it said before; of sealed
 * files it says what is stored, whatever their plaintext was.
 *
 * Order: the sealed original is durable before anything else happens to backup_manifest; from then on it alone is the
 * original. The rewritten one is made from it, never from what stands under the name, and takes its place in one journal
 * entry with tde.manifest. So whenever a crash comes: without tde.backup_manifest the file is the original still; with
 * it, a run that goes on rewrites it once more.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import type { KeyObject } from "../crypto/primitives.ts";
import { BACKUP_MANIFEST, classify, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { nameWithoutSidecarSuffix, sidecarName } from "../datadir/relation-path.ts";
import {
  compareSealedFile,
  containerHeaderOf,
  sealFile,
  unsealedParts,
} from "../datadir/sealed-file.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { IntegrityError } from "../errors.ts";
import {
  type BackupManifest,
  type BackupManifestFile,
  openBackupManifest,
} from "../format/backup-manifest.ts";
import { fileContext } from "../format/container.ts";
import { newFileSalt } from "../format/file-salt.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { attributesAt, fileParts } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { writeDurably } from "./new-file.ts";
import type { FileToSum } from "./stored-facts.ts";

const SEALED = OWN_FILES["backup-manifest"];

/** Whether the original of a backup_manifest lies sealed in the directory. */
export function hasSealedBackupManifest(fs: FileSystem, root: BytePath): boolean {
  return fs.stat(joinPath(root, SEALED))?.kind === "file";
}

/**
 * Looks at backup_manifest before anything is written.
 * @param isEncrypted - whether the directory has a manifest of tde's.
 * @returns whether there is an original that is still to be sealed.
 * @throws {FormatError} {IntegrityError} when it cannot be rewritten later, or is no original.
 */
export function inspectBackupManifest(
  fs: FileSystem,
  datadir: Datadir,
  isEncrypted: boolean,
): boolean {
  const isSealed = hasSealedBackupManifest(fs, datadir.root);
  if (isSealed && !isEncrypted) {
    throw new IntegrityError(
      `"${SEALED}" is there, but neither a manifest nor an unfinished run that it could be of`,
      { hint: `Restore "${OWN_FILES.manifest}" from a backup of the encrypted directory.` },
    );
  }
  const isPending = !isSealed && fs.stat(joinPath(datadir.root, BACKUP_MANIFEST))?.kind === "file";
  if (isPending) assertOriginal(fs, datadir);
  return isPending;
}

/**
 * Seals the source's backup_manifest into `target`, durably, unless there is none or it has been done. Nothing takes
 * its name yet.
 * @throws {IntegrityError} when it is the rewritten one, whose original is gone.
 */
export function sealBackupManifest(
  fs: FileSystem,
  source: Datadir,
  target: BytePath,
  keys: DataKeys,
  saltKey: KeyObject,
): void {
  const path = joinPath(source.root, BACKUP_MANIFEST);
  const attributes = attributesAt(fs, path);
  if (attributes === undefined || hasSealedBackupManifest(fs, target)) return;
  assertOriginal(fs, source);
  const { systemIdentifier } = source.control;
  const context = fileContext(BACKUP_MANIFEST);
  const options = { keys, systemIdentifier, context };
  const fileSalt = newFileSalt(saltKey, SEALED);
  writeDurably(fs, target, {
    name: SEALED,
    attributes,
    write: (file) => void sealFile(fs, path, file, { ...options, fileSalt }),
    isRight: (sealed) => compareSealedFile(fs, sealed, path, options).same,
  });
}

/** The sealed original. @throws {IntegrityError} {KeyError} {FormatError} when it cannot be opened. */
export function openSealedBackupManifest(
  fs: FileSystem,
  datadir: Datadir,
  keys: DataKeys,
): BackupManifest {
  const { systemIdentifier } = datadir.control;
  const options = { keys, systemIdentifier, context: fileContext(BACKUP_MANIFEST) };
  const source = (): Iterable<Uint8Array> =>
    unsealedParts(fs, joinPath(datadir.root, SEALED), options);
  return openBackupManifest(source, `"${SEALED}"`);
}

/**
 * What the rewritten backup_manifest says anew: files that are sealed now, in the order of the original; then the
 * sidecars and tde's own files but the manifest, in the order of the walk.
 */
export function* filesToSum(
  fs: FileSystem,
  datadir: Datadir,
  original: BackupManifest,
): Generator<FileToSum> {
  for (const file of original.files()) {
    if (isSealedNow(fs, datadir, file)) yield { path: file.path, algorithm: file.algorithm };
  }
  const { algorithm } = original;
  for (const { path, classification } of walkDatadir(fs, datadir.root, datadir)) {
    if (isIgnored(path)) continue;
    const isOwn =
      classification.class === "own" &&
      (classification.file === "auto-conf" || classification.file === "backup-manifest");
    if (classification.class === "sidecar" || isOwn) yield { path, algorithm };
  }
}

/** What a list that is rewritten once more says anew: of the files in `changed`, and of their sidecars. */
export function* changedFiles(
  list: BackupManifest,
  changed: ReadonlySet<BytePath>,
): Generator<FileToSum> {
  for (const { path, algorithm } of list.files()) {
    if (isIgnored(path)) continue;
    if (changed.has(nameWithoutSidecarSuffix(path) ?? path)) yield { path, algorithm };
  }
}

/** pg_verifybackup looks at nothing below: such entries stay as they were, and none are added. */
function isIgnored(path: BytePath): boolean {
  return path.startsWith("pg_wal/");
}

function isSealedNow(fs: FileSystem, datadir: Datadir, { path }: BackupManifestFile): boolean {
  if (isIgnored(path)) return false;
  const absolute = joinPath(datadir.root, path);
  if (fs.stat(absolute)?.kind !== "file") return false;
  if (classify(path, "file", datadir).class === "relation") {
    return fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined;
  }
  return containerHeaderOf(fs, absolute)?.context === fileContext(path);
}

/** A backup_manifest that lists files of tde's is the rewritten one, or of a backup of an encrypted directory. */
function assertOriginal(fs: FileSystem, datadir: Datadir): void {
  const source = fileParts(fs, joinPath(datadir.root, BACKUP_MANIFEST));
  for (const { path } of openBackupManifest(source, `"${BACKUP_MANIFEST}"`).files()) {
    const { class: kind } = classify(path, "file", datadir);
    if (kind !== "own" && kind !== "sidecar") continue;
    throw new IntegrityError(
      `"${BACKUP_MANIFEST}" lists files of tde's, but its original, "${SEALED}", is missing`,
      { hint: "Restore both from a backup of the encrypted directory." },
    );
  }
}
