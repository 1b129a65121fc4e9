/**
 * The original of global/pg_control, which the manifest keeps: whether the one in the directory is still it, and how it
 * comes back. Decryption goes by another one in no case.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { IntegrityError, StateError, StorageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import { CONTROL_FILE_BYTES, sameButForChecksums } from "../postgres/control-file.ts";
import type { FileAttributes, FileSystem } from "../storage/file-system.ts";
import { attributesAt } from "../storage/file-io.ts";
import { holds } from "../storage/read-back.ts";
import { fileOf, type NewFile, writeDurably } from "./new-file.ts";

/**
 * What was changed in pg_control since. Starting a server with it could mean pages without the checksums it expects.
 * @throws {StateError} {IntegrityError} where it was changed, and the user did not ask for the original.
 */
export function assertControl(
  fs: FileSystem,
  { control, controlBytes, root }: Datadir,
  manifest: Manifest,
  { restoreControl: restore }: { readonly restoreControl: boolean },
  notice: (message: string) => void,
): void {
  assertReplaceable(fs, root);
  const original = manifest.header.control;
  if (manifest.header.systemIdentifier !== control.systemIdentifier) {
    throw new IntegrityError("the manifest is of another cluster than global/pg_control", {
      hint: "Files of two clusters are mixed here. Restore the directory as a whole.",
    });
  }
  if (original.equals(controlBytes)) return;
  if (sameButForChecksums(original, controlBytes)) {
    notice(
      "pg_checksums --enable or --disable was run on the encrypted directory; global/pg_control is put back as it was",
    );
  } else if (!restore) {
    throw new StateError(
      `global/pg_control in "${displayPath(root)}" was changed since it was encrypted`,
      {
        hint: "The manifest keeps the original: give --restore-control to put it back.",
      },
    );
  }
}

/** A rename takes the place of anything but a folder. */
function assertReplaceable(fs: FileSystem, root: BytePath): void {
  if (fs.stat(joinPath(root, CONTROL_PATH))?.kind !== "directory") return;
  throw new StateError(`"${displayPath(joinPath(root, CONTROL_PATH))}" is a directory`, {
    hint: "Move it away: the original of the file comes back in its place.",
  });
}

/**
 * While the guard stands no server has run: what is in pg_control then is the original, or nobody's.
 * @returns whether there was something to restore.
 */
export function restoreControl(fs: FileSystem, root: BytePath, manifest: Manifest): boolean {
  if (isOriginal(fs, root, manifest)) return false;
  writeDurably(fs, root, originalControl(fs, root, manifest, root));
  return true;
}

/** Whether the file holds what it held, all 8192 bytes; false also where it cannot be read. */
export function isOriginal(fs: FileSystem, root: BytePath, manifest: Manifest): boolean {
  const path = joinPath(root, CONTROL_PATH);
  if (fs.stat(path)?.kind !== "file") return false;
  try {
    return holds(fs, path, contentOf(manifest));
  } catch (error) {
    if (error instanceof StorageError) return false;
    throw error;
  }
}

/**
 * @param from - the directory whose file's owner and mode it gets.
 * @param to - the data directory that it is written into.
 */
export function originalControl(
  fs: FileSystem,
  from: BytePath,
  manifest: Manifest,
  to: BytePath,
): NewFile {
  const attributes = plainAttributes(attributesIn(fs, from), plainAccess(fs, to));
  return fileOf(fs, CONTROL_PATH, contentOf(manifest), attributes);
}

function contentOf(manifest: Manifest): Buffer {
  const content = Buffer.alloc(CONTROL_FILE_BYTES);
  manifest.header.control.copy(content);
  return content;
}

/** Where it is gone, those of PG_VERSION, which every server writes with the same mode. */
function attributesIn(fs: FileSystem, root: BytePath): FileAttributes {
  for (const name of [CONTROL_PATH, "PG_VERSION"]) {
    const attributes = attributesAt(fs, joinPath(root, name));
    if (attributes !== undefined) return attributes;
  }
  throw new StateError("global/pg_control and PG_VERSION are gone");
}
