/**
 * Opens a directory for verify, which looks at all of it whatever is wrong with one file: what cluster it is says the
 * manifest's copy of pg_control where the directory's own cannot be used.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir, openDatadirWith } from "../datadir/datadir.ts";
import { TdeError } from "../errors.ts";
import { type Manifest, openManifestWithoutKey } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { KeyContext } from "./context.ts";
import { hasManifest, manifestSource, openAuthenticManifest } from "./open-manifest.ts";

export interface OpenedToVerify {
  readonly datadir: Datadir;
  /** False where pg_control or PG_VERSION could not be used, and the manifest's copy stands for it. */
  readonly hasOwnControl: boolean;
}

/**
 * One odd file must not keep all others from being looked at, also where it is pg_control.
 * @throws as openDatadir where there is no manifest to go by.
 */
export function openToVerify(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): OpenedToVerify {
  try {
    return { datadir: openDatadir(fs, root), hasOwnControl: true };
  } catch (error) {
    if (!(error instanceof TdeError) || !hasManifest(fs, root)) throw error;
    let control: Buffer;
    try {
      ({ control } = openManifestFor(fs, root, keyContext).header);
    } catch {
      // Nothing is left to go by: the first error says why.
      throw error;
    }
    return { datadir: openDatadirWith(fs, root, control), hasOwnControl: false };
  }
}

/** The manifest, authenticated where there are keys to do it with. @throws as openManifest. */
export function openManifestFor(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): Manifest {
  return keyContext === undefined
    ? openManifestWithoutKey(manifestSource(fs, root), OWN_FILES.manifest)
    : openAuthenticManifest(fs, root, keyContext.keys);
}
