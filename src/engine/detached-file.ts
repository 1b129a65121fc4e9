/**
 * One encrypted file by itself: a relation file with its sidecar, or a file that is sealed whole, copied out of a data
 * directory or left from one. The sidecar or container says what the file is, and how large a block. Keys and tags prove
 * that; what nothing proves without a manifest: that it is the newest state of the file, or of one time in all its parts.
 */
import { type BytePath, directoryOf, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import type { RelationFiles } from "../datadir/relation-job.ts";
import { ANY_EPOCH } from "../datadir/relation-job.ts";
import { nameWithoutSidecarSuffix, sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { FormatError, StateError, UsageError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import { describeIdentity } from "../format/identity.ts";
import { parseSidecarPage, type SidecarPageHead } from "../format/sidecar-page.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { RunContext } from "../workers/perform.ts";
import type { Item } from "../workers/tasks.ts";

/** What is written on every answer about such a file. */
export const NOT_PROVED: readonly string[] = [
  "that it is the newest state of the file: a sidecar and its file of an earlier time authenticate, too",
  "that all of it is of one time: each page of the sidecar vouches for its own pages alone",
  "that it belongs where it lies: there is no manifest to say so",
];

export interface DetachedFile {
  readonly path: BytePath;
  /** The path that it had in its data directory, as it says itself. */
  readonly belongsTo: string;
  /** Whether it is called as it was there. */
  readonly hasOwnName: boolean;
  readonly systemIdentifier: bigint;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly sizeBytes: number;
  readonly content: DetachedRelation | DetachedContainer;
}

export interface DetachedRelation {
  readonly kind: "relation";
  readonly head: SidecarPageHead;
  readonly blockSizeBytes: number;
  readonly sidecar: BytePath;
}

export interface DetachedContainer {
  readonly kind: "container";
  readonly context: string;
}

const BLOCK_SIZES: readonly number[] = [8192, 4096, 16384, 32768, 2048, 1024];
const SMALLEST_CONTEXT = fileContext("");

/** @throws {UsageError} {StateError} {FormatError} for what is no such file; nothing is authenticated yet. */
export function openDetached(fs: FileSystem, path: BytePath): DetachedFile {
  const stat = fs.statFollowing(path);
  if (stat?.kind !== "file") throw new UsageError(`there is no file "${displayPath(path)}"`);
  if (nameWithoutSidecarSuffix(nameOf(path)) !== undefined) {
    throw new UsageError(`"${displayPath(path)}" is a sidecar by its name`, {
      hint: "Name the file that it belongs to.",
    });
  }
  const file = { path, sizeBytes: stat.sizeBytes };
  return detachedContainer(fs, file) ?? detachedRelation(fs, file);
}

interface NamedFile {
  readonly path: BytePath;
  readonly sizeBytes: number;
}

function detachedContainer(fs: FileSystem, file: NamedFile): DetachedFile | undefined {
  const header = containerHeaderOf(fs, file.path);
  if (header === undefined) return undefined;
  const { context, systemIdentifier, keyringId } = header;
  if (!context.startsWith(SMALLEST_CONTEXT)) {
    throw new UsageError(
      `"${displayPath(file.path)}" is "${displayPath(context)}", no file of a data directory`,
      { hint: 'Files of an archive of WAL are given back by "tde wal restore".' },
    );
  }
  const belongsTo = context.slice(SMALLEST_CONTEXT.length);
  const hasOwnName = nameOf(belongsTo as BytePath) === nameOf(file.path);
  const content = { kind: "container", context } as const;
  return { ...file, belongsTo, hasOwnName, systemIdentifier, keyringId, content };
}

function detachedRelation(fs: FileSystem, file: NamedFile): DetachedFile {
  const { path } = file;
  const sidecar = joinPath(directoryOf(path), sidecarName(nameOf(path)));
  if (fs.statFollowing(sidecar)?.kind !== "file") {
    throw new StateError(
      `"${displayPath(path)}" is not sealed whole, and has no sidecar "${displayPath(sidecar)}"`,
      {
        hint: "The sidecar has what it takes to decrypt the file: put it beside, under that name. A file that was never encrypted has none.",
      },
    );
  }
  const found = readHead(fs, sidecar);
  if (found === undefined) {
    throw new FormatError(`"${displayPath(sidecar)}" does not begin as a sidecar`, {
      hint: "Restore both files from one and the same backup.",
    });
  }
  const { head, blockSizeBytes } = found;
  const { identity, keyringId } = head;
  if (identity.fork === "wal") {
    throw new UsageError(`"${displayPath(path)}" is a WAL segment`, {
      hint: 'Segments are given back by "tde wal decrypt", and checked by "tde wal verify" of their folder.',
    });
  }
  const belongsTo = describeIdentity(identity);
  return {
    ...file,
    belongsTo,
    hasOwnName: nameOf(belongsTo as BytePath) === nameOf(path),
    systemIdentifier: identity.systemIdentifier,
    keyringId,
    content: { kind: "relation", head, blockSizeBytes, sidecar },
  };
}

/** The block size is that for which the sidecar's first page is one. */
function readHead(
  fs: FileSystem,
  sidecar: BytePath,
): { readonly head: SidecarPageHead; readonly blockSizeBytes: number } | undefined {
  const start = Buffer.alloc(Math.max(...BLOCK_SIZES));
  const count = withFile(fs, sidecar, (file) => readUpTo(file, start, 0, start.length, 0));
  for (const blockSizeBytes of BLOCK_SIZES) {
    if (count < blockSizeBytes) continue;
    const head = parseSidecarPage(start.subarray(0, blockSizeBytes));
    if (typeof head !== "string") return { head, blockSizeBytes };
  }
  return undefined;
}

/** For the workers. @param plain - where the original is written, when it is. */
export function detachedItem(file: DetachedFile, plain: BytePath = file.path): Item {
  const { path, sizeBytes, content } = file;
  if (content.kind === "container")
    return { kind: "content", path, plain, sealed: path, context: content.context, sizeBytes };
  return { kind: "relation", files: { ...relationFiles(file, content), plain } };
}

export function relationFiles(
  { path, sizeBytes }: DetachedFile,
  { head, sidecar }: DetachedRelation,
): RelationFiles {
  return { path, plain: path, sealed: path, sidecar, identity: head.identity, sizeBytes };
}

export function detachedContext(file: DetachedFile, keys: DataKeys | undefined): RunContext {
  const { systemIdentifier, keyringId, content } = file;
  return {
    keys,
    keyringId,
    epoch: ANY_EPOCH,
    systemIdentifier,
    blockSizeBytes: content.kind === "relation" ? content.blockSizeBytes : 8192,
    dataChecksums: false,
  };
}
