/**
 * Segments of WAL that a sync does not seal anew, although what follows them changes: the last CRC of a segment counts
 * what is stored in the next one, where a record goes on there.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { continuationBytes } from "../format/wal/wal-page.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { segmentsOf } from "./seal-wal.ts";
import type { SyncChanges } from "./sync-changes.ts";
import type { SyncPair } from "./sync-compare.ts";
import { carryIn } from "./wal-readable/crossing-record.ts";
import { goesThrough, readFirstPage } from "./wal-readable/segment-lead.ts";
import { neighbourOf } from "./wal-readable/wal-folder.ts";

/**
 * Adds to the changes what has to be done for those that stay: a CRC to write or, where a record was left whole because
 * its rest was not there, the segment. Whether an interrupted run came to write the CRC, nothing says.
 */
export function addCrossing(
  fs: FileSystem,
  { source, copy, resumed }: SyncPair,
  { segments: paths, changedSegments, crossingSegments, figures }: SyncChanges,
): void {
  const { walSegmentSizeBytes } = copy.control;
  const segments = segmentsOf(copy, paths);
  const firstPage = (root: BytePath, path: BytePath): Buffer =>
    withFile(fs, joinPath(root, path), readFirstPage);
  for (const segment of segments.toReversed()) {
    const { path, files } = segment;
    const next = neighbourOf(segments, segment, 1);
    if (next === undefined || changedSegments.has(path)) continue;
    if (!changedSegments.has(next.path) && !resumed) continue;
    if (continuationBytes(firstPage(source.root, next.path), 0) === 0) continue;
    // One may go through the segment: then the CRC is in an earlier one.
    const isSimple = !goesThrough(firstPage(copy.root, path), walSegmentSizeBytes);
    if (isSimple && carryIn(fs, files)?.trailing !== undefined) {
      crossingSegments.add(path);
    } else if (changedSegments.has(next.path)) {
      changedSegments.add(path);
      figures.wholeFiles++;
      figures.bytesToWrite += walSegmentSizeBytes;
    }
  }
}
