/**
 * Names of relation files, and the names that tde derives from them. Only the one spelling that PostgreSQL writes is
 * a relation file: no leading zero, no segment 0, numbers within their range. Sources: common/relpath.c,
 * storage/file/reinit.c (parse_filename_for_nontemp_relation), storage/file/fd.c (looks_like_temp_rel_name), and
 * bin/pg_checksums/pg_checksums.c for the names that stock tools tolerate.
 */
import { type BytePath, directoryOf, joinPath, nameOf } from "../bytes/byte-path.ts";
import type { Major } from "../postgres/version.ts";

export type Fork = "main" | "fsm" | "vm" | "init";

/** What the name of a relation file alone says. */
export interface RelationName {
  /** 1 to 2^32 - 1. */
  readonly relfilenumber: number;
  readonly fork: Fork;
  /** 0 for the first, which has no suffix. */
  readonly relationSegment: number;
  /** The server process whose temporary relation it is; undefined for all others. */
  readonly backend: number | undefined;
}

export interface RelationFile extends RelationName {
  /** 1663 (pg_default) in base/, 1664 (pg_global) in global/. */
  readonly tablespaceOid: number;
  /** 0 in global/. */
  readonly databaseOid: number;
}

/** What a cluster calls its folder in every tablespace. */
export interface ClusterVersion {
  readonly major: Major;
  readonly catalogVersion: number;
}

/** What else it takes to know a cluster's relation files. */
export interface RelationContext extends ClusterVersion {
  /** Of pg_control (RELSEG_SIZE): bounds the segments, since blocks are numbered in 32 bits. */
  readonly blocksPerSegment: number;
  /** Paths at which a tablespace or pg_wal lies once more, beside its own path: it is not listed there. */
  readonly elsewhere?: ReadonlySet<BytePath> | undefined;
}

export const DEFAULT_TABLESPACE_OID = 1663;
export const GLOBAL_TABLESPACE_OID = 1664;

const MAX_UINT32 = 2 ** 32 - 1;
const RELATION_NAME =
  /^(?:t(0|[1-9][0-9]*)_)?([1-9][0-9]*)(?:_(fsm|vm|init))?(?:\.([1-9][0-9]*))?$/;

/** The parts of a relation file's name; undefined for any other name. */
export function parseRelationName(name: string): RelationName | undefined {
  const match = RELATION_NAME.exec(name);
  if (match === null) return undefined;
  const [, backendText, relfilenumberText, forkText, segmentText] = match;
  const relfilenumber = Number(relfilenumberText);
  const relationSegment = Number(segmentText ?? 0);
  const backend = backendText === undefined ? undefined : Number(backendText);
  // Backend ffffffff would read as "no backend" where an identity is written.
  const inRange =
    relfilenumber <= MAX_UINT32 && relationSegment <= MAX_UINT32 && (backend ?? 0) < MAX_UINT32;
  const fork = (forkText ?? "main") as Fork;
  return inRange ? { relfilenumber, fork, relationSegment, backend } : undefined;
}

export function formatRelationName(relation: RelationName): BytePath {
  const temporary = relation.backend === undefined ? "" : `t${relation.backend}_`;
  const fork = relation.fork === "main" ? "" : `_${relation.fork}`;
  const segment = relation.relationSegment === 0 ? "" : `.${relation.relationSegment}`;
  return `${temporary}${relation.relfilenumber}${fork}${segment}` as BytePath;
}

/** `PG_17_202406281`: the folder of one cluster in a tablespace (TABLESPACE_VERSION_DIRECTORY). */
export function tablespaceFolder(cluster: ClusterVersion): BytePath {
  return `PG_${cluster.major}_${cluster.catalogVersion}` as BytePath;
}

/** An OID as a name: 1 to 2^32 - 1 without a leading zero; undefined for any other text. */
export function parseOid(text: string): number | undefined {
  if (!/^[1-9][0-9]{0,9}$/.test(text)) return undefined;
  const oid = Number(text);
  return oid <= MAX_UINT32 ? oid : undefined;
}

/** The OID of a user's tablespace; the built-in ones are never in pg_tblspc. */
export function parseTablespaceOid(text: string): number | undefined {
  const oid = parseOid(text);
  return oid === DEFAULT_TABLESPACE_OID || oid === GLOBAL_TABLESPACE_OID ? undefined : oid;
}

/** A folder whose files are relations. */
export type RelationFolder = Pick<RelationFile, "tablespaceOid" | "databaseOid">;

/** `global`, `base/<db>` or `pg_tblspc/<oid>/PG_<major>_<catversion>/<db>`; undefined for any other folder. */
export function parseRelationFolder(
  path: BytePath,
  cluster: ClusterVersion,
): RelationFolder | undefined {
  if (path === "global") return { tablespaceOid: GLOBAL_TABLESPACE_OID, databaseOid: 0 };
  const parts = path.split("/");
  if (parts.length === 2 && parts[0] === "base") {
    const databaseOid = parseOid(parts[1] ?? "");
    return databaseOid === undefined
      ? undefined
      : { tablespaceOid: DEFAULT_TABLESPACE_OID, databaseOid };
  }
  if (parts.length === 4 && parts[0] === "pg_tblspc" && parts[2] === tablespaceFolder(cluster)) {
    const tablespaceOid = parseTablespaceOid(parts[1] ?? "");
    const databaseOid = parseOid(parts[3] ?? "");
    return tablespaceOid === undefined || databaseOid === undefined
      ? undefined
      : { tablespaceOid, databaseOid };
  }
  return undefined;
}

/**
 * The relation file that a path names.
 * @param path - relative to the data directory and logical: through pg_tblspc, not through a link's target.
 */
export function parseRelationPath(
  path: BytePath,
  cluster: RelationContext,
): RelationFile | undefined {
  const name = parseRelationName(nameOf(path));
  if (name === undefined) return undefined;
  if (name.relationSegment * cluster.blocksPerSegment > MAX_UINT32) return undefined;
  const folder = parseRelationFolder(directoryOf(path), cluster);
  if (folder === undefined) return undefined;
  // Shared relations are never temporary.
  if (folder.databaseOid === 0 && name.backend !== undefined) return undefined;
  // Field by field: a cluster may have millions of files, and to spread two objects takes longer than all else here.
  return {
    tablespaceOid: folder.tablespaceOid,
    databaseOid: folder.databaseOid,
    relfilenumber: name.relfilenumber,
    fork: name.fork,
    relationSegment: name.relationSegment,
    backend: name.backend,
  };
}

export function formatRelationPath(file: RelationFile, cluster: ClusterVersion): BytePath {
  const name = formatRelationName(file);
  if (file.tablespaceOid === GLOBAL_TABLESPACE_OID) return joinPath("global", name);
  const database = String(file.databaseOid);
  return file.tablespaceOid === DEFAULT_TABLESPACE_OID
    ? joinPath("base", database, name)
    : joinPath("pg_tblspc", String(file.tablespaceOid), tablespaceFolder(cluster), database, name);
}

/**
 * The sidecar of a relation file or WAL segment: `_tde` before the segment suffix, like a fork of its own.
 * `16397_fsm.1` has `16397_fsm_tde.1`. Takes and gives a name or a whole path.
 */
export function sidecarName(path: BytePath): BytePath {
  return insertBeforeDot(path, SIDECAR_SUFFIX);
}

/** The inverse of sidecarName: the name without `_tde`; undefined when it has none. */
export function nameWithoutSidecarSuffix(path: BytePath): BytePath | undefined {
  return removeBeforeDot(path, SIDECAR_SUFFIX);
}

/**
 * Where the new content of a file is written before it takes the file's place: `_tdenew` before the first dot of
 * the name (`16397_tdenew.1`, `postgresql_tdenew.conf`), and for a sidecar the sidecar of the new file
 * (`16397_tdenew_tde.1`). Where pg_checksums overlooks a name by how it begins, `_tdenew` goes to the very end
 * (`pg_internal.init_tdenew`), for it dies on a dot that no number follows. So what a crash leaves in base/ or
 * global/ stops no stock tool that the file itself does not stop.
 */
export function workingName(path: BytePath): BytePath {
  if (OVERLOOKED.test(nameOf(path))) return (path + WORKING_SUFFIX) as BytePath;
  const owner = nameWithoutSidecarSuffix(path);
  if (owner === undefined) return insertBeforeDot(path, WORKING_SUFFIX);
  return sidecarName(insertBeforeDot(owner, WORKING_SUFFIX));
}

/** The inverse of workingName: the file that it is to replace; undefined when it is no such name. */
export function replacedName(path: BytePath): BytePath | undefined {
  if (OVERLOOKED.test(nameOf(path))) {
    const name = path.endsWith(WORKING_SUFFIX) ? path.slice(0, -WORKING_SUFFIX.length) : undefined;
    return name !== undefined && OVERLOOKED.test(nameOf(name as BytePath))
      ? (name as BytePath)
      : undefined;
  }
  const owner = nameWithoutSidecarSuffix(path);
  if (owner === undefined) return removeBeforeDot(path, WORKING_SUFFIX);
  const replaced = removeBeforeDot(owner, WORKING_SUFFIX);
  return replaced === undefined ? undefined : sidecarName(replaced);
}

const SIDECAR_SUFFIX = "_tde";
const WORKING_SUFFIX = "_tdenew";
/** Names that pg_checksums skips by prefix. */
const OVERLOOKED = /^(?:pg_internal\.init|pgsql_tmp)/;

function insertBeforeDot(path: BytePath, suffix: string): BytePath {
  const at = stemEnd(path);
  return (path.slice(0, at) + suffix + path.slice(at)) as BytePath;
}

/** Undefined when the suffix is missing, or when nothing stands before it. */
function removeBeforeDot(path: BytePath, suffix: string): BytePath | undefined {
  const at = stemEnd(path);
  const stem = path.slice(0, at);
  if (!stem.endsWith(suffix)) return undefined;
  const rest = (stem.slice(0, -suffix.length) + path.slice(at)) as BytePath;
  return nameOf(rest) === "" ? undefined : rest;
}

/** Where the name's first dot is, or the end of the path. */
function stemEnd(path: BytePath): number {
  const dot = path.indexOf(".", path.lastIndexOf("/") + 1);
  return dot < 0 ? path.length : dot;
}
