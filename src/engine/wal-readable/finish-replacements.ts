/**
 * Ends what a crash left between the two renames that put a stored segment in its place: the sidecar has its name, and
 * the segment that it is of still stands under its working name. Of a segment that was sealed anew that is the only one
 * which the sidecar opens.
 */
import { workingName } from "../../datadir/relation-path.ts";
import { openWalSegment, type WalFacts } from "../../datadir/wal-segment.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { WalFolder, WalSegment } from "./wal-folder.ts";

/** @returns whether there was anything to end. */
export function finishReplacements(fs: FileSystem, facts: WalFacts, folder: WalFolder): boolean {
  const due = folder.segments.filter((segment) => isDue(fs, facts, segment));
  if (due.length === 0) return false;
  // A run that was killed may not have come to that: the name of the sidecar must not be lost after the segment's.
  fs.syncDirectory(folder.path);
  for (const { path } of due) fs.rename(workingName(path), path);
  fs.syncDirectory(folder.path);
  return true;
}

/** A working file that was not written to its end, or is another's, does not authenticate. */
function isDue(fs: FileSystem, facts: WalFacts, { path, files }: WalSegment): boolean {
  const segment = workingName(path);
  const exists = (at: typeof path): boolean => fs.stat(at)?.kind === "file";
  if (!exists(segment) || exists(workingName(files.sidecar)) || !exists(files.sidecar))
    return false;
  if (fs.stat(segment)?.sizeBytes !== files.identity.relationSegment) return false;
  let isWhole = true;
  openWalSegment(fs, facts, { ...files, segment }, "tags", () => {
    isWhole = false;
  });
  return isWhole;
}
