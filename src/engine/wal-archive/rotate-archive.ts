/**
 * `tde rotate --wal`: the files of an archive, sealed anew under the current key, one after the other. Each new file is
 * made beside the old one, opened to its last tag and held against it before it takes its place: whatever happens in
 * between, the archive has one of the two, and the same command does the rest.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { compareSealedFiles, containerHeaderOf, resealFile } from "../../datadir/sealed-file.ts";
import { StateError } from "../../errors.ts";
import {
  CONTAINER_HEADER_LIMIT_BYTES,
  parseContainerHeader,
  walContext,
} from "../../format/container.ts";
import { firstPageOf } from "../../format/wal/wal-page.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { addLoad, type KeyLoad, type KeyLoads } from "../../keyring/key-load.ts";
import { readUpTo, withFile } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { SEGMENT_HEAD_BYTES } from "../../wal/segment-head.ts";
import { isStoredSegment } from "../wal-readable/read-stored.ts";
import { listArchive } from "./archive-files.ts";
import { beginsAsContainer } from "./sealed-wal.ts";
import { archiveFolder, removeAbandoned, replaceWhole, requireArchive } from "./archive-folder.ts";
import { identityPath, readIdentity } from "./archive-identity.ts";

export interface RotateArchiveRequest {
  readonly archive: BytePath;
  /** Only what is under this key; undefined: all that is not under the current one. */
  readonly fromKey: number | undefined;
  readonly dryRun: boolean;
}

export interface RotateArchiveContext {
  readonly fs: FileSystem;
  readonly keys: DataKeys;
  readonly signal: AbortSignal | undefined;
}

export interface RotateArchiveReport {
  readonly outcome: "rotated" | "nothing-to-do" | "dry-run";
  readonly files: number;
  readonly bytes: number;
  /** The current key. */
  readonly keyId: number;
  /** Files of the archive that are not encrypted, and stay so. */
  readonly plain: number;
  /** What is under each key now; under a dry run: as it is. */
  readonly load: KeyLoads;
  /** 32 hex digits; undefined where the archive has none. */
  readonly archiveId: string | undefined;
}

/** @throws {StateError} when there is no archive, or one of segments in readable mode. @throws {KeyError} {IntegrityError} {FormatError} {StorageError} */
export async function rotateArchive(
  { fs, keys, signal }: RotateArchiveContext,
  { archive, fromKey, dryRun }: RotateArchiveRequest,
): Promise<RotateArchiveReport> {
  requireArchive(fs, archive);
  if (!dryRun) removeAbandoned(fs, archive);
  const identity = readIdentity(fs, archive, keys);
  const folder = archiveFolder(archive);
  const { names } = listArchive(fs, archive, folder);
  for (const name of [...names.segment, ...names.partial]) requireNotReadable(fs, archive, name);
  const load = new Map<number, KeyLoad>();
  let plain = 0;
  let files = 0;
  let bytes = 0;
  for (const name of [...names.history, ...names.backup, ...names.segment, ...names.partial]) {
    signal?.throwIfAborted();
    const path = joinPath(archive, name);
    const keyId = keyIdOf(fs, path);
    if (keyId === undefined) {
      plain++;
      continue;
    }
    const rotates = keyId !== keys.currentKeyId && (fromKey ?? keyId) === keyId;
    if (rotates) {
      files++;
      bytes += fs.stat(path)?.sizeBytes ?? 0;
      if (!dryRun) await reseal(fs, keys, archive, path, walContext(name));
    }
    const under = rotates && !dryRun ? keys.currentKeyId : keyId;
    addLoad(load, under, { pages: 1, bytes: fs.stat(path)?.sizeBytes ?? 0 });
  }
  if (identity !== undefined && identity.keyId !== keys.currentKeyId && !dryRun) {
    await reseal(fs, keys, archive, identityPath(archive), undefined);
    fs.syncDirectory(folder);
  }
  // Also what a run that was killed has renamed: the key of before may be destroyed next.
  if (!dryRun) fs.syncDirectory(archive);
  const done = files === 0 ? "nothing-to-do" : "rotated";
  const { currentKeyId: keyId } = keys;
  const outcome = dryRun ? "dry-run" : done;
  return { outcome, files, bytes, keyId, plain, load, archiveId: identity?.archiveId };
}

/** Such a segment is under a key, too, and would be called plain. */
function requireNotReadable(fs: FileSystem, archive: BytePath, name: BytePath): void {
  const start = Buffer.alloc(SEGMENT_HEAD_BYTES);
  withFile(fs, joinPath(archive, name), (file) => readUpTo(file, start, 0, start.length, 0));
  if (firstPageOf(start)?.isGuarded !== true && !isStoredSegment(fs, archive, name)) return;
  throw new StateError(`"${displayPath(joinPath(archive, name))}" is in readable mode`, {
    hint: "A folder of such segments is rotated by itself, with their sidecars (_tde) beside them.",
  });
}

/** @returns undefined for what is no container. @throws {FormatError} for one that is damaged. */
function keyIdOf(fs: FileSystem, path: BytePath): number | undefined {
  return withFile(fs, path, (file) => {
    if (!beginsAsContainer(file)) return undefined;
    const start = Buffer.alloc(CONTAINER_HEADER_LIMIT_BYTES);
    const count = readUpTo(file, start, 0, start.length, 0);
    return parseContainerHeader(start.subarray(0, count), `"${displayPath(path)}"`).keyId;
  });
}

/** Compressed content stays as it is: nothing but key, salt and tags is new. */
async function reseal(
  fs: FileSystem,
  keys: DataKeys,
  archive: BytePath,
  path: BytePath,
  expectedContext: string | undefined,
): Promise<void> {
  const before = containerHeaderOf(fs, path);
  const stat = fs.stat(path);
  if (before === undefined || stat === undefined) return;
  const { systemIdentifier } = before;
  const context = expectedContext ?? before.context;
  const opening = { keys, context, systemIdentifier, decompresses: true };
  const write = (to: OpenFile): void => {
    resealFile(fs, path, to, opening);
    // Rules of retention go by the time of a file.
    to.setAttributes(stat);
  };
  const isRight = (written: OpenFile): boolean =>
    compareSealedFiles(fs, written.path, path, opening);
  await replaceWhole(fs, archive, path, { mode: stat.mode, write, isRight });
}
