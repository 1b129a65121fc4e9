/**
 * WAL segments as files of a directory: plain, `.partial`, or compressed or sealed as archives keep them. What is not
 * plain is held in memory whole, so of each kind there is one at a time.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { sidecarName } from "../../datadir/relation-path.ts";
import { StorageError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import type { SegmentBytes } from "../../wal/segment-source.ts";
import { openFollowing, ownParts, readUpTo, readWholeFile } from "../../storage/file-io.ts";
import { LONG_HEADER_BYTES } from "../../wal/page-header.ts";
import { WAL_SIDECAR_LIMIT_BYTES } from "../../datadir/wal-segment.ts";
import {
  beginsAsContainer,
  readSealedWal,
  WAL_FILE_LIMIT_BYTES,
} from "../wal-archive/sealed-wal.ts";
import { isStoredSegment, readStoredSegment } from "../wal-readable/read-stored.ts";
import {
  type CompressedName,
  compressedNamesOf,
  decompressed,
  parseCompressedName,
  suffixes,
} from "../../wal/compressed-wal.ts";
import {
  asStructure,
  inMemory,
  isGuarded,
  openSegmentBytes,
  requireKeys,
  withoutSidecar,
} from "./segment-bytes.ts";
import { isMissing, systemText } from "./system-text.ts";
import { WaldumpError } from "./waldump-error.ts";

/** A segment that is open, and closed by whoever opened it. */
export interface OpenSegment extends SegmentBytes {
  close(): void;
}

/** The keys of the keyring that was named, opened when the first encrypted file is met; undefined: none was named. */
export type WalKeys = () => Promise<DataKeys | undefined>;

/**
 * Opens a file of a directory for its WAL.
 * @param fileName - as it stands in the directory, or without the suffix of a compressed one.
 * @returns undefined where there is none.
 * @throws {WaldumpError} when the system refuses it. @throws {KeyError} {IntegrityError} {FormatError} for a sealed one.
 */
export async function openSegmentFile(
  fs: FileSystem,
  directory: BytePath,
  fileName: BytePath,
  keys: WalKeys,
): Promise<OpenSegment | undefined> {
  const plain = openIfThere(fs, directory, fileName);
  if (plain !== undefined) return await openFile(fs, plain, { directory, fileName, keys });
  for (const name of compressedNamesOf(fileName) as BytePath[]) {
    const file = openIfThere(fs, directory, name);
    if (file !== undefined) return await openFile(fs, file, { directory, fileName: name, keys });
  }
  return undefined;
}

interface FileOrigin {
  readonly directory: BytePath;
  readonly fileName: BytePath;
  readonly keys: WalKeys;
}

/** @param file - is closed, or the caller's in what it gets. */
async function openFile(
  fs: FileSystem,
  file: OpenFile,
  { directory, fileName, keys }: FileOrigin,
): Promise<OpenSegment> {
  let isHandedOn = false;
  try {
    if (beginsAsContainer(file)) {
      const opened = requireKeys(await keys(), `"${displayPath(file.path)}"`);
      return inMemory((await readSealedWal(file, opened)).content);
    }
    const compressed = compressionOf(fileName);
    if (compressed !== undefined) {
      const name = compressed.name as BytePath;
      const bytes = await decompressFile(file, fileName, compressed);
      const sidecar = (): Buffer | undefined => sidecarBeside(fs, directory, name);
      return await openSegmentBytes(bytes, { folder: directory, name, keys, sidecar });
    }
    const isStored = isStoredSegment(fs, directory, fileName);
    if (!isStored && !isGuardedFile(file)) {
      isHandedOn = true;
      return file;
    }
    const opened = await keys();
    if (opened === undefined) {
      isHandedOn = true;
      return asStructure(file);
    }
    if (!isStored) throw withoutSidecar(directory, fileName);
    return inMemory(readStoredSegment(fs, directory, fileName, opened).segment);
  } finally {
    if (!isHandedOn) file.close();
  }
}

/** By its name alone, which may be anything that was given on the command line. */
function compressionOf(fileName: BytePath): CompressedName | undefined {
  const suffix = suffixes.find((known) => fileName.endsWith(known));
  const named = parseCompressedName(fileName);
  if (named !== undefined || suffix === undefined) return named;
  return { name: fileName.slice(0, -suffix.length), suffix };
}

/** What cannot be read has none: reading it says why. */
function isGuardedFile(file: OpenFile): boolean {
  const start = Buffer.alloc(LONG_HEADER_BYTES);
  try {
    return isGuarded(start.subarray(0, readUpTo(file, start, 0, start.length, 0)));
  } catch (error) {
    if (error instanceof StorageError) return false;
    throw error;
  }
}

function sidecarBeside(fs: FileSystem, directory: BytePath, name: BytePath): Buffer | undefined {
  const path = joinPath(directory, sidecarName(name));
  if (fs.stat(path)?.kind !== "file") return undefined;
  return readWholeFile(fs, path, WAL_SIDECAR_LIMIT_BYTES);
}

/** As open_file_in_directory of pg_waldump: only a file that is not there is no error. */
export function openIfThere(
  fs: FileSystem,
  directory: BytePath,
  fileName: BytePath,
): OpenFile | undefined {
  try {
    return openFollowing(fs, joinPath(directory, fileName));
  } catch (error) {
    if (isMissing(error)) return undefined;
    if (error instanceof StorageError && error.errno === undefined) {
      // pg_waldump would wait for the pipe's other end, and then fail to read at a position.
      throw new WaldumpError(
        `could not open file "${displayPath(fileName)}": it is a socket, pipe or device`,
        { detail: 'WAL from a pipe is read from standard input, as segment "-".' },
      );
    }
    throw new WaldumpError(`could not open file "${displayPath(fileName)}": ${systemText(error)}`);
  }
}

async function decompressFile(
  file: OpenFile,
  fileName: BytePath,
  { name, suffix }: CompressedName,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  try {
    for await (const piece of decompressed(ownParts(file), suffix)) {
      length += piece.length;
      if (length > WAL_FILE_LIMIT_BYTES) throw new Error("it holds more than a WAL segment can");
      pieces.push(Buffer.from(piece));
    }
  } catch (error) {
    if (error instanceof StorageError) throw error;
    // One that is still being received ends where its compressor was.
    if (name.endsWith(".partial") && length > 0 && length <= WAL_FILE_LIMIT_BYTES)
      return Buffer.concat(pieces);
    const why = error instanceof Error ? error.message : String(error);
    throw new WaldumpError(`could not decompress file "${displayPath(fileName)}": ${why}`);
  }
  return Buffer.concat(pieces);
}
