/**
 * `tde wal restore`: one file of an archive back to where a server wants it. The file has its name only after its last
 * tag held: written beside it, synced, read back, renamed, the directory synced.
 */
import { type BytePath, directoryOf, displayPath, nameOf } from "../../bytes/byte-path.ts";
import { runningSha256 } from "../../crypto/primitives.ts";
import { plainAccess } from "../../datadir/plain-access.ts";
import { FormatError, IntegrityError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { fileParts, readUpTo, writeAll } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { notAsWritten } from "../../storage/read-back.ts";
import { SEGMENT_HEAD_BYTES } from "../../wal/segment-head.ts";
import { archivedKind } from "../../wal/wal-file-name.ts";
import { requireArchive } from "./archive-folder.ts";
import { archivedLimitBytes, beginsAsContainer, openArchivedWal } from "./sealed-wal.ts";
import { clusterOf, requireUnguarded } from "./wal-source.ts";

export interface RestoreRequest {
  /** The archive's path with %f at its end. */
  readonly source: BytePath;
  /** %p */
  readonly target: BytePath;
  /** Files that are not encrypted are copied; else they are refused: anybody could have put them there. */
  readonly allowPlain: boolean;
}

/** `missing`: the archive has no such file, which ends a recovery in the ordinary way. */
export type RestoreOutcome = "restored" | "restored-plain" | "missing";

/** One at a time: the server asks for one file after the other, under one name. */
const WORKING_SUFFIX = ".tdenew";

/** @throws {StateError} {FormatError} {KeyError} {IntegrityError} {StorageError}: the target is then as it was. */
export async function restoreWal(
  fs: FileSystem,
  keys: DataKeys,
  { source, target, allowPlain }: RestoreRequest,
): Promise<RestoreOutcome> {
  requireArchive(fs, directoryOf(source));
  // Servers ask for names that nobody ever archives, too.
  if (archivedKind(nameOf(source)) === undefined || fs.stat(source) === undefined) return "missing";
  const file = fs.open(source);
  try {
    const isSealed = beginsAsContainer(file);
    if (!isSealed && !allowPlain) {
      throw new IntegrityError(`"${displayPath(source)}" is not encrypted`, {
        hint: "Anybody could have put it there. If it was archived before tde was used, give --allow-plain.",
      });
    }
    if (!isSealed) {
      requireUnguarded(startOf(file), `"${displayPath(source)}"`);
      requirePossibleSize(file);
    }
    const cluster = clusterOf(fs, target);
    const content = isSealed ? openArchivedWal(file, keys, cluster).parts : fileParts(fs, source)();
    await writeWhole(fs, target, file.stat().mode, content);
    return isSealed ? "restored" : "restored-plain";
  } finally {
    file.close();
  }
}

/** Before anything of it is copied. @throws {FormatError} for what no server can have archived. */
function requirePossibleSize(file: OpenFile): void {
  const { sizeBytes } = file.stat();
  const limit = archivedLimitBytes(nameOf(file.path));
  if (sizeBytes <= limit) return;
  throw new FormatError(
    `"${displayPath(file.path)}" has ${sizeBytes} bytes, more than the ${limit} that it can have`,
  );
}

function startOf(file: OpenFile): Buffer {
  const start = Buffer.alloc(SEGMENT_HEAD_BYTES);
  readUpTo(file, start, 0, start.length, 0);
  return start;
}

async function writeWhole(
  fs: FileSystem,
  target: BytePath,
  mode: number,
  content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  const working = `${target}${WORKING_SUFFIX}` as BytePath;
  fs.remove(working);
  const access = plainAccess(fs, directoryOf(target));
  const to = fs.create(working, 0o600);
  // To open the source once more would take as long again: a digest of what came of it does.
  const hash = runningSha256();
  try {
    try {
      const made = to.stat();
      // The archive's mode counts for no more than the group's right to read, where the server's folder lets that be; and
      // what root restores belongs to whom the folder belongs to.
      const owner = made.uid === 0 ? { uid: access.uid, gid: access.gid } : {};
      to.setAttributes({ ...made, ...owner, mode: 0o600 | (mode & 0o040 & access.fileMode) });
      let position = 0;
      for await (const part of content) {
        hash.update(part);
        writeAll(to, part, 0, part.length, position);
        position += part.length;
      }
      to.sync();
    } finally {
      to.close();
    }
    const written = runningSha256();
    for (const part of fileParts(fs, working)()) written.update(part);
    if (!written.digest().equals(hash.digest())) throw notAsWritten(target);
    fs.rename(working, target);
  } catch (error) {
    removeQuietly(fs, working);
    throw error;
  }
  fs.syncDirectory(directoryOf(target));
}

/** What is decrypted already must not stay behind; the error matters more than whatever goes wrong here. */
function removeQuietly(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // The next restore removes it.
  }
}
