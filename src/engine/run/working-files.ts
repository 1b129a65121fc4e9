/**
 * Removes new files that never took their places: what a crash or an error left of a batch that the journal does not
 * name. To be called only when every due step is done, or a file would be lost that is half in place.
 */
import { joinPath, nameOf } from "../../bytes/byte-path.ts";
import { CLAIM_NAME } from "../../datadir/classify.ts";
import type { Datadir } from "../../datadir/datadir.ts";
import { walkDatadir } from "../../datadir/walk.ts";
import type { FileSystem } from "../../storage/file-system.ts";

export function removeWorkingFiles(fs: FileSystem, datadir: Datadir): void {
  for (const { path, classification } of walkDatadir(fs, datadir.root, datadir)) {
    // A claim says whose the place of a tablespace is: it goes with the last steps of its run.
    if (classification.class === "working" && nameOf(path) !== CLAIM_NAME)
      fs.remove(joinPath(datadir.root, path));
  }
}
