/**
 * The names of a cluster, read from its own catalogs in the files of a stopped server, plain or encrypted: databases,
 * tablespaces and roles at once, relations database by database when they are asked for. It sees what a snapshot
 * taken after the last moment of the files would see; what a prepared transaction did is not in it.
 *
 * Catalog pages of an encrypted directory are used only after their tags held. That they are the newest ones, and
 * that pg_filenode.map and pg_xact, which stay readable, are genuine, only the manifest proves: who acts on names reads
 * through `WitnessedFiles`, and holds those against it first.
 */
import type { Datadir } from "../datadir/datadir.ts";
import type { RelationFolder } from "../datadir/relation-path.ts";
import { FormatError, TdeError } from "../errors.ts";
import type { FileReader } from "../storage/file-system.ts";
import { type CatalogLayout, readCatalogLayout } from "./catalog-layout.ts";
import { DatabaseCatalog } from "./database-catalog.ts";
import {
  databaseFolders,
  GLOBAL_FOLDER,
  mappedCatalog,
  readRelationMap,
  type RelationMap,
} from "./relation-maps.ts";
import { type CatalogDatabase, type CatalogTablespace, SharedCatalogs } from "./shared-catalogs.ts";
import { StoredFiles, type Unsealing } from "./stored-files.ts";
import { TransactionFiles } from "./transaction-files.ts";

/**
 * Reads the shared catalogs.
 * @throws {KeyError} when they are encrypted and the key is not at hand. @throws {IntegrityError} when a tag or checksum
 * does not hold. @throws {FormatError} when they are damaged, or not as PostgreSQL's. @throws {StorageError}.
 * Whichever it is: paths still work, and the caller says so.
 */
export function openCatalog(fs: FileReader, datadir: Datadir, unsealing: Unsealing = {}): Catalog {
  const files = new StoredFiles(fs, datadir, unsealing);
  const transactions = new TransactionFiles(fs, datadir);
  const layout = readLayoutOfAnyDatabase(files, transactions);
  return new Catalog(files, transactions, layout);
}

/** The layout of catalogs is one for the whole cluster; a folder may be the rest of a database that was dropped. */
function readLayoutOfAnyDatabase(
  files: StoredFiles,
  transactions: TransactionFiles,
): CatalogLayout {
  const { fs, datadir } = files;
  let failure: unknown;
  for (const folder of databaseFolders(fs, datadir)) {
    try {
      const map = readRelationMap(fs, datadir, folder);
      return readCatalogLayout(files, mappedCatalog(map, folder, "pg_attribute"), transactions);
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

export class Catalog {
  /** By OID. */
  readonly databases: readonly CatalogDatabase[];
  /** By OID, pg_default and pg_global included. */
  readonly tablespaces: readonly CatalogTablespace[];
  /** The server was not shut down cleanly: what it did last may be missing, so that names can be stale. */
  readonly mayBeStale: boolean;
  private readonly files: StoredFiles;
  private readonly transactions: TransactionFiles;
  private readonly layout: CatalogLayout;
  private readonly map: RelationMap;
  private readonly shared: SharedCatalogs;
  private opened: DatabaseCatalog | undefined;
  private roleNames: ReadonlyMap<number, string> | undefined;

  constructor(files: StoredFiles, transactions: TransactionFiles, layout: CatalogLayout) {
    this.files = files;
    this.transactions = transactions;
    this.layout = layout;
    const { state } = files.datadir.control;
    this.mayBeStale = state !== "shut down" && state !== "shut down in recovery";
    this.map = readRelationMap(files.fs, files.datadir, GLOBAL_FOLDER);
    this.shared = new SharedCatalogs(files, transactions, layout, this.map);
    this.databases = this.shared.databases();
    this.tablespaces = this.shared.tablespaces();
  }

  /** Names by OID; read when first asked for. */
  roles(): ReadonlyMap<number, string> {
    this.roleNames ??= this.shared.roles();
    return this.roleNames;
  }

  /**
   * The relations of a database. That of the last one asked for is kept, so that going through the databases holds one
   * at a time.
   * @throws as `openCatalog`.
   */
  relationsOf(database: CatalogDatabase): DatabaseCatalog {
    if (this.opened?.database.oid !== database.oid) {
      this.opened = undefined;
      const { oid: databaseOid, tablespaceOid } = database;
      const folder: RelationFolder = { tablespaceOid, databaseOid };
      const { fs, datadir } = this.files;
      this.opened = DatabaseCatalog.read({
        files: this.files,
        transactions: this.transactions,
        layout: this.layout,
        database,
        folder,
        map: readRelationMap(fs, datadir, folder),
        globalMap: this.map,
      });
    }
    return this.opened;
  }

  /** For the shared relations, which the catalog of every database has: that of the one at hand. */
  relationsOfAnyDatabase(): DatabaseCatalog {
    const database = this.databases.find(({ isInvalid }) => !isInvalid);
    if (this.opened !== undefined) return this.opened;
    if (database !== undefined) return this.relationsOf(database);
    throw new FormatError("pg_database has no database that can be used", {
      hint: "Names of relations cannot be read; paths still work.",
    });
  }

  databaseByOid(oid: number): CatalogDatabase | undefined {
    return this.databases.find((database) => database.oid === oid);
  }

  /** Of a tablespace that the catalog does not have: its OID. */
  tablespaceName(oid: number): string {
    return this.tablespaces.find((tablespace) => tablespace.oid === oid)?.name ?? String(oid);
  }
}
