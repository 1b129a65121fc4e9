/**
 * Holds one entry of the manifest against what stands at its path: what can be told without reading the file, and
 * how the file itself is to be checked. Used by verify, which reports, and by decryption, which refuses.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { parseRelationPath, sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import type { WalkEntry } from "../datadir/walk.ts";
import { fileContext } from "../format/container.ts";
import { isMovableLink, type ManifestEntry } from "../format/manifest-entry.ts";
import type { Problem, ProblemKind } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { Item, ItemResult } from "../workers/tasks.ts";
import { contexts as autoConfContexts } from "./guard.ts";
import { contentItem, openRelationItem, type Places, readableItem, walItem } from "./plan-items.ts";
import { linkDigest } from "./proof.ts";

export interface Expectation {
  readonly problems: readonly Problem[];
  /** Undefined where there is nothing to read. */
  readonly item: Item | undefined;
}

/** More than any configuration file has that somebody writes, or that a restore tool adds to. */
const CHANGED_LIMIT_BYTES = 2 ** 24;

export interface ExpectationOptions {
  /** It may have been changed on purpose: then its size tells nothing, as long as it is that of such a file. */
  readonly mayDiffer?: boolean | undefined;
}

/**
 * What a file of that class at that path needs, checked against `entry` where there is a manifest to believe. Sizes come
 * first: no more of a file is ever read than its line says that there is, or an edit could have made of one that is
 * readable by design, however large what lies there was made.
 */
export function expectationOf(
  fs: FileSystem,
  datadir: Datadir,
  found: WalkEntry,
  entry: Pick<ManifestEntry, "class" | "sizeBytes" | "digest">,
  { mayDiffer = false }: ExpectationOptions = {},
): Expectation {
  const { path } = found;
  const places: Places = { source: datadir.root, output: undefined };
  const only = (kind: ProblemKind, message: string): Expectation => ({
    problems: [{ kind, path: displayPath(path), message }],
    item: undefined,
  });
  const isDirectory = entry.class === "D";
  if (entry.class === "D" || entry.class === "L")
    return expectFolder(fs, datadir, found, entry, isDirectory);
  if (found.kind !== "file") return only("content", `a ${found.kind} where a file should be`);
  const sizeBytes = fs.stat(joinPath(datadir.root, path))?.sizeBytes ?? 0;
  const problems: Problem[] = [];
  if (mayDiffer) return changedFile(places, path, sizeBytes);
  if (sizeBytes !== entry.sizeBytes) {
    const message = `the file has ${sizeBytes} bytes where the manifest says ${entry.sizeBytes}`;
    problems.push({ kind: "size", path: displayPath(path), message });
  }
  const isTooLarge = sizeBytes > entry.sizeBytes;
  const isNoEdit = isTooLarge && sizeBytes > CHANGED_LIMIT_BYTES;
  switch (entry.class) {
    case "W": {
      if (sizeBytes !== datadir.control.walSegmentSizeBytes)
        return sizeProblem(problems, path, datadir.control.walSegmentSizeBytes);
      const missing = sidecarProblem(fs, datadir, path);
      if (missing !== undefined) return { problems: [...problems, missing], item: undefined };
      const item =
        found.classification.class === "wal" ? walItem(places, datadir, path) : undefined;
      if (item === undefined)
        return only("manifest", "the manifest names a WAL segment that cannot be one");
      return { problems, item };
    }
    case "P": {
      const file = parseRelationPath(path, datadir);
      if (file === undefined)
        return only("manifest", "the manifest names a relation file that cannot be one");
      // Of a file that has grown the part that the manifest names.
      const named = Math.min(sizeBytes, entry.sizeBytes);
      if (named === 0) return { problems, item: undefined };
      const missing = sidecarProblem(fs, datadir, path);
      if (missing !== undefined) return { problems: [...problems, missing], item: undefined };
      return {
        problems,
        item: openRelationItem(places, path, identityOf(datadir, file), named),
      };
    }
    case "S": {
      if (isTooLarge) return { problems, item: undefined };
      const item = contentItem("check", places, path, sizeBytes);
      return { problems, item: { ...item, context: contextFor(fs, datadir, path) } };
    }
    case "O": {
      const isRelation = parseRelationPath(path, datadir) !== undefined;
      if (isRelation && fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined) {
        const message = "a sidecar of a file that is plain, out of scope";
        problems.push({ kind: "extra", path: displayPath(sidecarName(path)), message });
      }
      return { problems, item: isTooLarge ? undefined : readableItem(places, path, sizeBytes) };
    }
    case "R":
      return { problems, item: isNoEdit ? undefined : readableItem(places, path, sizeBytes) };
  }
}

/** A file that is read whatever its line says, or without one: its content is looked at by whoever asks. */
export function changedFile(places: Places, path: BytePath, sizeBytes: number): Expectation {
  if (sizeBytes <= CHANGED_LIMIT_BYTES)
    return { problems: [], item: readableItem(places, path, sizeBytes) };
  const message = `the file has ${sizeBytes} bytes, more than the ${CHANGED_LIMIT_BYTES} that a configuration file can have`;
  return { problems: [{ kind: "size", path: displayPath(path), message }], item: undefined };
}

function sidecarProblem(fs: FileSystem, { root }: Datadir, path: BytePath): Problem | undefined {
  const kind = fs.stat(joinPath(root, sidecarName(path)))?.kind;
  if (kind === "file") return undefined;
  const message =
    kind === undefined ? "the sidecar is missing" : `the sidecar is no regular file (${kind})`;
  return { kind: "sidecar", path: displayPath(path), message };
}

/** Of a segment: its blocks cannot be told. */
function sizeProblem(known: readonly Problem[], path: BytePath, segmentBytes: number): Expectation {
  const message = `it is not a whole WAL segment of ${segmentBytes} bytes`;
  const problem: Problem = { kind: "size", path: displayPath(path), message };
  return { problems: known.length > 0 ? known : [problem], item: undefined };
}

/** Which of the contexts that a kept original may have this one has; a wrong one fails when it is opened. */
export function contextFor(fs: FileSystem, datadir: Datadir, path: BytePath): string {
  if (path === OWN_FILES["backup-manifest"]) return fileContext("backup_manifest");
  if (path !== OWN_FILES["auto-conf"]) return fileContext(path);
  const context = containerHeaderOf(fs, joinPath(datadir.root, path))?.context ?? "";
  return autoConfContexts().includes(context) ? context : fileContext("postgresql.auto.conf");
}

/** Whether a file that reads well is also the one that the manifest names. */
export function digestProblem(entry: ManifestEntry, result: ItemResult): Problem | undefined {
  if (
    result.digest === undefined ||
    result.digest === entry.digest ||
    (result.problemCount ?? 0) > 0
  ) {
    return undefined;
  }
  const sealed = entry.class === "P" || entry.class === "S" || entry.class === "W";
  return {
    kind: sealed ? "replaced" : "content",
    path: displayPath(entry.path),
    message: sealed
      ? "the file authenticates, but it is not the one that the manifest names: an older or newer one, or another copy's"
      : "the file's content was changed",
  };
}

function expectFolder(
  fs: FileSystem,
  datadir: Datadir,
  found: WalkEntry,
  entry: Pick<ManifestEntry, "digest">,
  isDirectory: boolean,
): Expectation {
  const { path, kind } = found;
  // A restore may turn the link pg_wal into a folder, and the other way round. What has moved, moved-links.ts tells.
  if (path === "pg_wal" && (kind === "directory" || kind === "link"))
    return { problems: [], item: undefined };
  if (isMovableLink(path) && kind === "link" && !isDirectory)
    return { problems: [], item: undefined };
  const wanted = isDirectory ? "directory" : "link";
  const message =
    kind !== wanted
      ? `a ${kind} where a ${wanted} should be`
      : kind === "link" && linkDigest(fs, datadir, path) !== entry.digest
        ? "the link leads elsewhere"
        : undefined;
  const problems: Problem[] =
    message === undefined ? [] : [{ kind: "content", path: displayPath(path), message }];
  return { problems, item: undefined };
}
