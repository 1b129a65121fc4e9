/**
 * Segments in pg_wal of a data directory: which can be sealed in readable mode, and what identifies them. The cluster
 * and the size of its segments are known here, from pg_control.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import { type FirstPage, firstPageOf } from "../format/wal/wal-page.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../wal/page-header.ts";
import { parseWalFileName } from "../wal/wal-file-name.ts";
import type { Datadir } from "./datadir.ts";
import { sidecarName } from "./relation-path.ts";
import { walIdentity, type WalSegmentFiles } from "./wal-segment.ts";

/** @param path - of class "wal", relative to the data directory. @param root - where its sealed form is, or will be. */
export function walFilesOf(
  { control }: Datadir,
  root: BytePath,
  path: BytePath,
): WalSegmentFiles | undefined {
  const segmentBytes = control.walSegmentSizeBytes;
  const place = parseWalFileName(nameOf(path), segmentBytes);
  if (place === undefined) return undefined;
  return {
    path,
    segment: joinPath(root, path),
    sidecar: joinPath(root, sidecarName(path)),
    identity: walIdentity(control.systemIdentifier, place, segmentBytes),
    place,
  };
}

/**
 * Whether a file of class "wal" without a sidecar is a segment that readable mode is for: whole, and of this cluster
 * or of none that it says. Anything else is content, whatever its name is; so is the WAL of 32-bit builds, of which not
 * every record is known.
 */
export function isPlainSegment(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  sizeBytes: number,
): boolean {
  const { systemIdentifier, walSegmentSizeBytes, is64Bit } = datadir.control;
  if (sizeBytes !== walSegmentSizeBytes || !is64Bit) return false;
  const found = readFirstPage(fs, joinPath(datadir.root, path))?.systemIdentifier;
  return found === undefined || found === systemIdentifier;
}

/** @throws {StateError} when a segment without a sidecar has the guard of sealed ones. */
export function assertNoGuard(fs: FileSystem, { root }: Datadir, path: BytePath): void {
  if (readFirstPage(fs, joinPath(root, path))?.isGuarded === true) {
    throw new StateError(`"${displayPath(path)}" is sealed already, but its sidecar is missing`, {
      file: displayPath(path),
      hint: "Restore the segment together with its sidecar (_tde) from a backup; nothing is ever encrypted twice.",
    });
  }
}

function readFirstPage(fs: FileSystem, path: BytePath): FirstPage | undefined {
  const page = Buffer.alloc(WAL_PAGE_BYTES);
  const count = withFile(fs, path, (file) => readUpTo(file, page, 0, page.length, 0));
  return count < page.length ? undefined : firstPageOf(page);
}
