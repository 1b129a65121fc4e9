/**
 * What lies in a directory, by name: its databases, tablespaces, schemas or relations with sizes, and the keys that
 * they are under. It changes nothing and takes no lock. Only the catalog's files are read and decrypted; sizes are
 * those of the files themselves. It goes from database to database, and holds the names of one at a time.
 */
import { joinPath } from "../bytes/byte-path.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { type NamePart, quoteName } from "../catalog/name-pattern.ts";
import type { CatalogDatabase } from "../catalog/shared-catalogs.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { RelationFolder } from "../datadir/relation-path.ts";
import { TdeError } from "../errors.ts";
import { type Scope, scopeFilter, WHOLE_CLUSTER } from "../format/scope.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { namesIn } from "./catalog-names.ts";
import type { EngineContext } from "./context.ts";
import {
  byCodeUnits,
  type DatabaseListing,
  isSystem,
  kindOption,
  type ListedRelation,
  listedRelations,
  type SortKey,
  withoutName,
} from "./listed-relations.ts";
import { type ListedSum, sortSums, sumsBySchema } from "./listed-sums.ts";
import { type Evidence, type ListingSources, orError } from "./listing-sources.ts";
import { type RelationFiles, SumOfFiles } from "./relation-files.ts";
import { type ScopeSelection, selectsEverything } from "./scope-request.ts";
import { relationsOnDisk, selectScope } from "./select-scope.ts";

export interface ListRequest {
  /** What other commands would take with the same options. */
  readonly scope: ScopeSelection;
  /** Any of them; empty: all. */
  readonly schemas: readonly NamePart[];
  /** As `kindOption` has them, and `orphan`; empty: all that have files, and partitioned tables. */
  readonly kinds: readonly string[];
  /** The system's own relations, too. */
  readonly system: boolean;
  readonly sort: SortKey;
}

export class Listing {
  readonly evidence: Evidence;
  readonly files: RelationFiles;
  /** Undefined where no name can be read. */
  readonly catalog: Catalog | undefined;
  /** Why names of the whole cluster, or of single databases, cannot be read; grows while relations are listed. */
  readonly unreadable: TdeError[] = [];
  private readonly fs: FileSystem;
  private readonly notice: (message: string) => void;
  private readonly datadir: Datadir;

  constructor(
    { fs, notice }: Pick<EngineContext, "fs" | "notice">,
    datadir: Datadir,
    { evidence, files, catalog }: ListingSources,
  ) {
    this.fs = fs;
    this.notice = notice;
    this.datadir = datadir;
    this.evidence = evidence;
    this.files = files;
    if (catalog instanceof TdeError) {
      this.unreadable.push(catalog);
    } else {
      this.catalog = catalog;
      this.sayWhatNamesAreWorth(catalog);
    }
  }

  /**
   * Databases by name, in each its relations in the order that is asked for, then its orphans; last what is shared.
   * Once for each listing.
   * @throws {UsageError} for what is not there. @throws what made names unreadable, where only names can tell.
   */
  *relations(request: ListRequest): Generator<ListedRelation> {
    const needsNames = request.schemas.length + request.kinds.length > 0;
    if (needsNames) this.readableCatalog();
    const scope = this.scopeOf(request.scope);
    const databases = [...(this.catalog?.databases ?? [])];
    for (const database of databases.sort((a, b) => byCodeUnits(a.name, b.name))) {
      if (this.reaches(scope, database)) yield* this.relationsOf(database, request, scope);
    }
    yield* this.sharedRelations(request, scope);
    const oids = new Set([0, ...databases.map(({ oid }) => oid)]);
    const isElsewhere = ({ databaseOid }: RelationFolder): boolean => !oids.has(databaseOid);
    yield* this.filesAlone(isElsewhere, this.catalog !== undefined, request, scope);
  }

  /** All that lies in the folders of each database, or of each tablespace, whether it has a name or not. */
  folders(by: "database" | "tablespace", selection: ScopeSelection, sort: SortKey): ListedSum[] {
    const inScope = scopeFilter(this.scopeOf(selection));
    const known = by === "database" ? this.catalog?.databases : this.catalog?.tablespaces;
    const sums = new Map<number, { adder: SumOfFiles; relations: number }>();
    const sumOf = (oid: number): { adder: SumOfFiles; relations: number } => {
      const sum = sums.get(oid) ?? { adder: new SumOfFiles(), relations: 0 };
      sums.set(oid, sum);
      return sum;
    };
    if (selectsEverything(selection)) for (const { oid } of known ?? []) sumOf(oid);
    for (const { place, relations, sums: added } of this.files.sumsOfFolders()) {
      if (!inScope({ ...place, relfilenumber: 0 })) continue;
      const sum = sumOf(by === "database" ? place.databaseOid : place.tablespaceOid);
      sum.relations += relations;
      sum.adder.add(added);
    }
    const listed = [...sums].map(([oid, { adder, relations }]): ListedSum => {
      const name = known?.find((one) => one.oid === oid)?.name;
      return {
        ...adder.sums(),
        relations,
        oid,
        name: name === undefined ? undefined : quoteName(name),
        database: by === "database" ? this.catalog?.databaseByOid(oid) : undefined,
      };
    });
    return sortSums(listed, sort);
  }

  schemas(request: ListRequest): ListedSum[] {
    return sumsBySchema(this.relations({ ...request, sort: "oid" }), request.sort);
  }

  /** @throws why there is none. */
  private readableCatalog(): Catalog {
    const [error] = this.unreadable;
    if (this.catalog === undefined && error !== undefined) throw error;
    return this.catalog as Catalog;
  }

  private scopeOf(selection: ScopeSelection): Scope {
    if (selectsEverything(selection)) return WHOLE_CLUSTER;
    const names = namesIn(
      (question) => question(this.readableCatalog()),
      selection.withPartitions === true,
    );
    const known = relationsOnDisk(this.fs, this.datadir);
    return selectScope(known, selection, { names: () => names, limitBytes: undefined });
  }

  /** Whether anything of a database can be in scope, so that its catalog has to be read. */
  private reaches({ included }: Scope, { oid, tablespaceOid }: CatalogDatabase): boolean {
    if (included === "all") return true;
    return included.some((part) => {
      const [kind, numbers = ""] = part.split(":");
      if (kind === "database") return Number(numbers) === oid;
      if (kind === "relation") return Number(numbers.split("/")[1]) === oid;
      const tablespace = Number(numbers);
      return tablespace === tablespaceOid || this.files.hasFolder(tablespace, oid);
    });
  }

  private *relationsOf(
    database: CatalogDatabase,
    request: ListRequest,
    scope: Scope,
  ): Generator<ListedRelation> {
    const { oid: databaseOid, tablespaceOid, isInvalid } = database;
    const catalog = isInvalid
      ? undefined
      : orError(() => this.readableCatalog().relationsOf(database));
    if (catalog instanceof TdeError) {
      this.unreadable.push(catalog);
    } else if (catalog !== undefined) {
      const folder = { databaseOid, tablespaceOid };
      yield* listedRelations(this.listingOf({ catalog, shared: false }, request, scope, folder));
    }
    const isHere = (folder: RelationFolder): boolean => folder.databaseOid === databaseOid;
    yield* this.filesAlone(isHere, !(catalog instanceof TdeError), request, scope);
  }

  private *sharedRelations(request: ListRequest, scope: Scope): Generator<ListedRelation> {
    const catalog = orError(() => this.readableCatalog().relationsOfAnyDatabase());
    const isReadable = !(catalog instanceof TdeError);
    if (isReadable) {
      const folder = { databaseOid: 0, tablespaceOid: 0 };
      yield* listedRelations(this.listingOf({ catalog, shared: true }, request, scope, folder));
    }
    yield* this.filesAlone(({ databaseOid }) => databaseOid === 0, isReadable, request, scope);
  }

  /** @param folder - where a relation without files counts as being. */
  private listingOf(
    of: Pick<DatabaseListing, "catalog" | "shared">,
    { schemas, kinds, system, sort, scope: selection }: ListRequest,
    scope: Scope,
    folder: RelationFolder,
  ): DatabaseListing {
    const inScope = scopeFilter(scope);
    const takesSystem = system || schemas.length + selection.relations.length > 0;
    return {
      ...of,
      files: this.files,
      cluster: this.datadir,
      sort,
      isWanted: (relation, tableSchema) => {
        if (!takesSystem && isSystem(tableSchema)) return false;
        if (schemas.length > 0 && !schemas.some((one) => one.fits(tableSchema))) return false;
        const isOfKind =
          kinds.length > 0
            ? kinds.includes(kindOption(relation.kind))
            : relation.file !== undefined || relation.kind === "partitioned table";
        return isOfKind && inScope(relation.file ?? { ...folder, relfilenumber: 0 });
      },
    };
  }

  /** Files that no row of a catalog has claimed. @param isReadable - whether it could have. */
  private *filesAlone(
    isWanted: (folder: RelationFolder) => boolean,
    isReadable: boolean,
    { schemas, kinds }: ListRequest,
    scope: Scope,
  ): Generator<ListedRelation> {
    const remark = isReadable ? "orphan" : "unnamed";
    if (schemas.length > 0 || (kinds.length > 0 && !kinds.includes(remark))) return;
    const inScope = scopeFilter(scope);
    for (const sizes of this.files.unclaimed(isWanted)) {
      if (inScope(sizes.place)) yield withoutName(sizes, remark);
    }
  }

  private sayWhatNamesAreWorth({ mayBeStale }: Catalog): void {
    if (mayBeStale) {
      this.notice(
        "the server was not shut down cleanly: names are those of its last state on disk, which may be stale",
      );
    }
    const count = this.preparedTransactions();
    if (count > 0) {
      this.notice(
        `${count} prepared transaction${count > 1 ? "s are" : " is"} open: names are those without what it did, and files that it made are listed as orphans`,
      );
    }
  }

  /** A file each, named by the transaction. PostgreSQL: access/transam/twophase.c (TwoPhaseFilePath). */
  private preparedTransactions(): number {
    const folder = joinPath(this.datadir.root, "pg_twophase");
    if (this.fs.stat(folder)?.kind !== "directory") return 0;
    const files = this.fs.readDirectory(folder);
    return files.filter(({ name }) => /^(?:[0-9A-F]{8}){1,2}$/.test(name)).length;
  }
}
