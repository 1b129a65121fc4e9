/**
 * Takes away from the folders of a directory what nobody but its owner, and its group to read, may have: before the
 * first plaintext lies in them.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { walkDatadir } from "../datadir/walk.ts";
import type { FileSystem } from "../storage/file-system.ts";

/** @throws {StorageError} when a folder is somebody else's and cannot be taken from him. */
export function narrowFolders(fs: FileSystem, datadir: Datadir): void {
  const access = plainAccess(fs, datadir.root);
  for (const path of foldersOf(fs, datadir)) {
    const folder = fs.realPath(joinPath(datadir.root, path));
    const stat = fs.stat(folder);
    if (stat?.kind !== "directory") continue;
    const wanted = plainAttributes(stat, access, "directory");
    if (wanted.mode === stat.mode && wanted.uid === stat.uid && wanted.gid === stat.gid) continue;
    fs.setAttributes(folder, wanted);
    fs.syncDirectory(folder);
  }
}

/** The directory itself, every folder in it, and what pg_wal and the links of tablespaces lead to. */
function* foldersOf(fs: FileSystem, datadir: Datadir): Generator<BytePath> {
  yield "" as BytePath;
  for (const { path, classification } of walkDatadir(fs, datadir.root, datadir)) {
    const isFolder =
      classification.class === "directory" ||
      (classification.class === "link" && classification.followed);
    if (isFolder) yield path;
  }
}
