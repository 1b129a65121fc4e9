/**
 * Gives the files and folders of an encrypted copy owner, mode and times of the source's, where they differ: also of
 * files whose content is the same, so that decrypting the copy gives back what a copy of the source would be. Times of
 * folders change with every file in them and are not followed. A file that a snapshot shares by a hard link keeps what
 * it has, since the snapshot would change with it.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { BACKUP_MANIFEST, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { closeAll } from "../storage/file-io.ts";
import type { FileStat, FileSystem, OpenFile } from "../storage/file-system.ts";

const SYNC_GROUP = 64;
/** A system on which times are set to the microsecond gives back somewhat less. */
const TIME_TOLERANCE_NS = 10_000n;

export async function copyAttributes(
  fs: FileSystem,
  source: Datadir,
  copy: Datadir,
): Promise<void> {
  let files: OpenFile[] = [];
  const settle = async (): Promise<void> => {
    const opened = files;
    files = [];
    try {
      await fs.syncFiles(opened);
    } finally {
      closeAll(opened);
    }
  };
  try {
    for (const { path, kind } of walkDatadir(fs, source.root, source)) {
      const original = fs.stat(joinPath(source.root, path));
      const target = joinPath(copy.root, placeInCopy(path));
      const found = fs.stat(target);
      if (original === undefined || found?.kind !== kind || isAlike(original, found)) continue;
      if (kind === "directory") {
        fs.setAttributes(target, original);
        fs.syncDirectory(target);
      } else if (kind === "file" && found.linkCount === 1) {
        const file = fs.open(target);
        files.push(file);
        // Of what was opened: another file may stand under the name by now, or the same one under two.
        const opened = file.stat();
        if (opened.kind === "file" && opened.linkCount === 1) file.setAttributes(original);
        if (files.length >= SYNC_GROUP) await settle();
      }
    }
    await settle();
  } finally {
    closeAll(files);
  }
}

/** The original of backup_manifest is kept elsewhere. */
function placeInCopy(path: BytePath): BytePath {
  return path === BACKUP_MANIFEST ? OWN_FILES["backup-manifest"] : path;
}

function isAlike(a: FileStat, b: FileStat): boolean {
  if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
  return a.kind === "directory" || distance(a.modifyTimeNs, b.modifyTimeNs) <= TIME_TOLERANCE_NS;
}

function distance(a: bigint, b: bigint): bigint {
  return a > b ? a - b : b - a;
}
