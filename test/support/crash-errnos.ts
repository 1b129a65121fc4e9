/**
 * Which errors a kernel can really return from each kind of call, so that every one of them is tried where it can
 * come, and none where it cannot. Sources: the ERRORS sections of POSIX.1-2024 and of Linux' manual pages; for close
 * and fsync also what NFS does, which writes there and finds the disk full.
 */

/** The calls of FileSystem and OpenFile, as a CrashDisk counts them. */
export type CallKind =
  | "stat"
  | "readDirectory"
  | "readLink"
  | "realPath"
  | "open"
  | "create"
  | "makeDirectory"
  | "makeLink"
  | "makeHardLink"
  | "rename"
  | "remove"
  | "removeDirectory"
  | "setAttributes"
  | "setLinkOwner"
  | "syncDirectory"
  | "freeBytes"
  | "read"
  | "write"
  | "truncate"
  | "sync"
  | "close";

export type Errno = "ENOSPC" | "EIO" | "EACCES" | "EMFILE" | "EINTR";

/**
 * EINTR stands where POSIX has it and tde makes the call again; not at close, which Node reports as done. EMFILE
 * stands where a descriptor is opened, be it for the length of the call alone.
 */
export const ERRNOS_OF: Readonly<Record<CallKind, readonly Errno[]>> = {
  stat: ["EIO", "EACCES"],
  readDirectory: ["EIO", "EACCES", "EMFILE", "EINTR"],
  readLink: ["EIO", "EACCES"],
  realPath: ["EIO", "EACCES"],
  open: ["EIO", "EACCES", "EMFILE", "EINTR"],
  create: ["ENOSPC", "EIO", "EACCES", "EMFILE", "EINTR"],
  makeDirectory: ["ENOSPC", "EIO", "EACCES"],
  makeLink: ["ENOSPC", "EIO", "EACCES"],
  makeHardLink: ["ENOSPC", "EIO", "EACCES"],
  rename: ["ENOSPC", "EIO", "EACCES"],
  // Copy-on-write file systems need room to remove, too.
  remove: ["ENOSPC", "EIO", "EACCES"],
  removeDirectory: ["ENOSPC", "EIO", "EACCES"],
  setAttributes: ["ENOSPC", "EIO", "EACCES", "EINTR"],
  setLinkOwner: ["ENOSPC", "EIO", "EACCES", "EINTR"],
  syncDirectory: ["ENOSPC", "EIO", "EACCES", "EMFILE", "EINTR"],
  freeBytes: ["EIO", "EACCES", "EINTR"],
  read: ["EIO", "EINTR"],
  write: ["ENOSPC", "EIO", "EINTR"],
  truncate: ["ENOSPC", "EIO", "EINTR"],
  sync: ["ENOSPC", "EIO", "EINTR"],
  close: ["ENOSPC", "EIO"],
};
