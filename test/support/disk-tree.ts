/**
 * A folder on a simulated disk as a value, to compare before and after: content, owner, mode and time of every file.
 * pg_wal and tablespaces are looked at through their links, since a new directory has them elsewhere.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import type { CrashDisk } from "./crash-disk.ts";

interface DiskEntry {
  readonly content: Buffer | undefined;
  /** Kind, owner, mode, and of files the time. */
  readonly attributes: string;
}

export type DiskTree = ReadonlyMap<string, DiskEntry>;

const FILE_LIMIT_BYTES = 2 ** 24;

export function diskTree(disk: CrashDisk, root: BytePath): DiskTree {
  const tree = new Map<string, DiskEntry>();
  visit(disk.copy(), root, "", tree);
  return tree;
}

function visit(
  disk: CrashDisk,
  folder: BytePath,
  name: string,
  tree: Map<string, DiskEntry>,
): void {
  for (const entry of disk.readDirectory(folder)) {
    const path = joinPath(folder, entry.name);
    const logical = name === "" ? entry.name : `${name}/${entry.name}`;
    const stat = disk.statFollowing(path);
    if (stat === undefined) {
      tree.set(logical, { content: undefined, attributes: "a link to nowhere" });
      continue;
    }
    const { kind, uid, gid, mode, modifyTimeNs } = stat;
    const isFile = kind === "file";
    tree.set(logical, {
      content: isFile ? readWholeFile(disk, path, FILE_LIMIT_BYTES) : undefined,
      attributes: `${kind} ${uid}:${gid} ${mode.toString(8)}${isFile ? ` ${modifyTimeNs}` : ""}`,
    });
    if (kind === "directory") visit(disk, path, logical, tree);
  }
}

/** @throws {AssertionError} that names the first paths that differ. */
export function assertSameFiles(actual: DiskTree, expected: DiskTree): void {
  const differences: string[] = [];
  for (const path of new Set([...expected.keys(), ...actual.keys()])) {
    const is = actual.get(path);
    const was = expected.get(path);
    if (was === undefined) differences.push(`${path} was not there`);
    else if (is === undefined) differences.push(`${path} is gone`);
    else if (is.attributes !== was.attributes)
      differences.push(`${path} is ${is.attributes}, was ${was.attributes}`);
    else if (is.content !== undefined && was.content?.equals(is.content) !== true)
      differences.push(`${path} has another content`);
  }
  assert.deepEqual(differences.slice(0, 10), []);
}

/** Names that only an unfinished command leaves: working files, journals, locks, new versions of small files. */
export function litterIn(disk: CrashDisk, folder: BytePath): string[] {
  return [...diskTree(disk, folder).keys()].filter((path) =>
    /_tdenew|tde\.(journal|lock|claim)|\.lock(\.|$)|\.new$/.test(path),
  );
}
