/**
 * `tde wal archive`: one file of a server's WAL into an archive, compressed and sealed. What the server is told to be
 * archived is there, whole and durable, and was read back and held against the original; whatever else happens, the
 * archive has what it had before. Nothing is ever overwritten: PostgreSQL's documentation, "Setting Up WAL Archiving".
 *
 * Order: the new file in tde's own folder, sync and read back, a link under its name, sync of the directory. Killed in
 * between, the name is free or on the whole file, and the server calls again.
 *
 * Nothing is written down beside the keyring for each file: an archiver runs beside other tde commands, which must not
 * wait for it or it for them, and each container has a key of its own, so no count keeps anything safe. What keys an
 * archive needs is remembered when it begins to be written to under a key; how much is under each `tde wal verify` counts.
 */
import { type BytePath, directoryOf, displayPath, nameOf } from "../../bytes/byte-path.ts";
import { compressed } from "../../compression/stream.ts";
import { readSealedContent } from "../../datadir/sealed-content.ts";
import { containerHeaderOf, SealedFileWriter } from "../../datadir/sealed-file.ts";
import { StateError, UsageError } from "../../errors.ts";
import { type Compression, walContext } from "../../format/container.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { readExactly, readUpTo } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { createWhole, removeAbandoned, requireArchive } from "./archive-folder.ts";
import { establishIdentity } from "./archive-identity.ts";
import { WAL_FILE_LIMIT_BYTES } from "./sealed-wal.ts";
import { clusterOf, inspectWalFile, requireArchivedKind } from "./wal-source.ts";

export interface ArchiveRequest {
  /** %p */
  readonly source: BytePath;
  /** The archive's path with %f at its end. */
  readonly destination: BytePath;
  readonly compression: Compression;
}

export interface ArchiveContext {
  readonly fs: FileSystem;
  readonly keys: DataKeys;
  /** The archive begins to be written to under the current key. */
  readonly joins: (archive: BytePath, archiveId: string) => void | Promise<void>;
}

export interface ArchiveReport {
  /** already-archived: the same content is there. */
  readonly outcome: "archived" | "already-archived";
  readonly contentBytes: number;
}

/**
 * @throws {UsageError} {FormatError} {IntegrityError} when the file is not what a server archives, or not of this cluster.
 * @throws {StateError} when the name is taken by something else. @throws {KeyError} {StorageError}
 */
export async function archiveWal(
  { fs, keys, joins }: ArchiveContext,
  { source, destination, compression }: ArchiveRequest,
): Promise<ArchiveReport> {
  const name = nameOf(destination);
  requireArchivedKind(nameOf(source));
  if (name !== nameOf(source)) {
    throw new UsageError(
      `"${displayPath(destination)}" does not end with the file's own name, ${displayPath(nameOf(source))}`,
      { hint: 'A sealed file opens under its own name only. Give "ARCHIVE/%f".' },
    );
  }
  const archive = directoryOf(destination);
  requireArchive(fs, archive);
  const file = fs.open(source);
  try {
    const what = { name, where: `"${displayPath(source)}"` };
    const systemIdentifier = inspectWalFile(file, what, clusterOf(fs, source));
    const { sizeBytes: contentBytes, mode } = file.stat();
    const done = { outcome: "already-archived", contentBytes } as const;
    if (fs.stat(destination) !== undefined) {
      await requireSame(fs, keys, file, destination);
      removeAbandoned(fs, archive);
      return done;
    }
    if (systemIdentifier !== 0n) {
      await establishIdentity(fs, archive, keys, systemIdentifier, (id) => joins(archive, id));
    }
    const context = walContext(name);
    const created = await createWhole(fs, archive, destination, {
      mode: (mode & 0o640) | 0o600,
      write: async (to) => {
        const writer = new SealedFileWriter(to, {
          keys,
          systemIdentifier,
          context,
          contentSizeBytes: contentBytes,
          compression,
        });
        if (compression === "none") {
          const buffer = Buffer.allocUnsafe(SEALED_AT_ONCE);
          for (const part of partsOf(file, contentBytes, () => buffer)) writer.take(part);
        } else {
          // A compressor may still look at one part while it asks for the next.
          const parts = partsOf(file, contentBytes, () => Buffer.allocUnsafe(COMPRESSED_AT_ONCE));
          for await (const part of compressed(compression, parts)) writer.take(part);
        }
        writer.finish();
      },
      isRight: (written) => holdsContentOf(written, file, keys, name),
    });
    if (created) return { outcome: "archived", contentBytes };
    // Another archiver was faster.
    await requireSame(fs, keys, file, destination);
    return done;
  } finally {
    file.close();
  }
}

/** What is there is the same, and will be after a power cut: whoever wrote it may have been killed before its sync. */
async function requireSame(
  fs: FileSystem,
  keys: DataKeys,
  source: OpenFile,
  destination: BytePath,
): Promise<void> {
  const where = `"${displayPath(destination)}"`;
  if (fs.stat(destination)?.kind !== "file" || containerHeaderOf(fs, destination) === undefined) {
    throw new StateError(`${where} exists already, and is no sealed file`, {
      hint: "The archive has something else under this name. Look what it is, and move it away.",
    });
  }
  const there = fs.open(destination);
  try {
    if (!(await holdsContentOf(there, source, keys, nameOf(destination)))) {
      throw new StateError(`${where} exists already, with other content`, {
        hint: "Never overwrite it: two servers write into one archive, or the file comes from another life of this one.",
      });
    }
    there.sync();
  } finally {
    there.close();
  }
  fs.syncDirectory(directoryOf(destination));
}

/** Opens a container to its end, and holds what is in it against a plain file. */
async function holdsContentOf(
  container: OpenFile,
  plain: OpenFile,
  keys: DataKeys,
  name: BytePath,
): Promise<boolean> {
  let same = true;
  let buffer = Buffer.alloc(0);
  const { sizeBytes } = await readSealedContent(
    container,
    WAL_FILE_LIMIT_BYTES,
    { keys, context: walContext(name) },
    (part, offset) => {
      if (buffer.length < part.length) buffer = Buffer.alloc(part.length);
      const count = readUpTo(plain, buffer, 0, part.length, offset);
      same &&= count === part.length && buffer.subarray(0, count).equals(part);
    },
  );
  return same && sizeBytes === plain.stat().sizeBytes;
}

/** What is in the processor's cache when it is encrypted. */
const SEALED_AT_ONCE = 2 ** 18;
/** A block of LZ4. */
const COMPRESSED_AT_ONCE = 2 ** 20;

/** @param next - gives what to read a part into. */
function* partsOf(file: OpenFile, sizeBytes: number, next: () => Buffer): Generator<Uint8Array> {
  for (let offset = 0; offset < sizeBytes;) {
    const part = next().subarray(0, sizeBytes - offset);
    readExactly(file, part, 0, part.length, offset);
    yield part;
    offset += part.length;
  }
}
