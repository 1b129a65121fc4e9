/**
 * Where the catalogs are that cannot say it of themselves: the pg_filenode.map of global/ and of each database.
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import {
  DEFAULT_TABLESPACE_OID,
  formatRelationPath,
  GLOBAL_TABLESPACE_OID,
  parseOid,
  type RelationFolder,
  tablespaceFolder,
} from "../datadir/relation-path.ts";
import { FormatError, StateError } from "../errors.ts";
import type { ScopedRelation } from "../format/scope.ts";
import { parseRelationMap } from "../postgres/relation-map.ts";
import { readWholeFile } from "../storage/file-io.ts";
import type { FileReader } from "../storage/file-system.ts";
import { CATALOGS, type CatalogName } from "./catalog-layout.ts";

/** More than the map of any major has. */
const MAP_LIMIT_BYTES = 4096;

export const GLOBAL_FOLDER: RelationFolder = {
  tablespaceOid: GLOBAL_TABLESPACE_OID,
  databaseOid: 0,
};

/** relfilenumbers of mapped relations, by OID. */
export type RelationMap = ReadonlyMap<number, number>;

/** @throws {FormatError} when it is damaged. @throws {StorageError} when it is not there. */
export function readRelationMap(
  fs: FileReader,
  datadir: Datadir,
  folder: RelationFolder,
): RelationMap {
  const path = mapPath(datadir, folder);
  const bytes = readWholeFile(fs, path, MAP_LIMIT_BYTES);
  return parseRelationMap(bytes, datadir.major, displayPath(path));
}

/** @throws {FormatError} when the map lacks the catalog. */
export function mappedCatalog(
  map: RelationMap,
  folder: RelationFolder,
  name: CatalogName,
): ScopedRelation {
  const relfilenumber = map.get(CATALOGS[name].oid);
  if (relfilenumber !== undefined && relfilenumber > 0) return { ...folder, relfilenumber };
  throw new FormatError(`pg_filenode.map of database ${folder.databaseOid} does not name ${name}`, {
    hint: "Names of relations cannot be read; paths still work. Restore the file from a backup.",
  });
}

/**
 * Folders of databases that have a map, template1's first: it is there in almost every cluster, and small.
 * @throws {StateError} when there is none.
 */
export function databaseFolders(fs: FileReader, datadir: Datadir): RelationFolder[] {
  const folders: RelationFolder[] = [];
  const collect = (tablespaceOid: number, ...path: string[]): void => {
    const parent = joinPath(datadir.root, ...path);
    if (fs.statFollowing(parent)?.kind !== "directory") return;
    for (const { name } of fs.readDirectory(parent)) {
      const databaseOid = parseOid(name);
      if (databaseOid === undefined) continue;
      const folder = { tablespaceOid, databaseOid };
      if (fs.stat(mapPath(datadir, folder)) !== undefined) folders.push(folder);
    }
  };
  collect(DEFAULT_TABLESPACE_OID, "base");
  for (const { oid, path } of datadir.tablespaces) collect(oid, path, tablespaceFolder(datadir));
  if (folders.length > 0) return folders.sort((a, b) => a.databaseOid - b.databaseOid);
  throw new StateError(`"${displayPath(datadir.root)}" has no folder of a database`, {
    hint: "Restore base/ from a backup of this cluster.",
  });
}

function mapPath(datadir: Datadir, folder: RelationFolder): BytePath {
  const file = { ...folder, relfilenumber: 1, fork: "main", relationSegment: 0 } as const;
  const relative = directoryOf(formatRelationPath({ ...file, backend: undefined }, datadir));
  return joinPath(datadir.root, relative, "pg_filenode.map");
}
