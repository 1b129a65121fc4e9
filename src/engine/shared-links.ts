/**
 * Two copies of one encrypted directory whose links lead to the same place: what is written through the links of one is
 * lost to the other. The links of a copy made by `cp -a` do so until someone points them elsewhere.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { HINT_OF_SHARED, isSameDirectory } from "../datadir/in-use.ts";
import { StateError, StorageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DirectoryMemory } from "./context.ts";
import { directoryIdAt } from "./remembered-place.ts";

/**
 * Before anything is written in place.
 * @throws {StateError} when this is another directory than one that was written to before, that one is still there, and a
 *   link of it leads to where one of this one leads.
 */
export function assertLinksOwn(
  fs: FileSystem,
  { realRoot, tablespaces, walTarget }: Datadir,
  { header }: Manifest,
  memory: DirectoryMemory,
): void {
  const ours = [
    ...tablespaces.map(({ path, realPath }) => ({ path, realPath })),
    ...(walTarget === undefined ? [] : [{ path: "pg_wal", realPath: walTarget }]),
  ];
  for (const other of memory.places(header.directoryId)) {
    if (isSame(fs, other, realRoot) || directoryIdAt(fs, other) !== header.directoryId) continue;
    for (const { path, realPath } of ours) {
      if (!isSame(fs, joinPath(other, path), realPath)) continue;
      throw new StateError(
        `${displayPath(path)} of "${displayPath(realRoot)}" and of "${displayPath(other)}" lead to the same place, "${displayPath(realPath)}"`,
        { hint: HINT_OF_SHARED },
      );
    }
  }
}

/** As far as this user may look: what is nobody's business here must not stand in the way. */
function isSame(fs: FileSystem, one: BytePath, other: BytePath): boolean {
  try {
    return isSameDirectory(fs, one, other);
  } catch (error) {
    if (error instanceof StorageError) return false;
    throw error;
  }
}
