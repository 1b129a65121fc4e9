/**
 * One segment in readable mode for whoever reads its records: opened into memory, its name its only context.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { ANY_EPOCH } from "../../datadir/relation-job.ts";
import { sidecarName } from "../../datadir/relation-path.ts";
import {
  openWalBytes,
  walIdentity,
  type WalSegmentBytes,
  walSidecarHead,
  type WalSegmentFiles,
  WAL_SIDECAR_LIMIT_BYTES,
} from "../../datadir/wal-segment.ts";
import { FormatError, IntegrityError, KeyError } from "../../errors.ts";
import { firstPageOf } from "../../format/wal/wal-page.ts";
import { WAL_SIDECAR_PAGE_BYTES } from "../../format/wal/wal-slot.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { readUpTo, readWholeFile, withFile } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { parseWalFileName } from "../../wal/wal-file-name.ts";
import { WAL_FILE_LIMIT_BYTES } from "../wal-archive/sealed-wal.ts";
import { isSegmentName } from "./wal-folder.ts";

export interface StoredSegment {
  /** The original. */
  readonly segment: Buffer;
  readonly files: WalSegmentFiles;
  readonly blocksByKey: ReadonlyMap<number, number>;
}

/**
 * Whether a file is a segment in readable mode: it has a sidecar and the guard. A sidecar beside a plain segment does
 * not count.
 */
export function isStoredSegment(fs: FileSystem, folder: BytePath, name: BytePath): boolean {
  const sidecar = joinPath(folder, sidecarName(name));
  if (!isSegmentName(name) || fs.stat(sidecar)?.kind !== "file") return false;
  const head = walSidecarHead(readStart(fs, sidecar, WAL_SIDECAR_PAGE_BYTES));
  const page = readStart(fs, joinPath(folder, name), WAL_PAGE_BYTES);
  if (typeof head === "string" || page.length < WAL_PAGE_BYTES) return true;
  return firstPageOf(page)?.isGuarded ?? true;
}

/**
 * @throws {KeyError} when the keyring is another one. @throws {IntegrityError} at the first block that does not
 *   authenticate. @throws {FormatError} for a sidecar that is none.
 */
export function readStoredSegment(
  fs: FileSystem,
  folder: BytePath,
  name: BytePath,
  keys: DataKeys,
): StoredSegment {
  const sidecar = joinPath(folder, sidecarName(name));
  const bytes = {
    segment: readWholeFile(fs, joinPath(folder, name), WAL_FILE_LIMIT_BYTES),
    sidecar: readWholeFile(fs, sidecar, WAL_SIDECAR_LIMIT_BYTES),
  };
  return openStoredBytes(bytes, folder, name, keys);
}

/**
 * As readStoredSegment, of what is in memory already.
 * @param folder - where messages say that it is.
 */
export function openStoredBytes(
  bytes: WalSegmentBytes,
  folder: BytePath,
  name: BytePath,
  keys: DataKeys,
): StoredSegment {
  const path = joinPath(folder, name);
  const sidecar = joinPath(folder, sidecarName(name));
  const head = walSidecarHead(bytes.sidecar);
  if (typeof head === "string") throw new FormatError(`"${displayPath(sidecar)}": ${head}`);
  const { systemIdentifier, relationSegment: segmentBytes } = head.identity;
  const place = parseWalFileName(name, segmentBytes);
  if (place === undefined)
    throw new FormatError(`"${displayPath(name)}" is not the name of a segment`);
  const identity = walIdentity(systemIdentifier, place, segmentBytes);
  const files = { path: name, segment: path, sidecar, identity, place };
  const facts = { keys, keyringId: keys.keyringId, epoch: 0n, latestEpoch: ANY_EPOCH };
  const { segment, blocksByKey } = openWalBytes(bytes, facts, files, "decrypt", (problem) => {
    const where = problem.block === undefined ? "" : ` block ${problem.block}`;
    const message = `"${displayPath(path)}"${where}: ${problem.message}`;
    throw problem.kind === "key" ? new KeyError(message) : new IntegrityError(message);
  });
  return { segment, files, blocksByKey };
}

function readStart(fs: FileSystem, path: BytePath, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  return buffer.subarray(
    0,
    withFile(fs, path, (file) => readUpTo(file, buffer, 0, bytes, 0)),
  );
}
