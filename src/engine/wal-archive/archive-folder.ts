/**
 * What tde keeps in an archive of WAL beside the files that a server asks for: one folder, `tde.archive`. In it new
 * files are made before they get their names, and a file says of which cluster the archive is. Everything in it may be
 * lost: the next `tde wal archive` makes it anew.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../../bytes/byte-path.ts";
import { randomBytes } from "../../crypto/primitives.ts";
import { StateError, StorageError, TdeError } from "../../errors.ts";
import { secondsOf, type FileSystem, type OpenFile } from "../../storage/file-system.ts";
import { notAsWritten } from "../../storage/read-back.ts";

const FOLDER = "tde.archive";
const NEW_SUFFIX = ".new";
/** A file that nobody has written to for so long is left from an archiver that was killed. */
const ABANDONED_AFTER_SECONDS = 600;
/** What hard links fail with where a file system has none: POSIX's EPERM and what Linux, NFS, SMB and FUSE say. */
const NO_HARD_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL"]);

export function archiveFolder(archive: BytePath): BytePath {
  return joinPath(archive, FOLDER);
}

/** @throws {StateError} when there is no such directory: a mount that is missing must not look like an empty archive. */
export function requireArchive(fs: FileSystem, archive: BytePath): void {
  const kind = fs.statFollowing(archive)?.kind;
  if (kind === "directory") return;
  const what = kind === undefined ? "does not exist" : "is not a directory";
  throw new StateError(`archive "${displayPath(archive)}" ${what}`, {
    hint: "Make the directory, or mount it, and see that the server's user may write to it.",
  });
}

/** How a new file is made. */
export interface NewFile {
  readonly mode: number;
  /** Fills it. */
  readonly write: (file: OpenFile) => void | Promise<void>;
  /** Reads it back before it gets its name: synced, and opened anew. @returns whether it is what it should be. */
  readonly isRight: (file: OpenFile) => boolean | Promise<boolean>;
}

/**
 * Makes a file that appears whole under its own name, or not at all: written, synced and read back in tde's folder, then
 * linked.
 * A crash leaves the name free, or on the whole file.
 * @returns false where the name is taken; what is there is not touched.
 */
export async function createWhole(
  fs: FileSystem,
  archive: BytePath,
  path: BytePath,
  file: NewFile,
): Promise<boolean> {
  return await publish(fs, archive, path, file, (working) => giveName(fs, working, path));
}

/** As createWhole, for a file that takes the place of another. */
export async function replaceWhole(
  fs: FileSystem,
  archive: BytePath,
  path: BytePath,
  file: NewFile,
): Promise<void> {
  await publish(fs, archive, path, file, (working) => {
    fs.rename(working, path);
    return true;
  });
}

/** @param name - gives the new file its name; false where it may not have it. */
async function publish(
  fs: FileSystem,
  archive: BytePath,
  path: BytePath,
  file: NewFile,
  name: (working: BytePath) => boolean,
): Promise<boolean> {
  const working = await writeNew(fs, archive, path, file);
  try {
    if (!name(working)) return false;
  } finally {
    removeQuietly(fs, working);
  }
  fs.syncDirectory(archive);
  return true;
}

async function writeNew(
  fs: FileSystem,
  archive: BytePath,
  path: BytePath,
  { mode, write, isRight }: NewFile,
): Promise<BytePath> {
  const folder = prepareFolder(fs, archive);
  const random = randomBytes(8).toString("hex");
  const working = joinPath(folder, `${nameOf(path)}.${random}${NEW_SUFFIX}`);
  const file = fs.create(working, mode);
  try {
    try {
      await write(file);
      await fs.syncFiles([file]);
    } finally {
      file.close();
    }
    await readBack(fs, working, path, isRight);
  } catch (error) {
    removeQuietly(fs, working);
    throw error;
  }
  return working;
}

async function readBack(
  fs: FileSystem,
  working: BytePath,
  path: BytePath,
  isRight: NewFile["isRight"],
): Promise<void> {
  const file = fs.open(working);
  try {
    if (await isRight(file)) return;
  } catch (error) {
    if (!(error instanceof TdeError) || error instanceof StorageError) throw error;
    throw notAsWritten(path, error.message, error);
  } finally {
    file.close();
  }
  throw notAsWritten(path);
}

/** Several archivers may write the same name at once: the first link wins. */
function giveName(fs: FileSystem, working: BytePath, path: BytePath): boolean {
  try {
    fs.makeHardLink(working, path);
    return true;
  } catch (error) {
    if (!(error instanceof StorageError) || error.errno === undefined) throw error;
    if (error.errno === "EEXIST") return false;
    if (!NO_HARD_LINKS.has(error.errno)) throw error;
  }
  // Without links the look and the rename are two steps, as in PostgreSQL's basic_archive.
  if (fs.stat(path) !== undefined) return false;
  fs.rename(working, path);
  return true;
}

function prepareFolder(fs: FileSystem, archive: BytePath): BytePath {
  const folder = archiveFolder(archive);
  if (fs.stat(folder) === undefined) makeFolder(fs, archive, folder);
  removeAbandoned(fs, archive);
  return folder;
}

/** Removes what archivers left that were killed. */
export function removeAbandoned(fs: FileSystem, archive: BytePath): void {
  const folder = archiveFolder(archive);
  if (fs.stat(folder) === undefined) return;
  const oldest = Date.now() / 1000 - ABANDONED_AFTER_SECONDS;
  for (const { name } of fs.readDirectory(folder)) {
    if (!name.endsWith(NEW_SUFFIX)) continue;
    const path = joinPath(folder, name);
    // Should its archiver live after all, it finds its file gone, and the server calls it again.
    const stat = fs.stat(path);
    if (stat !== undefined && secondsOf(stat.modifyTimeNs) < oldest) fs.remove(path);
  }
}

function makeFolder(fs: FileSystem, archive: BytePath, folder: BytePath): void {
  try {
    fs.makeDirectory(folder, ((fs.statFollowing(archive)?.mode ?? 0) & 0o770) | 0o700);
  } catch (error) {
    if (error instanceof StorageError && error.errno === "EEXIST") return;
    throw error;
  }
  fs.syncDirectory(archive);
}

/** Cleans up after an error, which matters more than whatever goes wrong here. */
function removeQuietly(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // A later archiver removes it.
  }
}
