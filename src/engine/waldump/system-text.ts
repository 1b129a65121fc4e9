/**
 * The operating system's errors in the words of the C library, which PostgreSQL's tools print.
 */
import { StorageError } from "../../errors.ts";

const TEXTS: Readonly<Record<string, string>> = {
  EACCES: "Permission denied",
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ELOOP: "Too many levels of symbolic links",
  EMFILE: "Too many open files",
  ENAMETOOLONG: "File name too long",
  ENOENT: "No such file or directory",
  ENOSPC: "No space left on device",
  ENOTDIR: "Not a directory",
  EPERM: "Operation not permitted",
  EROFS: "Read-only file system",
};

/** Of a storage error; another one is thrown again. */
export function systemText(error: unknown): string {
  if (!(error instanceof StorageError)) throw error;
  return (error.errno && TEXTS[error.errno]) ?? error.errno ?? error.message;
}

/** Whether a storage error says that nothing has the name; another kind of error is thrown again. */
export function isMissing(error: unknown): boolean {
  if (!(error instanceof StorageError)) throw error;
  return error.errno === "ENOENT";
}
