/**
 * Who may work on a folder of WAL: no server uses it, it is no part of an encrypted data directory, and no other tde
 * works on it.
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { OWN_FILES } from "../../datadir/classify.ts";
import { openDatadir } from "../../datadir/datadir.ts";
import { assertNotInUse } from "../../datadir/in-use.ts";
import { nameWithoutSidecarSuffix, replacedName } from "../../datadir/relation-path.ts";
import { StateError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { acquireLock, type Lock } from "../../storage/lock.ts";
import type { WalFolder } from "./wal-folder.ts";

/** @throws {StateError} when somebody else uses the folder. */
export function lockWalFolder(fs: FileSystem, folder: BytePath, command: string): Lock {
  assertNoServer(fs, folder);
  const what = `directory "${displayPath(folder)}"`;
  return acquireLock(fs, joinPath(folder, OWN_FILES.lock), { what, command });
}

/** A pg_wal is looked for beside its link, too. */
function assertNoServer(fs: FileSystem, folder: BytePath): void {
  for (const root of [joinPath(folder, ".."), directoryOf(folder)]) {
    if (fs.statFollowing(joinPath(root, "PG_VERSION")) !== undefined) assertFree(fs, folder, root);
  }
}

function assertFree(fs: FileSystem, folder: BytePath, root: BytePath): void {
  const owned = [OWN_FILES.manifest, OWN_FILES.journal];
  if (owned.some((name) => fs.stat(joinPath(root, name)) !== undefined)) {
    throw new StateError(`"${displayPath(folder)}" belongs to an encrypted data directory`, {
      hint: "Its WAL is encrypted and decrypted with the whole directory.",
    });
  }
  assertNotInUse(fs, openDatadir(fs, root), { assumeStopped: false });
}

/**
 * Removes what a run that was ended has left under working names, of the files of this run alone: of others nobody
 * has found out whether it is all that there is. What it renamed is made durable, before
 * anything is done that relies on it: of a plain segment beside its sidecar the sidecar is about to go.
 */
export function removeWorkingFiles(
  fs: FileSystem,
  { path, segments, sealedInPgWal }: WalFolder,
): void {
  const names = new Set([...segments, ...sealedInPgWal].map(({ name }) => name));
  for (const { name } of fs.readDirectory(path)) {
    const replaced = replacedName(name);
    if (replaced === undefined) continue;
    if (!names.has(nameWithoutSidecarSuffix(replaced) ?? replaced)) continue;
    fs.remove(joinPath(path, name));
  }
  fs.syncDirectory(path);
}
