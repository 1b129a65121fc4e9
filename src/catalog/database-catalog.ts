/**
 * The relations of one database: pg_class with what pg_namespace, pg_am, pg_index and pg_inherits say of them.
 */
import {
  GLOBAL_TABLESPACE_OID,
  type RelationFolder,
  type RelationName,
} from "../datadir/relation-path.ts";
import { FormatError } from "../errors.ts";
import type { ScopedRelation } from "../format/scope.ts";
import { type DecodeName, nameDecoder } from "../postgres/encoding.ts";
import type { TransactionStates } from "../postgres/visibility.ts";
import { CATALOGS, type CatalogLayout, type CatalogName } from "./catalog-layout.ts";
import { readVisibleRows, type Row } from "./catalog-rows.ts";
import { mappedCatalog, type RelationMap } from "./relation-maps.ts";
import { RelationTable } from "./relation-table.ts";
import type { CatalogDatabase } from "./shared-catalogs.ts";
import type { StoredFiles } from "./stored-files.ts";

/** relkind, in words. */
export const RELATION_KINDS = {
  r: "table",
  p: "partitioned table",
  i: "index",
  I: "partitioned index",
  t: "TOAST table",
  m: "materialized view",
  S: "sequence",
  v: "view",
  c: "composite type",
  f: "foreign table",
} as const;
/** other: of a kind that came with a newer server. */
export type RelationKind = (typeof RELATION_KINDS)[keyof typeof RELATION_KINDS] | "other";

export type Persistence = "permanent" | "unlogged" | "temporary";

/** A row of pg_class. */
export interface CatalogRelation {
  readonly oid: number;
  readonly schema: string;
  /** As in the catalog: without quotes. */
  readonly name: string;
  readonly kind: RelationKind;
  readonly persistence: Persistence;
  /** One for all databases, in global/. */
  readonly isShared: boolean;
  readonly isPartition: boolean;
  readonly ownerOid: number;
  /** `heap`, `btree`; undefined where the kind has none. */
  readonly accessMethod: string | undefined;
  readonly toastOid: number | undefined;
  /** OID of an index's table, or of a TOAST table's owner. */
  readonly belongsTo: number | undefined;
  /** OID of the table or index that it inherits from; of several, one. */
  readonly parentOid: number | undefined;
  /** Where its files are: the numbers of their paths; undefined for a relation that has none, such as a view. */
  readonly file: ScopedRelation | undefined;
}

/** What it takes to read them. */
export interface DatabaseSource {
  readonly files: StoredFiles;
  readonly transactions: TransactionStates;
  readonly layout: CatalogLayout;
  readonly database: CatalogDatabase;
  readonly folder: RelationFolder;
  readonly map: RelationMap;
  readonly globalMap: RelationMap;
}

/** RELKIND_HAS_STORAGE */
const KINDS_WITH_FILES = new Set(["r", "m", "t", "S", "i"].map((kind) => kind.charCodeAt(0)));
const PERSISTENCE: Readonly<Record<string, Persistence>> = {
  p: "permanent",
  u: "unlogged",
  t: "temporary",
};

export class DatabaseCatalog {
  readonly database: CatalogDatabase;
  private readonly table: RelationTable;
  private readonly schemas: ReadonlyMap<number, string>;
  private readonly accessMethods: ReadonlyMap<number, string>;
  private readonly decode: DecodeName;

  private constructor(
    database: CatalogDatabase,
    table: RelationTable,
    schemas: ReadonlyMap<number, string>,
    accessMethods: ReadonlyMap<number, string>,
    decode: DecodeName,
  ) {
    this.database = database;
    this.table = table;
    this.schemas = schemas;
    this.accessMethods = accessMethods;
    this.decode = decode;
  }

  /** @throws {KeyError} {IntegrityError} {FormatError} {StorageError} as `openCatalog`. */
  static read(source: DatabaseSource): DatabaseCatalog {
    const { database } = source;
    const reader = new DatabaseReader(source);
    const table = reader.relations();
    const decode = nameDecoder(database.encoding);
    const schemas = reader.names("pg_namespace", "nspname", decode);
    const accessMethods = reader.names("pg_am", "amname", decode);
    return new DatabaseCatalog(database, table, schemas, accessMethods, decode);
  }

  get count(): number {
    return this.table.count;
  }

  /** Every relation, in the order of pg_class; made one by one. */
  *relations(): Generator<CatalogRelation, void, undefined> {
    for (let index = 0; index < this.table.count; index++) yield this.relationAt(index);
  }

  relationByOid(oid: number): CatalogRelation | undefined {
    const index = this.table.indexOf(oid);
    return index === undefined ? undefined : this.relationAt(index);
  }

  /** The relation that a file belongs to, whatever its fork and segment; undefined for an orphan. */
  relationOfFile(file: ScopedRelation & Partial<RelationName>): CatalogRelation | undefined {
    for (const index of this.table.indexesOfFile(file.relfilenumber)) {
      const relation = this.relationAt(index);
      const isThere =
        relation.file?.tablespaceOid === file.tablespaceOid &&
        relation.file.databaseOid === file.databaseOid;
      const isTemporary = relation.persistence === "temporary";
      if (isThere && isTemporary === (file.backend !== undefined)) return relation;
    }
    return undefined;
  }

  /**
   * All relations whose files make up this one: itself, its TOAST table, its indexes and theirs; with `partitions`
   * also its partitions, at every level, and all of theirs. Of an index and of a TOAST table: itself and what belongs
   * to it.
   */
  familyOf(oid: number, { partitions }: { readonly partitions: boolean }): CatalogRelation[] {
    const first = this.table.indexOf(oid);
    const family = new Set<number>(first === undefined ? [] : [first]);
    // A set yields what is added while it is gone through.
    for (const index of family) {
      for (const owned of this.table.ownedBy(index)) family.add(owned);
      if (!partitions) continue;
      for (const child of this.table.childrenOf(index)) {
        if (this.table.at(child).isPartition) family.add(child);
      }
    }
    return [...family].map((index) => this.relationAt(index));
  }

  /** Of a TOAST table its owner's index, of an index its table's; undefined for all others. */
  ownerIndexOf(index: number): number | undefined {
    return this.table.ownerOf(index);
  }

  /** @param index - 0 to `count - 1`, in the order of pg_class. */
  relationAt(index: number): CatalogRelation {
    const numbers = this.table.at(index);
    const { oid, schemaOid, accessMethodOid, tablespaceOid, relfilenumber, toastOid } = numbers;
    const { isShared, isPartition, ownerOid } = numbers;
    const kind = String.fromCharCode(numbers.kind) as keyof typeof RELATION_KINDS;
    const oidAt = (other: number | undefined): number | undefined =>
      other === undefined ? undefined : this.table.at(other).oid;
    return {
      oid,
      schema: this.schemas.get(schemaOid) ?? String(schemaOid),
      name: this.decode(this.table.nameAt(index)),
      kind: RELATION_KINDS[kind] ?? "other",
      persistence: PERSISTENCE[String.fromCharCode(numbers.persistence)] ?? "permanent",
      isShared,
      isPartition,
      ownerOid,
      accessMethod: this.accessMethods.get(accessMethodOid),
      toastOid: toastOid || undefined,
      belongsTo: oidAt(this.table.ownerOf(index)),
      parentOid: oidAt(this.table.parentOf(index)),
      file:
        relfilenumber === 0
          ? undefined
          : { tablespaceOid, databaseOid: isShared ? 0 : this.database.oid, relfilenumber },
    };
  }
}

/** Reads the catalogs of one database into a table. */
class DatabaseReader {
  private readonly source: DatabaseSource;
  private readonly table: RelationTable = new RelationTable();

  constructor(source: DatabaseSource) {
    this.source = source;
  }

  /** pg_class first: it tells where the other catalogs are. */
  relations(): RelationTable {
    const { table } = this;
    this.readClass();
    for (let index = 0; index < table.count; index++) {
      const { oid, toastOid } = table.at(index);
      if (toastOid !== 0) table.setOwner(toastOid, oid);
    }
    this.readPairs("pg_index", "indexrelid", "indrelid", (index, owner) =>
      table.setOwner(index, owner),
    );
    this.readPairs("pg_inherits", "inhrelid", "inhparent", (child, parent) =>
      table.setParent(child, parent),
    );
    return table;
  }

  /** Names by OID. */
  names(catalog: CatalogName, column: string, decode: DecodeName): ReadonlyMap<number, string> {
    const columns = this.source.layout[catalog];
    const [oid, name] = [columns.oid("oid"), columns.name(column)];
    const names = new Map<number, string>();
    this.read(this.placeOf(catalog), (row) => void names.set(oid(row), decode(name(row))));
    return names;
  }

  private readClass(): void {
    const { layout, database, map, globalMap, folder } = this.source;
    const columns = layout.pg_class;
    const [oid, name, schema] = [
      columns.oid("oid"),
      columns.name("relname"),
      columns.oid("relnamespace"),
    ];
    const [owner, accessMethod] = [columns.oid("relowner"), columns.oid("relam")];
    const [relfilenode, tablespace] = [columns.oid("relfilenode"), columns.oid("reltablespace")];
    const [toast, shared] = [columns.oid("reltoastrelid"), columns.bool("relisshared")];
    const [persistence, kind] = [columns.char("relpersistence"), columns.char("relkind")];
    const partition = columns.bool("relispartition");
    this.read(mappedCatalog(map, folder, "pg_class"), (row) => {
      const isShared = shared(row);
      const kindCode = kind(row).charCodeAt(0);
      // A relation that has files, but no number here, is a mapped one.
      const isMapped = relfilenode(row) === 0 && KINDS_WITH_FILES.has(kindCode);
      const mapped = isMapped ? (isShared ? globalMap : map).get(oid(row)) : undefined;
      const relation = {
        oid: oid(row),
        schemaOid: schema(row),
        ownerOid: owner(row),
        accessMethodOid: accessMethod(row),
        tablespaceOid: isShared ? GLOBAL_TABLESPACE_OID : tablespace(row) || database.tablespaceOid,
        relfilenumber: mapped ?? relfilenode(row),
        toastOid: toast(row),
        kind: kindCode,
        persistence: persistence(row).charCodeAt(0),
        isShared,
        isPartition: partition(row),
      };
      this.table.add(relation, name(row));
    });
  }

  private readPairs(
    catalog: CatalogName,
    first: string,
    second: string,
    take: (first: number, second: number) => void,
  ): void {
    const columns = this.source.layout[catalog];
    const [one, other] = [columns.oid(first), columns.oid(second)];
    this.read(this.placeOf(catalog), (row) => take(one(row), other(row)));
  }

  /** @throws {FormatError} when pg_class does not have it. */
  private placeOf(catalog: CatalogName): ScopedRelation {
    const { database } = this.source;
    const index = this.table.indexOf(CATALOGS[catalog].oid);
    const numbers = index === undefined ? undefined : this.table.at(index);
    if (numbers === undefined || numbers.relfilenumber === 0) {
      throw new FormatError(`pg_class of database ${database.name} does not have ${catalog}`, {
        hint: "Names of relations cannot be read; paths still work.",
      });
    }
    const { tablespaceOid, relfilenumber } = numbers;
    return { tablespaceOid, databaseOid: database.oid, relfilenumber };
  }

  private read(place: ScopedRelation, take: (row: Row) => void): void {
    readVisibleRows(this.source.files, place, this.source.transactions, (row) => {
      take(row);
      return true;
    });
  }
}
