/**
 * A folder as a value: what every file in it is and holds, to compare before and after. Links of pg_wal and
 * pg_tblspc are listed and followed. Paths are byte strings, one byte in each character.
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { sha256 } from "../../src/crypto/primitives.ts";

export interface TreeEntry {
  readonly kind: "file" | "directory" | "link" | "other";
  /** Hex; "" where there is no content. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeMs: number;
  /** "" but for links. */
  readonly linkTarget: string;
}

/**
 * Node sets times as seconds in a double and cuts them to microseconds: a file that is encrypted and decrypted
 * loses a microsecond or two. 10 allow for that and for nothing else.
 */
const TIME_TOLERANCE_MS = 0.01;

export type Tree = ReadonlyMap<string, TreeEntry>;

/** Everything below a folder, sorted by path; "." is the folder itself. */
export function treeOf(folder: string | Buffer): Tree {
  const tree = new Map<string, TreeEntry>();
  visit(Buffer.from(folder), ".", tree);
  return new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
}

export interface TreeComparison {
  /** Paths that may differ, appear or vanish. */
  readonly except?: (path: string) => boolean;
  /** Directories' own times change with every file in them that is replaced; compared only on request. */
  readonly directoryTimes?: boolean;
}

/** @throws {AssertionError} that names the first paths that differ, and how. */
export function assertSameTree(actual: Tree, expected: Tree, options: TreeComparison = {}): void {
  const differences: string[] = [];
  for (const path of new Set([...expected.keys(), ...actual.keys()])) {
    if (options.except?.(path) === true) continue;
    const is = actual.get(path);
    const was = expected.get(path);
    if (was === undefined) differences.push(`${path}: was not there before`);
    else if (is === undefined) differences.push(`${path}: is gone`);
    else differences.push(...compare(path, is, was, options.directoryTimes === true));
  }
  const more = differences.length > 20 ? `\n... and ${differences.length - 20} more` : "";
  assert.equal(differences.length, 0, `${differences.slice(0, 20).join("\n")}${more}`);
}

/** As `cp -a`: content, owners, modes and times, of directories and links too; links stay links. */
export function copyTree(from: string | Buffer, to: string | Buffer): void {
  const stat = lstatSync(from);
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from, { encoding: "buffer" }), to);
  else if (stat.isFile()) copyFileSync(from, to);
  else if (stat.isDirectory()) {
    mkdirSync(to, { mode: 0o700 });
    for (const name of readdirSync(from, { encoding: "buffer" })) {
      copyTree(below(Buffer.from(from), name), below(Buffer.from(to), name));
    }
  } else return;
  const source = lstatSync(to);
  if (source.uid !== stat.uid || source.gid !== stat.gid) lchownSync(to, stat.uid, stat.gid);
  if (!stat.isSymbolicLink()) chmodSync(to, stat.mode & 0o7777);
  lutimesSync(to, stat.atimeMs / 1000, stat.mtimeMs / 1000);
}

function compare(path: string, is: TreeEntry, was: TreeEntry, directoryTimes: boolean): string[] {
  const times = was.kind === "file" || (was.kind === "directory" && directoryTimes);
  return (Object.keys(was) as (keyof TreeEntry)[])
    .filter((field) => field !== "mtimeMs" || times)
    .filter((field) =>
      field === "mtimeMs"
        ? Math.abs(is.mtimeMs - was.mtimeMs) > TIME_TOLERANCE_MS
        : is[field] !== was[field],
    )
    .map((field) => `${path}: ${field} is ${is[field]}, was ${was[field]}`);
}

function visit(path: Buffer, name: string, tree: Map<string, TreeEntry>): void {
  const stat = lstatSync(path);
  const kind = stat.isFile()
    ? "file"
    : stat.isDirectory()
      ? "directory"
      : stat.isSymbolicLink()
        ? "link"
        : "other";
  tree.set(name, {
    kind,
    sha256: kind === "file" ? sha256(readFileSync(path)).toString("hex") : "",
    sizeBytes: kind === "file" ? stat.size : 0,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    mtimeMs: stat.mtimeMs,
    linkTarget: kind === "link" ? readlinkSync(path, { encoding: "latin1" }) : "",
  });
  const followed = kind === "link" && /^\.\/(pg_wal|pg_tblspc\/\d+)$/.test(name);
  if (kind !== "directory" && !(followed && statSync(path).isDirectory())) return;
  for (const entry of readdirSync(path, { encoding: "buffer" })) {
    visit(below(path, entry), `${name}/${entry.toString("latin1")}`, tree);
  }
}

function below(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, Buffer.from("/"), name]);
}
