/**
 * What the relations are called whose files a report or an error names. Names are looked up only then, so that a run
 * which finds nothing wrong reads no catalog; and a catalog that cannot be read or trusted gives none, and says why.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { RelationNames } from "../catalog/names.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { nameWithoutSidecarSuffix, parseRelationPath } from "../datadir/relation-path.ts";
import { TdeError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { type CatalogFacts, HeldCatalog } from "./catalog-names.ts";
import type { EngineContext } from "./context.ts";
import { openByManifest } from "./open-by-manifest.ts";
import { settledManifest } from "./open-manifest.ts";

/**
 * @param files - paths relative to the data directory, of any files, as messages have them.
 * @param sayWhyNot - called where names cannot be read: once for the cluster, or once for each such database.
 * @returns `shop.public.orders` by path; what is missing has no name, or none that can be trusted.
 */
export function namesOfFiles(
  engine: EngineContext,
  datadir: Datadir,
  facts: CatalogFacts,
  files: Iterable<string>,
  sayWhyNot: (reason: string) => void,
): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const ofRelations = [...new Set(files)].filter((file) => isOfRelation(file, datadir));
  if (ofRelations.length === 0) return names;
  const reasons: string[] = [];
  const explain = ({ message }: TdeError): void =>
    void reasons.push(`relations are not named, paths alone: ${message}`);
  try {
    new HeldCatalog(engine, datadir, facts).ask((catalog) => {
      const known = new RelationNames(datadir, () => catalog, explain);
      for (const file of ofRelations) {
        const name = known.nameOf(file as BytePath);
        if (name !== undefined) names.set(file, name);
      }
    });
  } catch (error) {
    if (!(error instanceof TdeError)) throw error;
    names.clear();
    reasons.length = 0;
    explain(error);
  }
  reasons.forEach(sayWhyNot);
  return names;
}

function isOfRelation(file: string, datadir: Datadir): boolean {
  const path = file as BytePath;
  return parseRelationPath(nameWithoutSidecarSuffix(path) ?? path, datadir) !== undefined;
}

/**
 * Puts the relation's name beside the file that an error is about, where there is one. Whatever goes wrong with that
 * leaves the error as it was.
 * @param root - of the data directory whose file it may be.
 */
export function nameRelationIn(
  error: TdeError,
  engine: EngineContext,
  keys: DataKeys | undefined,
  root: BytePath,
): void {
  if (error.file === undefined) return;
  try {
    const { datadir } = openByManifest(engine.fs, root, undefined);
    const file = withoutRoot(error.file, datadir);
    if (file === undefined || !isOfRelation(file, datadir)) return;
    const manifest = keys === undefined ? undefined : settledManifest(engine.fs, root, keys);
    const notice = (reason: string): void => {
      // An error of the catalog itself says so already.
      if (!reason.endsWith(error.message)) engine.notice(reason);
    };
    const name = namesOfFiles(engine, datadir, { keys, manifest }, [file], notice).get(file);
    if (name !== undefined) error.message = withName(error.message, error.file, name);
  } catch {
    // The first error is what counts.
  }
}

/** A file that an error of the file system names by its whole path. */
function withoutRoot(file: string, { root, realRoot }: Datadir): string | undefined {
  if (!file.startsWith("/") && !file.startsWith(before(root))) return file;
  const prefix = [before(root), before(realRoot)].find((one) => file.startsWith(one));
  return prefix === undefined ? undefined : file.slice(prefix.length);
}

function before(root: BytePath): string {
  return displayPath(joinPath(root, "_")).slice(0, -1);
}

/** `"base/5/16384" is missing` becomes `shop.public.orders ("base/5/16384") is missing`. */
function withName(message: string, file: string, name: string): string {
  for (const path of [`"${file}"`, file]) {
    const at = message.indexOf(path);
    if (at >= 0)
      return `${message.slice(0, at)}${name} (${path})${message.slice(at + path.length)}`;
  }
  return `${message} (${name})`;
}
