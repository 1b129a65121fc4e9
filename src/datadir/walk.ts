/**
 * Lists a data directory: every entry once, in the order of the raw bytes of its whole relative path, which is the
 * order of the manifest. It follows the link pg_wal and the links in pg_tblspc and no other, and holds the names of
 * one directory and of those above it, however many files there are.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { StorageError } from "../errors.ts";
import type { DirectoryEntry, FileKind, FileSystem } from "../storage/file-system.ts";
import { type Classification, classify } from "./classify.ts";
import { parseRelationFolder, parseRelationName, type RelationContext } from "./relation-path.ts";

export interface WalkEntry {
  /** Relative to the data directory; a tablespace's files are under pg_tblspc. */
  readonly path: BytePath;
  readonly kind: FileKind;
  readonly classification: Classification;
}

/**
 * Yields every entry below `root`, and nothing twice: a tablespace that lies in another's folder, or in the data directory,
 * is listed below its link alone. A followed link comes as an entry of its own, and what is behind it below its
 * name. Foreign and excluded folders are yielded and not descended into.
 * @param root - a data directory whose links openDatadir has checked.
 * @param passOver - told of a folder that cannot be read, which is then passed over.
 * @throws {StorageError} when a directory cannot be read and nobody is to be told.
 */
export function* walkDatadir(
  fs: FileSystem,
  root: BytePath,
  cluster: RelationContext,
  passOver?: (path: BytePath, error: StorageError) => void,
): Generator<WalkEntry, void, undefined> {
  const stack = [openFrame(fs, root, "" as BytePath, cluster, passOver)];
  for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
    const step = frame.steps[frame.next++];
    if (step === undefined) {
      stack.pop();
    } else if (step.name.endsWith("/")) {
      const path = joinPath(frame.path, step.name.slice(0, -1));
      stack.push(openFrame(fs, root, path, cluster, passOver));
    } else {
      const path = joinPath(frame.path, step.name);
      const classification = classify(path, step.kind, { ...cluster, unlogged: frame.unlogged });
      yield { path, kind: step.kind, classification };
    }
  }
}

/** A directory that is being listed. */
interface Frame {
  readonly path: BytePath;
  readonly steps: readonly DirectoryEntry[];
  next: number;
  readonly unlogged: ReadonlySet<number> | undefined;
}

/**
 * Reads and sorts one directory. A folder to descend into has two steps: its own entry, sorted by its name, and what
 * is in it, sorted by name and slash; "a.b" stands between "a" and "a/b", since "." < "/".
 */
function openFrame(
  fs: FileSystem,
  root: BytePath,
  path: BytePath,
  cluster: RelationContext,
  passOver: ((path: BytePath, error: StorageError) => void) | undefined,
): Frame {
  const found = namesIn(fs, root, path, passOver);
  const { elsewhere } = cluster;
  const isListed = ({ name }: DirectoryEntry): boolean =>
    elsewhere?.has(joinPath(path, name)) !== true;
  const steps = elsewhere === undefined || elsewhere.size === 0 ? found : found.filter(isListed);
  const isRelationFolder = parseRelationFolder(path, cluster) !== undefined;
  const unlogged = isRelationFolder ? unloggedRelations(steps) : undefined;
  const folders = steps.filter(
    ({ name, kind }) =>
      (kind === "directory" || kind === "link") && isDescended(joinPath(path, name), kind, cluster),
  );
  for (const { name, kind } of folders) steps.push({ name: `${name}/` as BytePath, kind });
  // Strings of one byte a character: their order is the order of the bytes.
  steps.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { path, steps, next: 0, unlogged };
}

function namesIn(
  fs: FileSystem,
  root: BytePath,
  path: BytePath,
  passOver: ((path: BytePath, error: StorageError) => void) | undefined,
): DirectoryEntry[] {
  try {
    return fs.readDirectory(joinPath(root, path));
  } catch (error) {
    if (passOver === undefined || !(error instanceof StorageError)) throw error;
    passOver(path, error);
    return [];
  }
}

function isDescended(path: BytePath, kind: FileKind, cluster: RelationContext): boolean {
  const classification = classify(path, kind, cluster);
  return (
    classification.class === "directory" ||
    (classification.class === "link" && classification.followed)
  );
}

/** The relations that have an init fork. */
function unloggedRelations(entries: readonly DirectoryEntry[]): ReadonlySet<number> {
  const found = new Set<number>();
  for (const { name } of entries) {
    const relation = parseRelationName(name);
    if (relation?.fork === "init") found.add(relation.relfilenumber);
  }
  return found;
}
