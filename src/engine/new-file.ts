/**
 * Single new files that the engine writes itself, beside those that workers write: guard, sealed originals, manifests,
 * pg_control. None can be written without saying how it is read back.
 */
import { type BytePath, directoryOf, joinPath } from "../bytes/byte-path.ts";
import { workingName } from "../datadir/relation-path.ts";
import type { FileAttributes, FileSystem, OpenFile } from "../storage/file-system.ts";
import { writeAll } from "../storage/file-io.ts";
import { holds, notAsWritten, readingBack } from "../storage/read-back.ts";

export interface NewFile {
  /** As the user knows it. */
  readonly name: BytePath;
  readonly attributes: FileAttributes;
  readonly write: (file: OpenFile) => void;
  /** Whether it is what it should be. @param path - to open it anew. @throws {TdeError} where it cannot be opened. */
  readonly isRight: (path: BytePath) => boolean;
}

/** A file of these bytes. */
export function fileOf(
  fs: FileSystem,
  name: BytePath,
  content: Uint8Array,
  attributes: FileAttributes,
): NewFile {
  return {
    name,
    attributes,
    write: (file) => writeAll(file, content, 0, content.length, 0),
    isRight: (path) => holds(fs, path, content),
  };
}

/** Writes a file beside the one that it replaces, syncs it, reads it back, renames it, syncs the directory. */
export function writeDurably(fs: FileSystem, root: BytePath, file: NewFile): void {
  const working = joinPath(root, workingName(file.name));
  fs.remove(working);
  writeNewFile(fs, working, file);
  fs.rename(working, joinPath(root, file.name));
  fs.syncDirectory(directoryOf(joinPath(root, file.name)));
}

/**
 * Creates a file, syncs its content, and reads it back; its name is durable once its directory is.
 * @throws {StorageError} also when it is not what it should be.
 */
export function writeNewFile(fs: FileSystem, path: BytePath, made: NewFile): void {
  const file = fs.create(path, 0o600);
  try {
    made.write(file);
    file.setAttributes(made.attributes);
    file.sync();
  } finally {
    file.close();
  }
  const isRight = readingBack(made.name, () => made.isRight(path));
  if (!isRight) throw notAsWritten(made.name);
}
