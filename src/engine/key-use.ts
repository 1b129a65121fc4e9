/**
 * Whether an encrypted directory still needs a key: what stands between a key and its destruction.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { unfinishedRun } from "./datadir-lock.ts";
import { hasManifest, openAuthenticManifest } from "./open-manifest.ts";

/**
 * @throws {StateError} when the directory uses the key, is not encrypted, or has an unfinished run, of which nobody
 *   can say what it uses. @throws {IntegrityError} {KeyError} {FormatError} when its manifest proves nothing.
 */
export function assertKeyUnused(
  fs: FileSystem,
  root: BytePath,
  keys: DataKeys,
  keyId: number,
): void {
  unfinishedRun(fs, root, undefined);
  if (!hasManifest(fs, root)) {
    throw new StateError(`"${displayPath(root)}" is not encrypted: it has no manifest`, {
      hint: "Name encrypted directories with -D, or none.",
    });
  }
  const manifest = openAuthenticManifest(fs, root, keys);
  let files = manifest.header.keyId === keyId ? 1 : 0;
  for (const entry of manifest.entries()) {
    if (entry.keys.some((use) => use.keyId === keyId)) files++;
  }
  if (files === 0) return;
  throw new StateError(`key ${keyId} is used by ${files} files of "${displayPath(root)}"`, {
    hint: "Decrypt the directory and encrypt it again, under the current key, first.",
  });
}
