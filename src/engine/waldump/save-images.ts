/**
 * --save-fullpage: every full-page image as a file of its own, decompressed. The names are pg_waldump's.
 */
import { type BytePath, displayPath, directoryOf, joinPath } from "../../bytes/byte-path.ts";
import { type DecodeZstd, loadZstd } from "../../compression/zstd.ts";
import { writeAll } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { blockAt } from "../../wal/decode-record.ts";
import { restoreImage } from "../../wal/full-page-image.ts";
import { FORK_NAMES } from "../../wal/record-text.ts";
import type { WalRecord } from "../../wal/record.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { systemText } from "./system-text.ts";
import { WaldumpError } from "./waldump-error.ts";

/** pg_dir_create_mode and the mode of a new file: what is in a page is nobody else's business. */
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/** Makes the directory, or finds it empty. @throws {WaldumpError} */
export function prepareImageDirectory(fs: FileSystem, path: BytePath): void {
  let isEmpty: boolean | undefined;
  try {
    isEmpty =
      fs.statFollowing(path) === undefined ? undefined : fs.readDirectory(path).length === 0;
  } catch (error) {
    throw new WaldumpError(
      `could not access directory "${displayPath(path)}": ${systemText(error)}`,
    );
  }
  if (isEmpty === false) {
    throw new WaldumpError(`directory "${displayPath(path)}" exists but is not empty`);
  }
  if (isEmpty === true) return;
  try {
    makeWithParents(fs, path);
  } catch (error) {
    throw new WaldumpError(
      `could not create directory "${displayPath(path)}": ${systemText(error)}`,
    );
  }
}

function makeWithParents(fs: FileSystem, path: BytePath): void {
  if (fs.statFollowing(path) !== undefined) return;
  makeWithParents(fs, directoryOf(path));
  fs.makeDirectory(path, DIRECTORY_MODE);
}

export class ImageSaver {
  readonly #fs: FileSystem;
  readonly #directory: BytePath;
  readonly #format: WalFormat;
  readonly #timeline: number;
  readonly #decodeZstd: DecodeZstd;

  private constructor(
    fs: FileSystem,
    directory: BytePath,
    format: WalFormat,
    timeline: number,
    decodeZstd: DecodeZstd,
  ) {
    this.#fs = fs;
    this.#directory = directory;
    this.#format = format;
    this.#timeline = timeline;
    this.#decodeZstd = decodeZstd;
  }

  static async create(
    fs: FileSystem,
    directory: BytePath,
    format: WalFormat,
    timeline: number,
  ): Promise<ImageSaver> {
    return new ImageSaver(fs, directory, format, timeline, await loadZstd());
  }

  /** Writes the images of a record. @throws {WaldumpError} when one cannot be restored or written. */
  save(record: WalRecord): void {
    for (let i = 0; i <= record.maxBlockId; i++) {
      const block = blockAt(record, i);
      if (!block.present || !block.hasImage) continue;
      if (record.isEncrypted) {
        throw new WaldumpError("full page images are encrypted: give --keyring to save them");
      }
      const page = restoreImage(record, block, i, this.#format, this.#decodeZstd);
      if (typeof page === "string") throw new WaldumpError(page);
      const fork = FORK_NAMES[block.fork];
      if (fork === undefined) throw new WaldumpError(`invalid fork number: ${block.fork}`);
      const place = [this.#timeline, record.lsnHigh, record.lsnLow]
        .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
        .join("-");
      const { tablespaceOid, databaseOid, relfilenumber, blockNumber } = block;
      const name = `${place}.${tablespaceOid}.${databaseOid}.${relfilenumber}.${blockNumber}_${fork}`;
      this.#write(joinPath(this.#directory, name), page);
    }
  }

  #write(path: BytePath, page: Buffer): void {
    try {
      // One record may hold two images of a block: the later one stays, as in pg_waldump.
      this.#fs.remove(path);
      const file = this.#fs.create(path, FILE_MODE);
      try {
        writeAll(file, page, 0, page.length, 0);
      } finally {
        file.close();
      }
    } catch (error) {
      throw new WaldumpError(`could not write file "${displayPath(path)}": ${systemText(error)}`);
    }
  }
}
