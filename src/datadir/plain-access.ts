/**
 * Who may read what is decrypted. Modes and owners of sealed files are kept, but nothing authenticates them: whoever can
 * write to the encrypted directory can open it to everybody, which costs nothing while it is ciphertext. So the directory
 * itself says who its owner is and whether its group may read, as it does to PostgreSQL, and no file or folder is opened to
 * anybody else. PostgreSQL: src/common/file_perm.c (SetDataDirectoryCreatePerm).
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import type { FileAttributes, FileStat, FileSystem } from "../storage/file-system.ts";

export interface PlainAccess {
  readonly uid: number;
  readonly gid: number;
  /** What of a file's mode is kept: its owner's bits and, where the directory lets its group in, the group's to read. */
  readonly fileMode: number;
  /** The same of a folder's, with the bit that hands the group on. */
  readonly folderMode: number;
}

/** The widest that a file or folder of a data directory ever has: PostgreSQL's group access. */
export const WIDEST_FILE_MODE = 0o740;
export const WIDEST_FOLDER_MODE = 0o2750;

const GROUP_ACCESS = 0o750;

/** @param root - of the data directory, or the folder of WAL. @throws {StateError} when it is gone. */
export function plainAccess(fs: Pick<FileSystem, "statFollowing">, root: BytePath): PlainAccess {
  const stat = fs.statFollowing(root);
  if (stat === undefined) throw new StateError("the directory is gone");
  const { mode, uid, gid } = stat;
  return (mode & GROUP_ACCESS) === GROUP_ACCESS
    ? { uid, gid, fileMode: WIDEST_FILE_MODE, folderMode: WIDEST_FOLDER_MODE }
    : { uid, gid, fileMode: 0o700, folderMode: 0o2700 };
}

/** The attributes of a plain file or folder whose sealed form has those of `like`. */
export function plainAttributes(
  like: FileAttributes,
  { uid, gid, fileMode, folderMode }: PlainAccess,
  kind: "file" | "directory" = "file",
): FileAttributes {
  const { accessTimeNs, modifyTimeNs, mode, extended } = like;
  const kept = kind === "file" ? fileMode : folderMode;
  return { mode: mode & kept, uid, gid, accessTimeNs, modifyTimeNs, extended };
}

/** Whether others than the owner of a data directory, and its group to read, can get at a file or folder. */
export function isWiderThanPlain({ kind, mode }: Pick<FileStat, "kind" | "mode">): boolean {
  return (mode & ~(kind === "directory" ? WIDEST_FOLDER_MODE : WIDEST_FILE_MODE)) !== 0;
}
