/**
 * Finds where a cluster's tablespaces and its WAL really are, and refuses links that would make tde read or write a
 * file twice, or one that is not there. PostgreSQL makes neither; careless copying does. A tablespace may lie in the folder
 * of another, beside what is that one's, and, with a warning of PostgreSQL's, in a folder of its own inside of the data
 * directory: then it is listed by its link alone.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { StateError, StorageError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type ClusterVersion, parseTablespaceOid, tablespaceFolder } from "./relation-path.ts";

export interface Tablespace {
  readonly oid: number;
  /** `pg_tblspc/<oid>`, relative to the data directory. */
  readonly path: BytePath;
  /** What the link says, absolute or relative; undefined for a folder inside the data directory. */
  readonly linkTarget: BytePath | undefined;
  /** The tablespace's directory, absolute and without a link in it. */
  readonly realPath: BytePath;
}

export interface Places {
  readonly walTarget: BytePath | undefined;
  readonly tablespaces: readonly Tablespace[];
  /** Paths, relative to the data directory, at which one of these places lies once more. */
  readonly elsewhere: ReadonlySet<BytePath>;
}

/** @throws {StateError} that names the link which leads nowhere, into the data directory, or where another leads. */
export function findTablespaces(fs: FileSystem, root: BytePath, cluster: ClusterVersion): Places {
  const walPath = "pg_wal" as BytePath;
  const walIsLink = fs.stat(joinPath(root, walPath))?.kind === "link";
  const walTarget = walIsLink ? resolveLink(fs, root, walPath) : undefined;
  const tablespaces = listTablespaces(fs, root);

  const realRoot = fs.realPath(root);
  const folder = tablespaceFolder(cluster);
  const elsewhere = new Set<BytePath>();
  // What tde works on: the data directory, and of other places only what is this cluster's.
  const taken: { readonly path: BytePath; readonly what: string }[] = [];
  const links = tablespaces
    .filter(({ linkTarget }) => linkTarget !== undefined)
    .map(({ path, realPath }) => ({ link: path, realPath, used: joinPath(realPath, folder) }));
  if (walTarget !== undefined) {
    links.push({ link: walPath, realPath: walTarget, used: walTarget });
  }
  for (const { link, realPath, used } of links) {
    const inside = link === walPath ? undefined : ownFolderIn(realRoot, realPath);
    if (inside !== undefined) elsewhere.add(inside);
    const whole = inside === undefined ? [{ path: realRoot, what: "the data directory" }] : [];
    const other = [...whole, ...taken].find(
      ({ path }) => isWithin(realPath, path) || isWithin(path, used),
    );
    if (other !== undefined) {
      throw new StateError(
        `link "${displayPath(joinPath(root, link))}" leads to "${displayPath(realPath)}", which overlaps ${other.what}`,
        { hint: "Every tablespace, and pg_wal, needs a place of its own. Set the link right." },
      );
    }
    taken.push({ path: used, what: `the place of ${displayPath(link)}` });
  }
  for (const place of [realRoot, ...links.map(({ realPath }) => realPath)]) {
    for (const { path, realPath } of tablespaces) {
      if (place === realPath || !isWithin(place, realPath)) continue;
      elsewhere.add(joinPath(path, place.slice(realPath === "/" ? 1 : realPath.length + 1)));
    }
  }
  return { walTarget, tablespaces, elsewhere };
}

/**
 * The path of a tablespace that lies in the data directory, in a folder that no server makes; undefined for any other
 * place.
 */
function ownFolderIn(realRoot: BytePath, realPath: BytePath): BytePath | undefined {
  if (realPath === realRoot || !isWithin(realPath, realRoot)) return undefined;
  const path = realPath.slice(realRoot === "/" ? 1 : realRoot.length + 1) as BytePath;
  return /^(?:base|global|pg_[^/]*)(?:\/|$)/.test(path) ? undefined : path;
}

function listTablespaces(fs: FileSystem, root: BytePath): Tablespace[] {
  const parent = joinPath(root, "pg_tblspc");
  if (fs.stat(parent)?.kind !== "directory") return [];
  const found: Tablespace[] = [];
  for (const { name, kind } of fs.readDirectory(parent)) {
    const oid = parseTablespaceOid(name);
    if (oid === undefined || (kind !== "link" && kind !== "directory")) continue;
    const path = joinPath("pg_tblspc", name);
    const full = joinPath(root, path);
    found.push(
      kind === "link"
        ? { oid, path, linkTarget: fs.readLink(full), realPath: resolveLink(fs, root, path) }
        : { oid, path, linkTarget: undefined, realPath: fs.realPath(full) },
    );
  }
  return found.sort((a, b) => a.oid - b.oid);
}

/** The directory at the end of a link. */
function resolveLink(fs: FileSystem, root: BytePath, path: BytePath): BytePath {
  const full = joinPath(root, path);
  const problem = (what: string): StateError =>
    new StateError(
      `link "${displayPath(full)}" ${what} (it says "${displayPath(fs.readLink(full))}")`,
      {
        hint: "Set the link right. After a copy, a link often still names the place of the original.",
      },
    );
  try {
    const target = fs.statFollowing(full);
    if (target === undefined) throw problem("leads to nowhere");
    if (target.kind !== "directory") throw problem("does not lead to a directory");
  } catch (error) {
    if (error instanceof StorageError && error.errno === "ELOOP")
      throw problem("is part of a loop");
    throw error;
  }
  return fs.realPath(full);
}

function isWithin(path: BytePath, folder: BytePath): boolean {
  return path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);
}
