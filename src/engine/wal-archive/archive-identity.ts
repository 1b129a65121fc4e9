/**
 * Of which cluster an archive of WAL is: two clusters that write into one directory by mistake would overwrite or mix
 * what each needs for its recovery. The first segment that is archived leaves a small sealed file that says so.
 * Specified in docs/FORMAT.md, "Archive of WAL".
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { randomBytes } from "../../crypto/primitives.ts";
import { FormatError, IntegrityError } from "../../errors.ts";
import { readSealedFile, readSealedFileWithHeader, sealBytes } from "../../datadir/sealed-file.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { archiveFolder, createWhole, type NewFile, replaceWhole } from "./archive-folder.ts";

const IDENTITY_CONTEXT = "wal-archive:";
const ARCHIVE_ID_BYTES = 16;
const IDENTITY_MODE = 0o640;

export interface ArchiveIdentity {
  /** 32 hex digits, random. */
  readonly archiveId: string;
  readonly systemIdentifier: bigint;
  /** Under which the identity itself is. */
  readonly keyId: number;
}

/**
 * @returns undefined where no segment was archived yet, or the file was removed.
 * @throws {FormatError} {KeyError} {IntegrityError} when it does not open.
 */
export function readIdentity(
  fs: FileSystem,
  archive: BytePath,
  keys: DataKeys,
): ArchiveIdentity | undefined {
  const path = identityPath(archive);
  if (fs.stat(path) === undefined) return undefined;
  const { content, header } = readSealedFileWithHeader(fs, path, ARCHIVE_ID_BYTES, {
    keys,
    context: IDENTITY_CONTEXT,
  });
  if (content.length !== ARCHIVE_ID_BYTES) {
    throw new FormatError(`"${displayPath(path)}" holds no archive id`);
  }
  const { systemIdentifier, keyId } = header;
  return { archiveId: content.toString("hex"), systemIdentifier, keyId };
}

/**
 * The archive's identity, which is made where there is none.
 * @param joins - told when the archive begins to be written to under another key, before that is written down.
 * @throws {IntegrityError} when the archive is another cluster's.
 */
export async function establishIdentity(
  fs: FileSystem,
  archive: BytePath,
  keys: DataKeys,
  systemIdentifier: bigint,
  joins: (archiveId: string) => void | Promise<void>,
): Promise<void> {
  const found = readIdentity(fs, archive, keys);
  requireCluster(found, archive, systemIdentifier);
  if (found?.keyId === keys.currentKeyId) return;
  const archiveId = found?.archiveId ?? randomBytes(ARCHIVE_ID_BYTES).toString("hex");
  await joins(archiveId);
  const content = Buffer.from(archiveId, "hex");
  const options = { keys, systemIdentifier, context: IDENTITY_CONTEXT };
  const file: NewFile = {
    mode: IDENTITY_MODE,
    write: (to) => void sealBytes(content, to, options),
    isRight: (written) =>
      readSealedFile(fs, written.path, ARCHIVE_ID_BYTES, options).equals(content),
  };
  const path = identityPath(archive);
  const folder = archiveFolder(archive);
  if (found !== undefined) {
    await replaceWhole(fs, archive, path, file);
  } else if (!(await createWhole(fs, archive, path, file))) {
    // Another archiver was faster: that may have been another cluster's.
    requireCluster(readIdentity(fs, archive, keys), archive, systemIdentifier);
  }
  fs.syncDirectory(folder);
}

function requireCluster(
  found: ArchiveIdentity | undefined,
  archive: BytePath,
  systemIdentifier: bigint,
): void {
  if (found === undefined || found.systemIdentifier === systemIdentifier) return;
  throw new IntegrityError(
    `archive "${displayPath(archive)}" is of another cluster: its system identifier is ${found.systemIdentifier}, not ${systemIdentifier}`,
    { hint: "Give each cluster a directory of its own." },
  );
}

/** Of the container that says whose archive it is. */
export function identityPath(archive: BytePath): BytePath {
  return joinPath(archiveFolder(archive), "identity");
}
