/**
 * Removes new files that never took their places: what a crash or an error left of a batch that the journal does not
 * name. To be called only when every due step is done, or a file would be lost that is half in place.
 */
import { joinPath } from "../../bytes/byte-path.ts";
import type { Datadir } from "../../datadir/datadir.ts";
import { walkDatadir } from "../../datadir/walk.ts";
import type { FileSystem } from "../../storage/file-system.ts";

export function removeWorkingFiles(fs: FileSystem, datadir: Datadir): void {
  for (const { path, classification } of walkDatadir(fs, datadir.root, datadir)) {
    if (classification.class === "working") fs.remove(joinPath(datadir.root, path));
  }
}
