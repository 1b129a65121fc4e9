/**
 * Which keys an encrypted directory needs: what stands between a key and its destruction.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { openDatadir } from "../datadir/datadir.ts";
import { StateError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { KeyLoads } from "../keyring/key-load.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { KeyContext } from "./context.ts";
import { unfinishedRun } from "./run/datadir-lock.ts";
import { directoryLoad } from "./directory-load.ts";
import {
  hasManifest,
  openAuthenticManifest,
  placesToJudge,
  whyNotCurrent,
} from "./open-manifest.ts";

/** What a directory says of itself, by a manifest whose MAC holds. */
export interface DirectoryKeyUse {
  readonly directoryId: string;
  readonly epoch: bigint;
  /** 64 hex digits. */
  readonly root: string;
  readonly path: BytePath;
  /** Of the manifest itself. */
  readonly manifestKeyId: number;
  readonly load: KeyLoads;
  /** Why this may not be the newest state of it. */
  readonly doubt: string | undefined;
}

/**
 * @throws {StateError} when the directory is not encrypted, or has an unfinished run, of which nobody can say what it
 *   uses. @throws {IntegrityError} {KeyError} {FormatError} when its manifest proves nothing.
 */
export function directoryKeyUse(
  fs: FileSystem,
  root: BytePath,
  { keys, memory }: KeyContext,
): DirectoryKeyUse {
  const datadir = openDatadir(fs, root);
  const manifest = finishedManifest(fs, root, { keys, memory });
  const { directoryId, epoch, keyId } = manifest.header;
  return {
    directoryId,
    epoch,
    root: manifest.root.toString("hex"),
    path: datadir.realRoot,
    manifestKeyId: keyId,
    load: directoryLoad(manifest, datadir.control.blockSizeBytes),
    doubt: whyNotCurrent(manifest, memory, placesToJudge(fs, datadir.root)),
  };
}

/**
 * @throws {StateError} when the directory uses the key; as directoryKeyUse otherwise.
 */
export function assertKeyUnused(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext,
  keyId: number,
): void {
  const manifest = finishedManifest(fs, root, keyContext);
  let files = manifest.header.keyId === keyId ? 1 : 0;
  for (const entry of manifest.entries()) {
    if (entry.keys.some((use) => use.keyId === keyId)) files++;
  }
  if (files === 0) return;
  throw new StateError(`key ${keyId} is used by ${files} files of "${displayPath(root)}"`, {
    hint: `Run "tde rotate --from-key ${keyId} -D ${displayPath(root)}" first.`,
  });
}

function finishedManifest(fs: FileSystem, root: BytePath, { keys, memory }: KeyContext): Manifest {
  unfinishedRun(fs, root, undefined, memory);
  if (hasManifest(fs, root)) return openAuthenticManifest(fs, root, keys);
  throw new StateError(`"${displayPath(root)}" is not encrypted: it has no manifest`, {
    hint: "Name encrypted directories with -D, or none.",
  });
}
