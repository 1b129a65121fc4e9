/**
 * What lies in a data directory at one moment, as a value: logical paths (a tablespace's files under pg_tblspc) and
 * what is at each. Contents are shared, never copied and never changed, so that thousands of moments take no room and
 * what was computed of a content once holds wherever the content lies.
 */
import { type BytePath, directoryOf, joinPath, nameOf } from "../../src/bytes/byte-path.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { DirectoryNode, FileNode, LinkNode } from "../support/crash-nodes.ts";

/** A file's content, a folder, or the link of a tablespace. */
export type Thing = Buffer | "folder" | "tablespace";
export type Image = ReadonlyMap<string, Thing>;

/** Where a data directory is, and where its tablespace. */
export interface Place {
  readonly root: BytePath;
  readonly tablespace: BytePath;
}

export const TABLESPACE_LINK = "pg_tblspc/16387";

const TIME = 1_700_000_000_000_000_000n;

/** @returns what is there; an empty image where nothing is. */
export function imageOf(disk: CrashDisk, root: BytePath): Image {
  const image = new Map<string, Thing>();
  const top = disk.nodeAt(root);
  if (top?.kind === "directory") visit(disk, top, root, "", image);
  return image;
}

function visit(
  disk: CrashDisk,
  folder: DirectoryNode,
  real: BytePath,
  logical: string,
  image: Map<string, Thing>,
): void {
  for (const [name, node] of folder.entries) {
    const path = logical === "" ? name : `${logical}/${name}`;
    const place = `${real}/${name}` as BytePath;
    if (node.kind === "file") image.set(path, node.content);
    else if (node.kind === "directory") {
      image.set(path, "folder");
      visit(disk, node, place, path, image);
    } else {
      image.set(path, "tablespace");
      const target = disk.nodeAt(place);
      if (target?.kind === "directory") visit(disk, target, place, path, image);
    }
  }
}

/** Puts an image in the place of whatever is there, behind tde's back. */
export function install(disk: CrashDisk, place: Place, image: Image): void {
  remove(disk, place);
  if (image.size === 0) return;
  const root = put(disk, place.root, newFolder());
  const hasTablespace = image.has(TABLESPACE_LINK);
  const tablespace = hasTablespace ? put(disk, place.tablespace, newFolder()) : undefined;
  const folders = new Map<string, DirectoryNode>([["", root]]);
  const folderOf = (path: string): DirectoryNode => {
    const known = folders.get(path);
    if (known !== undefined) return known;
    const above = directoryOf(path as BytePath);
    const parent = folderOf(above === "." ? "" : above);
    const made = newFolder();
    parent.change([[nameOf(path as BytePath), made]]);
    folders.set(path, made);
    return made;
  };
  for (const [path, thing] of image) {
    const above = directoryOf(path as BytePath);
    const parent = folderOf(above === "." ? "" : above);
    const name = nameOf(path as BytePath);
    if (thing === "folder") {
      if (!folders.has(path)) folderOf(path);
    } else if (thing === "tablespace" && tablespace !== undefined) {
      folders.set(path, tablespace);
      const link = new LinkNode({ target: place.tablespace, attributes: attributes(0o777) });
      parent.change([[name, link]]);
    } else if (thing !== "tablespace") {
      parent.change([[name, newFile(thing)]]);
    }
  }
}

/** Takes a data directory and its tablespace away. */
export function remove(disk: CrashDisk, { root, tablespace }: Place): void {
  for (const path of [root, tablespace]) {
    const parent = disk.nodeAt(directoryOf(path));
    if (parent?.kind === "directory") parent.change([[nameOf(path), undefined]]);
  }
}

/** Puts one file there, or with undefined takes it away, behind tde's back. */
export function putFile(disk: CrashDisk, path: BytePath, content: Buffer | undefined): void {
  const parent = disk.nodeAt(directoryOf(path));
  if (parent?.kind !== "directory") return;
  parent.change([[nameOf(path), content === undefined ? undefined : newFile(content)]]);
}

export function contentAt(disk: CrashDisk, path: BytePath): Buffer | undefined {
  const node = disk.nodeAt(path);
  return node?.kind === "file" ? node.content : undefined;
}

function put(disk: CrashDisk, path: BytePath, node: DirectoryNode): DirectoryNode {
  const parent = disk.nodeAt(directoryOf(path));
  if (parent?.kind === "directory") parent.change([[nameOf(path), node]]);
  return node;
}

function newFile(content: Buffer): FileNode {
  const node = new FileNode(attributes(0o600));
  node.content = content;
  return node;
}

function newFolder(): DirectoryNode {
  return new DirectoryNode(attributes(0o700));
}

function attributes(mode: number): FileNode["attributes"] {
  return { mode, uid: 26, gid: 26, accessTimeNs: TIME, modifyTimeNs: TIME };
}

export function inPlace({ root }: Place, path: string): BytePath {
  return joinPath(root, path);
}
