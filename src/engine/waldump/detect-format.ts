/**
 * Which major's WAL it is that a command line is about, before anything else is known: from the page magic of the
 * files that it names or, where it names none, of one in the directory where it would look.
 */
import { type BytePath, directoryOf, nameOf } from "../../bytes/byte-path.ts";
import { TdeError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import { walFormatOf, walFormatOfMagic, type WalFormat } from "../../wal/wal-format.ts";
import { anyWalFile, candidateDirectories } from "./locate.ts";
import { openSegmentFile, type WalKeys } from "./wal-files.ts";
import { WaldumpError } from "./waldump-error.ts";

/** Where no WAL tells: the newest major that is released. */
export const DEFAULT_FORMAT: WalFormat = walFormatOf(18);

/** A file may be damaged at its beginning: so many of its pages are asked. */
const PAGES_ASKED = 16;

export interface DetectPlaces {
  readonly path: BytePath | undefined;
  readonly segments: readonly BytePath[];
  readonly pgdata: BytePath | undefined;
  readonly keys: WalKeys;
}

/** Never fails: what is wrong with the files is found again, and said, when they are read. */
export async function detectFormat(
  fs: FileSystem,
  { path, segments, pgdata, keys }: DetectPlaces,
): Promise<WalFormat | undefined> {
  for (const segment of segments) {
    const folder = path ?? (segment.includes("/") ? directoryOf(segment) : undefined);
    for (const directory of candidateDirectories(folder, pgdata)) {
      const format = await formatOfFile(fs, directory, nameOf(segment), keys);
      if (format !== undefined) return format;
    }
  }
  // A --path that holds no WAL is an error, whose words the WAL tells that would be read without it.
  const directories = [
    ...candidateDirectories(path, pgdata),
    ...(path === undefined ? [] : candidateDirectories(undefined, pgdata)),
  ];
  for (const directory of directories) {
    const name = anyWalFile(fs, directory);
    const format = name && (await formatOfFile(fs, directory, name, keys));
    if (format !== undefined) return format;
  }
  return undefined;
}

/** The major by the first page that has a known magic. */
export function formatOfPages(bytes: Buffer): WalFormat | undefined {
  for (let page = 0; page + WAL_PAGE_BYTES <= bytes.length; page += WAL_PAGE_BYTES) {
    const format = walFormatOfMagic(bytes.readUInt16LE(page + WAL_PAGE_HEADER.magic));
    if (format !== undefined) return format;
  }
  return undefined;
}

async function formatOfFile(
  fs: FileSystem,
  directory: BytePath,
  name: BytePath,
  keys: WalKeys,
): Promise<WalFormat | undefined> {
  try {
    const file = await openSegmentFile(fs, directory, name, keys);
    if (file === undefined) return undefined;
    try {
      const bytes = Buffer.alloc(PAGES_ASKED * WAL_PAGE_BYTES);
      return formatOfPages(bytes.subarray(0, file.read(bytes, 0, bytes.length, 0)));
    } finally {
      file.close();
    }
  } catch (error) {
    if (error instanceof WaldumpError || error instanceof TdeError) return undefined;
    throw error;
  }
}
