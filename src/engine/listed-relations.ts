/**
 * The relations of one database beside their files: each row of the catalog claims its own, what is left over is an
 * orphan. Holds numbers and one sort key for each relation, and makes everything else one by one.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type {
  CatalogRelation,
  DatabaseCatalog,
  RelationKind,
} from "../catalog/database-catalog.ts";
import { relationName, SYSTEM_SCHEMA } from "../catalog/names.ts";
import type { CatalogDatabase } from "../catalog/shared-catalogs.ts";
import { type ClusterVersion, formatRelationPath } from "../datadir/relation-path.ts";
import type { ScopedRelation } from "../format/scope.ts";
import {
  type FileSums,
  type RelationFiles,
  type RelationSizes,
  shareOf,
} from "./relation-files.ts";

export type SortKey = "name" | "size" | "pages" | "share" | "oid";

/** no-file: the catalog has it, but its file is gone. orphan: no row of the catalog has it. unnamed: no name can be read. */
export type Remark = "no-file" | "orphan" | "unnamed";

export interface ListedRelation extends FileSums {
  /** `shop.public.orders`, quoted where it must be; undefined where only files are known. */
  readonly name: string | undefined;
  /** Undefined for shared relations, and where names cannot be read. */
  readonly database: CatalogDatabase | undefined;
  readonly relation: CatalogRelation | undefined;
  /** Of the table that it belongs to; its own for all others. */
  readonly tableSchema: string | undefined;
  /** Undefined for what has no files, such as a view. */
  readonly place: ScopedRelation | undefined;
  /** As pg_relation_filepath tells it: of the main fork's first segment. */
  readonly path: BytePath | undefined;
  /** With its TOAST table and its indexes: what pg_total_relation_size tells. */
  readonly totalBytes: number;
  readonly remark: Remark | undefined;
}

const NO_FILES: FileSums = {
  sizeBytes: 0,
  mainBytes: 0,
  pages: 0,
  sealedBytes: 0,
  keys: [],
};

/** Whether a relation is to be listed. @param tableSchema - as in ListedRelation. */
export type IsWanted = (relation: CatalogRelation, tableSchema: string) => boolean;

export interface DatabaseListing {
  readonly catalog: DatabaseCatalog;
  readonly files: RelationFiles;
  readonly cluster: ClusterVersion;
  /** Only the shared relations, or only the others. */
  readonly shared: boolean;
  readonly isWanted: IsWanted;
  readonly sort: SortKey;
}

/** Claims the files of every relation, and yields those that are wanted. */
export function* listedRelations(listing: DatabaseListing): Generator<ListedRelation> {
  const { catalog } = listing;
  const columns = new Columns(listing);
  for (let index = 0; index < catalog.count; index++) columns.read(index);
  for (const index of columns.sorted()) yield columns.rowAt(index);
}

const NONE = -1;

/** By the index of a relation in its catalog. */
class Columns {
  private readonly listing: DatabaseListing;
  /** Where RelationFiles has it. */
  private readonly fileIndex: Int32Array;
  private readonly totalBytes: Float64Array;
  private readonly wanted: number[] = [];
  private readonly names: string[] = [];

  constructor(listing: DatabaseListing) {
    this.listing = listing;
    this.fileIndex = new Int32Array(listing.catalog.count).fill(NONE);
    this.totalBytes = new Float64Array(listing.catalog.count);
  }

  read(index: number): void {
    const { catalog, files, shared, isWanted, sort } = this.listing;
    const relation = catalog.relationAt(index);
    if (relation.isShared !== shared) return;
    if (relation.file !== undefined) {
      const found = files.claim(relation.file, relation.persistence === "temporary") ?? NONE;
      this.fileIndex[index] = found;
      this.addToTotals(index, found === NONE ? 0 : files.sizeBytesAt(found));
    }
    const table = this.tableOf(index, relation);
    if (!isWanted(relation, table.schema)) return;
    if (sort === "name") {
      const own = table === relation ? "" : relation.name;
      // Joined, not concatenated: a concatenation would keep all of its parts.
      this.names[this.wanted.length] = [table.schema, table.name, own].join("\0");
    }
    this.wanted.push(index);
  }

  /** A table by its name, followed by what belongs to it. Where keys are equal, the order is that of pg_class. */
  sorted(): number[] {
    const { sort, files, catalog } = this.listing;
    if (sort === "name") return inOrder(this.wanted, this.names, byCodeUnits);
    const keys = this.wanted.map((index) => {
      if (sort === "oid") return catalog.relationAt(index).oid;
      const found = this.fileIndex[index] ?? NONE;
      const sums = found === NONE ? NO_FILES : files.sumsAt(found);
      if (sort === "share") return shareOf(sums);
      return -(sort === "size" ? sums.sizeBytes : sums.pages);
    });
    return inOrder(this.wanted, keys, (a, b) => a - b);
  }

  rowAt(index: number): ListedRelation {
    const { catalog, files, cluster } = this.listing;
    const relation = catalog.relationAt(index);
    const found = this.fileIndex[index] ?? NONE;
    const sums = found === NONE ? NO_FILES : files.sumsAt(found);
    // Field by field: to spread one object into another takes longer than all else here.
    return {
      sizeBytes: sums.sizeBytes,
      mainBytes: sums.mainBytes,
      pages: sums.pages,
      sealedBytes: sums.sealedBytes,
      keys: sums.keys,
      name: relationName(catalog.database, relation),
      database: relation.isShared ? undefined : catalog.database,
      relation,
      tableSchema: this.tableOf(index, relation).schema,
      place: relation.file,
      path: relation.file === undefined ? undefined : mainPath(relation.file, cluster),
      totalBytes: this.totalBytes[index] ?? 0,
      remark: isMissing(relation, found, files) ? "no-file" : undefined,
    };
  }

  private addToTotals(index: number, sizeBytes: number): void {
    const { catalog } = this.listing;
    let one: number | undefined = index;
    // A catalog that says of two relations that each belongs to the other would go round.
    for (let depth = 0; one !== undefined && depth < MOST_OWNERS; depth++) {
      this.totalBytes[one] = (this.totalBytes[one] ?? 0) + sizeBytes;
      one = catalog.ownerIndexOf(one);
    }
  }

  private tableOf(index: number, relation: CatalogRelation): CatalogRelation {
    const { catalog } = this.listing;
    let table = index;
    for (let depth = 1; depth < MOST_OWNERS; depth++) table = catalog.ownerIndexOf(table) ?? table;
    return table === index ? relation : catalog.relationAt(table);
  }
}

/** An index of a TOAST table of a table. */
const MOST_OWNERS = 3;

/** A base backup has of unlogged relations only their init forks, and after a crash temporary ones have no files. */
function isMissing(relation: CatalogRelation, found: number, files: RelationFiles): boolean {
  if (relation.file === undefined || relation.persistence === "temporary") return false;
  if (found === NONE) return true;
  return relation.persistence === "permanent" && !files.hasMainForkAt(found);
}

function mainPath(place: ScopedRelation, cluster: ClusterVersion): BytePath {
  const { tablespaceOid, databaseOid, relfilenumber } = place;
  return formatRelationPath(
    {
      tablespaceOid,
      databaseOid,
      relfilenumber,
      fork: "main",
      relationSegment: 0,
      backend: undefined,
    },
    cluster,
  );
}

function inOrder<Key>(
  values: readonly number[],
  keys: readonly Key[],
  compare: (a: Key, b: Key) => number,
): number[] {
  const order = Array.from(values, (_, i) => i);
  order.sort((a, b) => compare(keys[a] as Key, keys[b] as Key));
  return order.map((i) => values[i] ?? 0);
}

export function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A relation of which only files are known. */
export function withoutName(sizes: RelationSizes, remark: "orphan" | "unnamed"): ListedRelation {
  const { place, path, sizeBytes, mainBytes, pages, sealedBytes, keys } = sizes;
  return {
    sizeBytes,
    mainBytes,
    pages,
    sealedBytes,
    keys,
    name: undefined,
    database: undefined,
    relation: undefined,
    tableSchema: undefined,
    place,
    path,
    totalBytes: sizeBytes,
    remark,
  };
}

/** The system's own: catalogs, and what belongs to them. */
export function isSystem(tableSchema: string): boolean {
  return SYSTEM_SCHEMA.test(tableSchema);
}

/** What `--kind` takes of a relation: a partitioned table is a `partitioned-table`. */
export function kindOption(kind: RelationKind): string {
  return kind.toLowerCase().replaceAll(" ", "-");
}
