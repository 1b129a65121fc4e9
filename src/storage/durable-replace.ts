/**
 * Small files that are written whole: whoever reads sees the old content or the new one, never a mixture, and
 * what a call has written survives a power cut once the call has returned.
 *
 * Order of a replacement: new file beside the old one (mode and owner set before the content), write, fsync, read
 * back under its own name, rename, fsync of the directory. A crash before the rename leaves the old file and a `.new` file, which the
 * next replacement removes; after it, the new one.
 */
import { type BytePath, directoryOf, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import { writeAll } from "./file-io.ts";
import type { FileSystem, OpenFile } from "./file-system.ts";
import { holds, notAsWritten } from "./read-back.ts";

/** What a new version is called until it is complete. */
export const NEW_SUFFIX = ".new";

/**
 * Replaces the content of `path`, or creates it. A path that is a symbolic link is resolved: the file behind it
 * is replaced, the link stays. An existing file keeps its owner.
 * @param mode - of the new file, whatever the old one had.
 * The caller holds a lock on the file: two replacements at once would share the name of the new version.
 * @throws {StorageError} when the system refuses; the old content is then still there.
 */
export function replaceFileDurably(
  fs: FileSystem,
  path: BytePath,
  content: Uint8Array,
  mode: number,
): void {
  const target = resolveFile(fs, path);
  const next = `${target}${NEW_SUFFIX}` as BytePath;
  const old = fs.stat(target);
  fs.remove(next);
  const file = fs.create(next, mode);
  try {
    try {
      // Before the content: root replacing a file of postgres must not leave it unreadable to postgres.
      const made = file.stat();
      file.setAttributes({ ...made, mode, uid: old?.uid ?? made.uid, gid: old?.gid ?? made.gid });
      writeAndSync(file, content);
    } finally {
      file.close();
    }
    if (!holds(fs, next, content)) throw notAsWritten(target);
    fs.rename(next, target);
  } catch (error) {
    removeQuietly(fs, next);
    throw error;
  }
  fs.syncDirectory(directoryOf(target));
}

/**
 * Creates a file that must not exist yet, and reads it back. A crash before the return may leave it incomplete.
 * @throws {StateError} when the name is taken; what stands there is not touched. @throws {StorageError} also when it
 *   does not read as it was written: it is removed then.
 */
export function createFileDurably(
  fs: FileSystem,
  path: BytePath,
  content: Uint8Array,
  mode: number,
): void {
  if (fs.stat(path) !== undefined) {
    throw new StateError(`"${displayPath(path)}" exists already`, {
      hint: "Choose another name, or move the existing file away first.",
    });
  }
  const file = fs.create(path, mode);
  try {
    try {
      writeAndSync(file, content);
    } finally {
      file.close();
    }
    if (!holds(fs, path, content)) throw notAsWritten(path);
  } catch (error) {
    removeQuietly(fs, path);
    throw error;
  }
  fs.syncDirectory(directoryOf(path));
}

/**
 * The absolute path of a file that may not exist yet, without any link in it.
 * @throws {StorageError} when its directory does not exist, or when it is a link to nowhere.
 */
export function resolveFile(fs: FileSystem, path: BytePath): BytePath {
  if (fs.stat(path) !== undefined) return fs.realPath(path);
  return joinPath(fs.realPath(directoryOf(path)), nameOf(path));
}

function writeAndSync(file: OpenFile, content: Uint8Array): void {
  writeAll(file, content, 0, content.length, 0);
  file.sync();
}

/** Cleans up after an error, which matters more than whatever goes wrong here. */
function removeQuietly(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // The next replacement removes it.
  }
}
