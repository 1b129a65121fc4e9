/**
 * Says of every path in a data directory what it is and what becomes of it. Nothing is left out: what is not known is
 * content and gets encrypted, and what is neither encrypted nor authenticated has a class of its own that says why.
 */
import { type BytePath, directoryOf, nameOf } from "../bytes/byte-path.ts";
import type { FileKind } from "../storage/file-system.ts";
import { treatmentOf } from "./path-table.ts";
import {
  nameWithoutSidecarSuffix,
  parseRelationPath,
  parseTablespaceOid,
  type RelationContext,
  type RelationFile,
  replacedName,
  tablespaceFolder,
} from "./relation-path.ts";

export interface ClassifyContext extends RelationContext {
  /** Relations of the path's folder that have an init fork: the server makes their other forks anew. */
  readonly unlogged?: ReadonlySet<number> | undefined;
}

export type OwnFile =
  "manifest" | "journal" | "lock" | "auto-conf" | "backup-manifest" | "kept-tags";

export interface WalSegmentName {
  readonly timeline: number;
  /** The two halves of the segment's number, as its name has them; their unit depends on the segment size. */
  readonly high: number;
  readonly low: number;
}

export type Classification =
  | { readonly class: "directory"; readonly expendable: boolean }
  /** A symbolic link. Only pg_wal and tablespaces are followed; `why` says what the others mean. */
  | {
      readonly class: "link";
      readonly followed: boolean;
      readonly leadsToContent: boolean;
      readonly why: string;
    }
  | { readonly class: "relation"; readonly file: RelationFile; readonly expendable: boolean }
  /** tde's metadata of the file `of`, which is a relation file or a WAL segment. */
  | { readonly class: "sidecar"; readonly of: BytePath; readonly expendable: boolean }
  | { readonly class: "wal"; readonly segment: WalSegmentName }
  /** Holds or may hold users' data: encrypted as a whole file. */
  | { readonly class: "sealed"; readonly expendable: boolean; readonly why: string }
  /** Readable by design, authenticated. */
  | { readonly class: "readable"; readonly expendable: boolean; readonly why: string }
  /** postgresql.auto.conf, file or link: sealed elsewhere, and the guard in its place. */
  | { readonly class: "auto-conf" }
  /** backup_manifest: sealed elsewhere, and rewritten in its place. */
  | { readonly class: "backup-manifest" }
  | { readonly class: "own"; readonly file: OwnFile }
  /** Left by an unfinished run: was to replace `of`. */
  | { readonly class: "working"; readonly of: BytePath }
  /** Not carried, but reported. Not descended into. */
  | { readonly class: "excluded"; readonly why: string }
  /** In a tablespace, but not this cluster's: plaintext that tde never touches. Not descended into. */
  | { readonly class: "foreign"; readonly why: string }
  /** Nothing may be done with a data directory that has this. */
  | { readonly class: "refused"; readonly why: string };

/** tde's own files, all at the top level: in base/ and global/ stock tools take every file for pages. */
export const OWN_FILES: Readonly<Record<OwnFile, BytePath>> = {
  manifest: "tde.manifest" as BytePath,
  journal: "tde.journal" as BytePath,
  lock: "tde.lock" as BytePath,
  "auto-conf": "tde.postgresql.auto.conf" as BytePath,
  "backup-manifest": "tde.backup_manifest" as BytePath,
  /** While a decryption is unfinished: engine/run/kept-tags.ts. */
  "kept-tags": "tde.tags" as BytePath,
};
export const AUTO_CONF: BytePath = "postgresql.auto.conf" as BytePath;
export const BACKUP_MANIFEST: BytePath = "backup_manifest" as BytePath;

/** In the directory of a tablespace that a run into a new directory is filling: engine/place-claims.ts. */
export const CLAIM_NAME: BytePath = "tde.claim" as BytePath;
const CLAIM = /^pg_tblspc\/[0-9]+\/tde\.claim$/;

/** Where damaged files are put aside, on the disk that they are on: engine/damage.ts. */
const KEPT = /^(pg_wal\/|pg_tblspc\/[0-9]+\/)?tde\.damaged$/;

/** Stands for a moment while the lock of a dead process is taken over: storage/lock.ts. */
const LOCK_CLAIM = /^tde\.lock\.[0-9a-f]{16}$/;

const OWN_BY_PATH: ReadonlyMap<string, OwnFile> = new Map(
  Object.entries(OWN_FILES).map(([file, path]) => [path, file as OwnFile]),
);

/**
 * @param path - relative to the data directory and logical: a tablespace's file under pg_tblspc, whatever that links to.
 * @param kind - of the entry itself; a link is never looked through.
 */
export function classify(path: BytePath, kind: FileKind, context: ClassifyContext): Classification {
  if (kind === "other") return { class: "excluded", why: "a socket, pipe or device" };
  if (kind === "directory" && nameOf(path) === "lost+found") {
    return { class: "excluded", why: "the file system's own; it can hold lost content" };
  }
  if (kind === "directory" && KEPT.test(path))
    return { class: "excluded", why: "sealed files that a decryption put aside: they are damaged" };
  if (kind === "file" && path.endsWith(CLAIM_NAME) && CLAIM.test(path))
    return { class: "working", of: directoryOf(path) };
  const foreign = whyForeign(path, context);
  if (foreign !== undefined) return { class: "foreign", why: foreign };
  const own = OWN_BY_PATH.get(path) ?? (LOCK_CLAIM.test(path) ? "lock" : undefined);
  if (own !== undefined) {
    return kind === "file"
      ? { class: "own", file: own }
      : { class: "refused", why: `a ${kind} in the place of a file of tde's own` };
  }
  if (path === AUTO_CONF && kind !== "directory") return { class: "auto-conf" };
  if (kind === "link") return classifyLink(path);
  if (kind === "directory") {
    return { class: "directory", expendable: treatmentOf(path).expendable };
  }
  return classifyFile(path, context);
}

/** Whether a file of that path is configuration: readable, and for an administrator to edit. The guard's file is not. */
export function isConfiguration(path: BytePath): boolean {
  return path !== AUTO_CONF && treatmentOf(path).configuration;
}

function classifyFile(path: BytePath, context: ClassifyContext): Classification {
  // Relation files first: a cluster may have millions of them.
  const file = parseRelationPath(path, context);
  if (file !== undefined) {
    return { class: "relation", file, expendable: isRemade(file, context) };
  }
  if (path === BACKUP_MANIFEST) return { class: "backup-manifest" };
  const replaced = replacedName(path);
  if (replaced !== undefined) return { class: "working", of: replaced };
  const segment = parseWalSegmentPath(path);
  if (segment !== undefined) return { class: "wal", segment };
  const owner = nameWithoutSidecarSuffix(path);
  if (owner !== undefined) {
    const relation = parseRelationPath(owner, context);
    if (relation !== undefined || parseWalSegmentPath(owner) !== undefined) {
      const expendable = relation !== undefined && isRemade(relation, context);
      return { class: "sidecar", of: owner, expendable };
    }
  }
  const { treatment, expendable, why } = treatmentOf(path);
  return { class: treatment, expendable, why };
}

/** Temporary relations, and unlogged ones but for the fork that they are made anew from. */
function isRemade(file: RelationFile, context: ClassifyContext): boolean {
  if (file.backend !== undefined) return true;
  return file.fork !== "init" && context.unlogged?.has(file.relfilenumber) === true;
}

function classifyLink(path: BytePath): Classification {
  const parts = path.split("/");
  if (path === "pg_wal") {
    return { class: "link", followed: true, leadsToContent: true, why: "WAL on another disk" };
  }
  const inTablespaces = parts[0] === "pg_tblspc";
  if (inTablespaces && parts.length === 2 && parseTablespaceOid(parts[1] ?? "") !== undefined) {
    return { class: "link", followed: true, leadsToContent: true, why: "tablespace" };
  }
  const amongRelations =
    parts[0] === "base" || parts[0] === "global" || (inTablespaces && parts.length !== 2);
  if (amongRelations) {
    return { class: "refused", why: "a symbolic link where relations are, which no server makes" };
  }
  // A folder and a file of this name can be told apart only behind the link: content if either would be.
  const below = `${path}/0000` as BytePath;
  const leadsToContent =
    treatmentOf(path).treatment === "sealed" && treatmentOf(below).treatment === "sealed";
  const why = "leads out of the data directory; what it leads to stays as it is";
  return { class: "link", followed: false, leadsToContent, why };
}

/** Why something in a tablespace is not this cluster's, where it is not. */
function whyForeign(path: BytePath, cluster: RelationContext): string | undefined {
  if (!path.startsWith("pg_tblspc/")) return undefined;
  const [, tablespace, folder] = path.split("/");
  if (folder === undefined || parseTablespaceOid(tablespace ?? "") === undefined) return undefined;
  if (folder === tablespaceFolder(cluster)) return undefined;
  const isOnTheWay = [...(cluster.elsewhere ?? [])].some((place) => place.startsWith(`${path}/`));
  if (isOnTheWay)
    return "in a tablespace's directory, with another tablespace of this cluster in it";
  const other = /^PG_([0-9.]+)_[0-9]+$/.exec(folder);
  return other === null
    ? "in a tablespace's directory, but not part of this cluster"
    : `another cluster's (PostgreSQL ${other[1]})`;
}

/** A WAL segment: 24 hexadecimal digits in pg_wal. PostgreSQL: access/xlog_internal.h (IsXLogFileName). */
function parseWalSegmentPath(path: BytePath): WalSegmentName | undefined {
  if (directoryOf(path) !== "pg_wal") return undefined;
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(nameOf(path));
  if (match === null) return undefined;
  const [timeline, high, low] = match.slice(1).map((digits) => Number.parseInt(digits, 16));
  return { timeline: timeline ?? 0, high: high ?? 0, low: low ?? 0 };
}
