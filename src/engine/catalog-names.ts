/**
 * What names of relations, databases and tablespaces stand for in a data directory, as its own catalog says: the parts
 * of a scope. A relation means all of its family, since its rows stand in its TOAST table and its indexes, too. In an
 * encrypted directory no name is used before the files that told it were held against the manifest.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { type Catalog, openCatalog } from "../catalog/catalog.ts";
import { findDatabases, findRelations, findTablespaces } from "../catalog/names.ts";
import { WitnessedFiles } from "../catalog/witnessed-files.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { StorageError, UsageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { ScopePart } from "../format/scope.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { EngineContext } from "./context.ts";
import type { ScopeNames } from "./select-scope.ts";

/** What it takes to read the catalog of a directory. */
export interface CatalogFacts {
  /** Undefined: names can be read only where the catalogs are plain. */
  readonly keys: DataKeys | undefined;
  /** What the catalog's files must be as; undefined where there is none, or a run was interrupted. */
  readonly manifest: Manifest | undefined;
}

export interface CatalogNamesOptions extends CatalogFacts {
  /** A relation means its partitions, too. */
  readonly withPartitions: boolean | undefined;
}

/** The catalog is opened when the first name is looked up, and then once. */
export function catalogNames(
  engine: EngineContext,
  datadir: Datadir,
  { withPartitions = false, ...facts }: CatalogNamesOptions,
): () => ScopeNames {
  let held: HeldCatalog | undefined;
  const ask: AskCatalog = (question) => {
    held ??= new HeldCatalog(engine, datadir, facts);
    return held.ask(question);
  };
  return () => namesIn(ask, withPartitions);
}

/** Opens the catalog when it is first asked. */
type AskCatalog = <T>(question: (catalog: Catalog) => T) => T;

export function namesIn(ask: AskCatalog, withPartitions: boolean): ScopeNames {
  return {
    partsOf: (kind, text) =>
      sayingThatPathsWork(() =>
        ask((catalog) => PARTS_OF[kind](catalog, nameFrom(text), withPartitions)),
      ),
  };
}

/** A catalog whose answers are given only after its files were held against the manifest, where there is one. */
export class HeldCatalog {
  private readonly witnessed: WitnessedFiles | undefined;
  private readonly manifest: Manifest | undefined;
  private readonly open: () => Catalog;
  private catalog: Catalog | undefined;

  constructor(
    { fs, notice }: Pick<EngineContext, "fs" | "notice">,
    datadir: Datadir,
    { keys, manifest }: CatalogFacts,
  ) {
    this.witnessed = manifest === undefined ? undefined : new WitnessedFiles(fs, datadir);
    this.manifest = manifest;
    // Without keys the manifest is hearsay, and would only stand in the way of what is plain.
    const header = keys === undefined ? undefined : manifest?.header;
    this.open = () => {
      const opened = openCatalog(this.witnessed ?? fs, datadir, { keys, manifest: header });
      if (opened.mayBeStale) {
        notice(
          "the server was not shut down cleanly: names are those of its last state on disk, which may be stale",
        );
      }
      return opened;
    };
  }

  /**
   * @throws as the catalog does, unless its files are not those of the manifest: then {IntegrityError}, for whatever
   * they seem to say may be what someone else put there.
   */
  ask<T>(question: (catalog: Catalog) => T): T {
    return sayingThatPathsWork(() => {
      try {
        this.catalog ??= this.open();
        return question(this.catalog);
      } finally {
        if (this.manifest !== undefined) this.witnessed?.assertAsIn(this.manifest);
      }
    });
  }
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
export function nameFrom(text: BytePath): string {
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
