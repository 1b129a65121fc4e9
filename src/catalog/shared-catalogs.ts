/**
 * The catalogs that a whole cluster has in common: databases, tablespaces, roles.
 */
import { DEFAULT_TABLESPACE_OID } from "../datadir/relation-path.ts";
import { encodingName, nameDecoder } from "../postgres/encoding.ts";
import type { TransactionStates } from "../postgres/visibility.ts";
import type { CatalogLayout, CatalogName } from "./catalog-layout.ts";
import { readVisibleRows, type Row } from "./catalog-rows.ts";
import { GLOBAL_FOLDER, mappedCatalog, type RelationMap } from "./relation-maps.ts";
import type { StoredFiles } from "./stored-files.ts";

/** A row of pg_database. */
export interface CatalogDatabase {
  readonly oid: number;
  readonly name: string;
  readonly ownerOid: number;
  /** pg_database.encoding, and as `SHOW server_encoding` has it. */
  readonly encoding: number;
  readonly encodingName: string;
  /** Of its catalogs, and of relations that name none. */
  readonly tablespaceOid: number;
  readonly isTemplate: boolean;
  readonly allowsConnections: boolean;
  /** DROP DATABASE was interrupted: its files may be gone. */
  readonly isInvalid: boolean;
}

/** A row of pg_tablespace. */
export interface CatalogTablespace {
  readonly oid: number;
  readonly name: string;
  readonly ownerOid: number;
}

/** DATCONNLIMIT_INVALID_DB */
const INVALID_DATABASE = -2;
/**
 * What names of shared catalogs are taken for, UTF-8 where they are: each is in the encoding of the database whose
 * session gave it, which is not written anywhere.
 */
const SQL_ASCII = 0;

export class SharedCatalogs {
  private readonly files: StoredFiles;
  private readonly transactions: TransactionStates;
  private readonly layout: CatalogLayout;
  private readonly map: RelationMap;
  private readonly decode = nameDecoder(SQL_ASCII);

  /** @param map - of global/. */
  constructor(
    files: StoredFiles,
    transactions: TransactionStates,
    layout: CatalogLayout,
    map: RelationMap,
  ) {
    this.files = files;
    this.transactions = transactions;
    this.layout = layout;
    this.map = map;
  }

  /** By OID. */
  databases(): CatalogDatabase[] {
    const columns = this.layout.pg_database;
    const [oid, name] = [columns.oid("oid"), columns.name("datname")];
    const [owner, encoding] = [columns.oid("datdba"), columns.int4("encoding")];
    const [template, connections] = [columns.bool("datistemplate"), columns.bool("datallowconn")];
    const [limit, tablespace] = [columns.int4("datconnlimit"), columns.oid("dattablespace")];
    const databases = this.read("pg_database", (row) => ({
      oid: oid(row),
      name: this.decode(name(row)),
      ownerOid: owner(row),
      encoding: encoding(row),
      encodingName: encodingName(encoding(row)),
      tablespaceOid: tablespace(row) || DEFAULT_TABLESPACE_OID,
      isTemplate: template(row),
      allowsConnections: connections(row),
      isInvalid: limit(row) === INVALID_DATABASE,
    }));
    return databases.sort((a, b) => a.oid - b.oid);
  }

  /** By OID, pg_default and pg_global included. */
  tablespaces(): CatalogTablespace[] {
    const columns = this.layout.pg_tablespace;
    const [oid, name] = [columns.oid("oid"), columns.name("spcname")];
    const owner = columns.oid("spcowner");
    const tablespaces = this.read("pg_tablespace", (row) => ({
      oid: oid(row),
      name: this.decode(name(row)),
      ownerOid: owner(row),
    }));
    return tablespaces.sort((a, b) => a.oid - b.oid);
  }

  /** Names by OID. */
  roles(): ReadonlyMap<number, string> {
    const columns = this.layout.pg_authid;
    const [oid, name] = [columns.oid("oid"), columns.name("rolname")];
    return new Map(this.read("pg_authid", (row) => [oid(row), this.decode(name(row))]));
  }

  private read<T>(name: CatalogName, value: (row: Row) => T): T[] {
    const values: T[] = [];
    const place = mappedCatalog(this.map, GLOBAL_FOLDER, name);
    readVisibleRows(this.files, place, this.transactions, (row) => {
      values.push(value(row));
      return true;
    });
    return values;
  }
}
