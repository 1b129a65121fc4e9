/**
 * Writes in place what an entry of the journal keeps. Only files that nobody shares are written: one with several
 * hard links, which a snapshot made with `cp -al` has, first becomes a file of its own.
 *
 * Order: the entry is durable; then files are unshared, each by a synced copy that was read back and takes its name;
 * then the bytes are written, synced and read back. Doing any of it again, or all of it, comes to the same.
 */
import { type BytePath, directoryOf, joinPath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import {
  attributesAt,
  closeAll,
  fileParts,
  readUpTo,
  withFile,
  writeAll,
} from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import type { FilePatch } from "../../storage/journal.ts";
import { haveSameContent, notAsPatched, notAsWritten } from "../../storage/read-back.ts";

const READ_BYTES = 2 ** 18;

/** @returns the files that were written, open; the caller syncs and closes them, and requires what they then hold. */
export function applyPatches(
  fs: FileSystem,
  root: BytePath,
  patches: readonly FilePatch[],
): OpenFile[] {
  const files: OpenFile[] = [];
  try {
    for (const { path, sizeBytes, parts } of patches) {
      unshare(fs, root, path);
      const file = fs.openForWriting(joinPath(root, path));
      files.push(file);
      for (const { position, bytes } of parts) writeAll(file, bytes, 0, bytes.length, position);
      file.truncate(sizeBytes);
    }
    return files;
  } catch (error) {
    closeAll(files);
    throw error;
  }
}

/** As applyPatches, durably, one file after the other. */
export function carryOutPatches(
  fs: FileSystem,
  root: BytePath,
  patches: readonly FilePatch[],
): void {
  const files = applyPatches(fs, root, patches);
  try {
    for (const file of files) file.sync();
  } finally {
    closeAll(files);
  }
  requirePatched(fs, root, patches);
}

/** Reads back what was written, from files opened anew. @throws {StorageError} when it is not what it should be. */
export function requirePatched(
  fs: FileSystem,
  root: BytePath,
  patches: readonly FilePatch[],
): void {
  // A large file is patched part by part: where it grows or shrinks, only the last of them says how large it is now.
  const sizes = new Map(patches.map(({ path, sizeBytes }) => [path, sizeBytes]));
  for (const { path, parts } of patches) {
    const sizeBytes = sizes.get(path);
    withFile(fs, joinPath(root, path), (file) => {
      if (file.stat().sizeBytes !== sizeBytes) throw notAsPatched(path);
      for (const { position, bytes } of parts) {
        const found = Buffer.allocUnsafe(bytes.length);
        const count = readUpTo(file, found, 0, bytes.length, position);
        if (!found.subarray(0, count).equals(bytes)) throw notAsPatched(path);
      }
    });
  }
}

export function unshare(fs: FileSystem, root: BytePath, path: BytePath): void {
  const shared = joinPath(root, path);
  const stat = fs.stat(shared);
  if (stat === undefined || stat.linkCount < 2) return;
  const own = joinPath(root, workingName(path));
  fs.remove(own);
  const file = fs.create(own, 0o600);
  try {
    let position = 0;
    for (const bytes of fileParts(fs, shared)()) {
      writeAll(file, bytes, 0, bytes.length, position);
      position += bytes.length;
    }
    file.setAttributes(attributesAt(fs, shared) ?? stat);
    file.sync();
  } finally {
    file.close();
  }
  const buffers = [Buffer.allocUnsafe(READ_BYTES), Buffer.allocUnsafe(READ_BYTES)] as const;
  if (!haveSameContent(fs, shared, own, buffers)) throw notAsWritten(path);
  fs.rename(own, shared);
  fs.syncDirectory(directoryOf(shared));
}
