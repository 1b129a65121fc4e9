/**
 * WAL segments as files of a directory: plain, `.partial`, or compressed or sealed as archives keep them. What is not
 * plain is held in memory whole, so of each kind there is one at a time.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { KeyError, StorageError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import type { SegmentBytes } from "../../wal/segment-source.ts";
import { beginsAsContainer, readSealedWal } from "../wal-archive/sealed-wal.ts";
import { decompressed, type Suffix, suffixes } from "./decompress.ts";
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
  if (plain !== undefined) {
    if (beginsAsContainer(plain)) return inMemory(await unsealFile(plain, keys));
    const suffix = suffixes.find((known) => fileName.endsWith(known));
    return suffix === undefined ? plain : inMemory(await decompressFile(plain, fileName, suffix));
  }
  for (const suffix of suffixes) {
    const name = `${fileName}${suffix}` as BytePath;
    const file = openIfThere(fs, directory, name);
    if (file !== undefined) return inMemory(await decompressFile(file, name, suffix));
  }
  return undefined;
}

/** As open_file_in_directory of pg_waldump: only a file that is not there is no error. */
export function openIfThere(
  fs: FileSystem,
  directory: BytePath,
  fileName: BytePath,
): OpenFile | undefined {
  try {
    return fs.open(joinPath(directory, fileName));
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

export function inMemory(bytes: Buffer): OpenSegment {
  return {
    read: (buffer, offset, length, position) => {
      const part = bytes.subarray(position, position + length);
      buffer.set(part, offset);
      return part.length;
    },
    close: () => undefined,
  };
}

/** No WAL segment is larger. */
const LARGEST_SEGMENT_BYTES = 2 ** 30;

async function decompressFile(file: OpenFile, fileName: BytePath, suffix: Suffix): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  try {
    for await (const piece of decompressed(partsOf(file), suffix)) {
      length += piece.length;
      if (length > LARGEST_SEGMENT_BYTES) throw new Error("it holds more than a WAL segment can");
      pieces.push(Buffer.from(piece));
    }
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new WaldumpError(`could not decompress file "${displayPath(fileName)}": ${why}`);
  } finally {
    file.close();
  }
  return Buffer.concat(pieces);
}

async function unsealFile(file: OpenFile, keys: WalKeys): Promise<Buffer> {
  try {
    const opened = await keys();
    if (opened !== undefined) return (await readSealedWal(file, opened)).content;
    throw new KeyError(`"${displayPath(file.path)}" is encrypted, and no keyring is named`, {
      hint: "Give --keyring or set TDE_KEYRING.",
    });
  } finally {
    file.close();
  }
}

const PART_BYTES = 2 ** 17;

/** An open file from its beginning; each part is the caller's own. */
export function* partsOf(file: OpenFile): Generator<Uint8Array> {
  for (let position = 0; ;) {
    const part = Buffer.allocUnsafe(PART_BYTES);
    const count = file.read(part, 0, part.length, position);
    if (count === 0) return;
    yield part.subarray(0, count);
    position += count;
  }
}
