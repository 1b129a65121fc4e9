/**
 * What a listing is made from: the relation files with their keys, and the catalog that names them. What the keys rest
 * on is said with them.
 */
import { type Catalog, openCatalog } from "../catalog/catalog.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { TdeError } from "../errors.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import { type Manifest, openManifestWithoutKey } from "../format/manifest.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { hasJournal } from "./run/directory-run.ts";
import {
  hasManifest,
  manifestSource,
  openAuthenticManifest,
  placesToJudge,
  whyNotCurrent,
} from "./open-manifest.ts";
import { readRelationFiles } from "./read-relation-files.ts";
import type { RelationFiles } from "./relation-files.ts";

/**
 * What key ids and page counts rest on. manifest: its MAC holds. unproved-manifest: there was no key to prove it.
 * sidecars: what the files say of themselves, unproved, where a run was interrupted or the manifest is missing. none:
 * nothing is encrypted.
 */
export type Evidence = "manifest" | "unproved-manifest" | "sidecars" | "none";

export interface ListingSources {
  readonly evidence: Evidence;
  readonly files: RelationFiles;
  /** Or why it cannot be read. */
  readonly catalog: Catalog | TdeError;
}

/**
 * @param keyContext - undefined: what is sealed cannot be read.
 * @throws {KeyError} {IntegrityError} when the manifest does not hold under the keys. @throws {FormatError}
 *   {StorageError}.
 */
export function readListingSources(
  { fs, notice }: Pick<EngineContext, "fs" | "notice">,
  datadir: Datadir,
  keyContext: KeyContext | undefined,
): ListingSources {
  const { root } = datadir;
  let manifest: Manifest | undefined;
  // While a run is unfinished, the manifest is of before it.
  if (hasManifest(fs, root) && !hasJournal(fs, root)) {
    manifest =
      keyContext === undefined
        ? openManifestWithoutKey(manifestSource(fs, root), OWN_FILES.manifest)
        : openAuthenticManifest(fs, root, keyContext.keys);
    const doubt =
      keyContext && whyNotCurrent(manifest, keyContext.memory, placesToJudge(fs, datadir.root));
    if (doubt !== undefined) notice(doubt);
  }
  const files = readRelationFiles(fs, datadir, manifest?.entries());
  const proved: ManifestHeader | undefined = keyContext && manifest?.header;
  const open = (): Catalog =>
    openCatalog(fs, datadir, { keys: keyContext?.keys, manifest: proved });
  return { evidence: evidenceOf(manifest, proved, files), files, catalog: orError(open) };
}

function evidenceOf(
  manifest: Manifest | undefined,
  proved: ManifestHeader | undefined,
  files: RelationFiles,
): Evidence {
  if (manifest !== undefined) return proved === undefined ? "unproved-manifest" : "manifest";
  return files.hasSealed ? "sidecars" : "none";
}

/** What `read` gives, or the expected error that it ends with. */
export function orError<T>(read: () => T): T | TdeError {
  try {
    return read();
  } catch (error) {
    if (error instanceof TdeError) return error;
    throw error;
  }
}
