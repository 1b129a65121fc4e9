/**
 * Which keys an archive of WAL or a folder of encrypted segments needs, as its files themselves say: what stands between
 * a key and its destruction where no manifest tells. Nothing of it is proved, and no file is opened with a key.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { nameWithoutSidecarSuffix } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { StateError } from "../errors.ts";
import { WAL_SIDECAR_PAGE_BYTES } from "../format/wal/wal-slot.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { archivedKind } from "../wal/wal-file-name.ts";
import { readUsedSlots } from "./stored-key-use.ts";
import { identityPath } from "./wal-archive/archive-identity.ts";

/** Files with anything under each key id. */
export type WalKeyUse = ReadonlyMap<number, number>;

/** Whether a directory is one of WAL, and no data directory. */
export function holdsWal(fs: FileSystem, folder: BytePath): boolean {
  if (fs.statFollowing(folder)?.kind !== "directory") return false;
  if (fs.stat(joinPath(folder, "PG_VERSION")) !== undefined) return false;
  if (fs.stat(identityPath(folder)) !== undefined) return true;
  return fs.readDirectory(folder).some(({ name }) => archivedKind(name) !== undefined);
}

/** @throws {StorageError} when a file cannot be read: then nobody can say which keys it needs. */
export function walKeyUse(fs: FileSystem, folder: BytePath): WalKeyUse {
  const files = new Map<number, number>();
  const count = (keyIds: Iterable<number>): void => {
    for (const keyId of keyIds) files.set(keyId, (files.get(keyId) ?? 0) + 1);
  };
  const paths = fs
    .readDirectory(folder)
    .filter(({ name, kind }) => kind === "file" && isOfWal(name))
    .map(({ name }) => joinPath(folder, name));
  const identity = identityPath(folder);
  if (fs.stat(identity) !== undefined) paths.push(identity);
  for (const path of paths) {
    const header = containerHeaderOf(fs, path);
    if (header !== undefined) count([header.keyId]);
    else if (nameWithoutSidecarSuffix(path) !== undefined) count(keysOfSidecar(fs, path));
  }
  return files;
}

/** @throws {StateError} when anything in it is under the key. */
export function assertKeyUnusedInWal(fs: FileSystem, folder: BytePath, keyId: number): void {
  const files = walKeyUse(fs, folder).get(keyId) ?? 0;
  if (files === 0) return;
  throw new StateError(`key ${keyId} is used by ${files} files of "${displayPath(folder)}"`, {
    hint: `Run "tde rotate --wal ${displayPath(folder)} --from-key ${keyId}" first.`,
  });
}

function isOfWal(name: BytePath): boolean {
  return archivedKind(nameWithoutSidecarSuffix(name) ?? name) !== undefined;
}

function keysOfSidecar(fs: FileSystem, path: BytePath): ReadonlySet<number> {
  const keyIds = new Set<number>();
  const page = Buffer.alloc(WAL_SIDECAR_PAGE_BYTES);
  withFile(fs, path, (file) => readUsedSlots(file, page, ({ keyId }) => keyIds.add(keyId)));
  return keyIds;
}
