/**
 * What names of relations, databases and tablespaces stand for in a data directory, as its own catalog says: the parts
 * of a scope. A relation means all of its family, since its rows stand in its TOAST table and its indexes, too.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { type Catalog, openCatalog } from "../catalog/catalog.ts";
import { findDatabases, findRelations, findTablespaces } from "../catalog/names.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { StorageError, UsageError } from "../errors.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import type { ScopePart } from "../format/scope.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { EngineContext } from "./context.ts";
import type { ScopeNames } from "./select-scope.ts";

export interface CatalogNamesOptions {
  /** Undefined: names can be read only where the catalogs are plain. */
  readonly keys: DataKeys | undefined;
  /** Authenticated; undefined where there is none, or a run was interrupted. */
  readonly manifest: ManifestHeader | undefined;
  /** A relation means its partitions, too. */
  readonly withPartitions: boolean | undefined;
}

/** The catalog is opened when the first name is looked up, and then once. */
export function catalogNames(
  { fs, notice }: EngineContext,
  datadir: Datadir,
  { keys, manifest, withPartitions = false }: CatalogNamesOptions,
): () => ScopeNames {
  let catalog: Catalog | undefined;
  const open = (): Catalog => {
    const opened = openCatalog(fs, datadir, { keys, manifest });
    if (opened.mayBeStale) {
      notice(
        "the server was not shut down cleanly: names are those of its last state on disk, which may be stale",
      );
    }
    return opened;
  };
  return () =>
    namesIn(() => {
      catalog ??= open();
      return catalog;
    }, withPartitions);
}

/** @param open - called for every name. */
export function namesIn(open: () => Catalog, withPartitions: boolean): ScopeNames {
  return {
    partsOf: (kind, text) =>
      sayingThatPathsWork(() => PARTS_OF[kind](open(), nameFrom(text), withPartitions)),
  };
}

/** The other errors of the catalog say so themselves. */
function sayingThatPathsWork<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof StorageError) || error.hint !== undefined) throw error;
    throw new StorageError(error.message, {
      hint: "Names of relations cannot be read; paths still work.",
      cause: error,
      errno: error.errno,
    });
  }
}

/** The command line's bytes are UTF-8. */
function nameFrom(text: BytePath): string {
  return Buffer.from(text, "latin1").toString("utf8");
}

type PartsOf = (catalog: Catalog, name: string, withPartitions: boolean) => readonly ScopePart[];

const PARTS_OF: Readonly<Record<"tablespace" | "database" | "relation", PartsOf>> = {
  tablespace: (catalog, name) =>
    findTablespaces(catalog, name).map(({ oid }): ScopePart => `tablespace:${oid}`),
  database: (catalog, name) =>
    findDatabases(catalog, name).map(({ oid }): ScopePart => `database:${oid}`),
  relation: relationParts,
};

/** @throws {UsageError} also for a partitioned table alone, which has no rows of its own. */
function relationParts(catalog: Catalog, name: string, partitions: boolean): readonly ScopePart[] {
  const parts: ScopePart[] = [];
  for (const { database, relation } of findRelations(catalog, name)) {
    for (const { file } of catalog.relationsOf(database).familyOf(relation.oid, { partitions })) {
      if (file === undefined) continue;
      const { tablespaceOid, databaseOid, relfilenumber } = file;
      parts.push(`relation:${tablespaceOid}/${databaseOid}/${relfilenumber}`);
    }
  }
  if (parts.length > 0) return parts;
  throw new UsageError(`${name} is partitioned and has no files of its own`, {
    hint: "Its rows are in its partitions: give --with-partitions, or name them.",
  });
}
