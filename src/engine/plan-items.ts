/**
 * From a classified path to the work item of a file: where its plain form, its sealed form and its sidecar are, and
 * what identifies it. The one place where the layout of an encrypted directory is put together.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { sha256 } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { walFilesOf } from "../datadir/pg-wal.ts";
import type { RelationFiles } from "../datadir/relation-job.ts";
import { sidecarName, workingName } from "../datadir/relation-path.ts";
import { fileContext } from "../format/container.ts";
import type { FileIdentity } from "../format/identity.ts";
import type { DueStep } from "../storage/journal.ts";
import type {
  ContentItem,
  ReadableItem,
  RelationItem,
  WalItem,
  WalTarget,
} from "../workers/tasks.ts";

/** Where a run reads and where it writes: the same directory, under working names, or another one. */
export interface Places {
  readonly source: BytePath;
  /** Undefined: in place. */
  readonly output: BytePath | undefined;
}

/** The path where a new file is written: its working name in place, its own name in a new directory. */
export function newPath(places: Places, path: BytePath): BytePath {
  return places.output === undefined
    ? joinPath(places.source, workingName(path))
    : joinPath(places.output, path);
}

/** What lets a new file take its place; nothing in a new directory, which counts as a whole or not at all. */
export function stepsFor(places: Places, ...paths: readonly BytePath[]): DueStep[] {
  if (places.output !== undefined) return [];
  return paths.map((path) => ({ action: "rename", from: workingName(path), to: path }));
}

export function sealRelationItem(
  places: Places,
  path: BytePath,
  identity: FileIdentity,
  sizeBytes: number,
): RelationItem {
  const files: RelationFiles = {
    path,
    plain: joinPath(places.source, path),
    sealed: newPath(places, path),
    sidecar: newPath(places, sidecarName(path)),
    identity,
    sizeBytes,
  };
  return { kind: "relation", files };
}

export function openRelationItem(
  places: Places,
  path: BytePath,
  identity: FileIdentity,
  sizeBytes: number,
): RelationItem {
  const files: RelationFiles = {
    path,
    plain: newPath(places, path),
    sealed: joinPath(places.source, path),
    sidecar: joinPath(places.source, sidecarName(path)),
    identity,
    sizeBytes,
  };
  return { kind: "relation", files };
}

/** A segment of pg_wal that is sealed in readable mode; undefined where the path is not that of one. */
export function walItem(places: Places, datadir: Datadir, path: BytePath): WalItem | undefined {
  const files = walFilesOf(datadir, places.source, path);
  if (files === undefined) return undefined;
  return { kind: "wal", files, sizeBytes: files.identity.relationSegment };
}

/** Where the new files of a segment are written. */
export function walTarget(places: Places, path: BytePath): WalTarget {
  return { segment: newPath(places, path), sidecar: newPath(places, sidecarName(path)) };
}

/** A whole file under `path`, sealed as the container of `original`, which is the same path but for kept originals. */
export function contentItem(
  direction: "seal" | "open" | "check",
  places: Places,
  path: BytePath,
  sizeBytes: number,
): ContentItem {
  const here = joinPath(places.source, path);
  const there = direction === "check" ? here : newPath(places, path);
  return {
    kind: "content",
    path,
    plain: direction === "seal" ? here : there,
    sealed: direction === "seal" ? there : here,
    context: fileContext(path),
    sizeBytes,
  };
}

export function readableItem(places: Places, path: BytePath, sizeBytes: number): ReadableItem {
  const from = joinPath(places.source, path);
  const to = places.output === undefined ? from : joinPath(places.output, path);
  return { kind: "readable", path, from, to, sizeBytes };
}

/**
 * The copy of a relation file that has no pages, and so no sidecar: what has come into it since it was looked at must
 * not be copied as it is.
 */
export function emptyRelation(item: ReadableItem): ReadableItem {
  return { ...item, digest: sha256().toString("hex") };
}
