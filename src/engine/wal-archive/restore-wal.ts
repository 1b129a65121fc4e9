/**
 * `tde wal restore`: one file of an archive back to where a server wants it. The file has its name only after its last
 * tag held: written beside it, synced, read back, renamed, the directory synced.
 */
import {
  type BytePath,
  directoryOf,
  displayPath,
  joinPath,
  nameOf,
} from "../../bytes/byte-path.ts";
import { runningSha256 } from "../../crypto/primitives.ts";
import { plainAccess } from "../../datadir/plain-access.ts";
import { FormatError, IntegrityError, TdeError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { fileParts, ownParts, readUpTo, withFile, writeAll } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { notAsWritten } from "../../storage/read-back.ts";
import { compressedNamesOf, decompressed, suffixOfContent } from "../../wal/compressed-wal.ts";
import { archivedKind } from "../../wal/wal-file-name.ts";
import { requireArchive } from "./archive-folder.ts";
import { archivedLimitBytes, beginsAsContainer, openArchivedWal } from "./sealed-wal.ts";
import { clusterOf, inspectWalFile, type PlainFile } from "./wal-source.ts";

export interface RestoreRequest {
  /** The archive's path with %f at its end. */
  readonly source: BytePath;
  /** %p */
  readonly target: BytePath;
  /** Files that are not encrypted are copied; else they are refused: anybody could have put them there. */
  readonly allowPlain: boolean;
}

/** `missing`: the archive has no such file, which ends a recovery in the ordinary way. */
export type RestoreOutcome = "restored" | "restored-plain" | "missing";

/** One at a time: the server asks for one file after the other, under one name. */
const WORKING_SUFFIX = ".tdenew";
/** What a compressor writes first. */
const MAGIC_BYTES = 4;

/** @throws {StateError} {FormatError} {KeyError} {IntegrityError} {StorageError}: the target is then as it was. */
export async function restoreWal(
  fs: FileSystem,
  keys: DataKeys,
  { source, target, allowPlain }: RestoreRequest,
): Promise<RestoreOutcome> {
  requireArchive(fs, directoryOf(source));
  // Servers ask for names that nobody ever archives, too.
  if (archivedKind(nameOf(source)) === undefined) return "missing";
  const stored = storedAs(fs, source);
  if (stored === undefined) return "missing";
  const file = fs.open(stored);
  try {
    const cluster = clusterOf(fs, target);
    const { mode } = file.stat();
    if (stored === source && beginsAsContainer(file)) {
      await writeWhole(fs, target, mode, openArchivedWal(file, keys, cluster).parts);
      return "restored";
    }
    if (!allowPlain) {
      throw new IntegrityError(`"${displayPath(stored)}" is not encrypted`, {
        hint: "Anybody could have put it there. If it was archived before tde was used, give --allow-plain.",
      });
    }
    const what = { name: nameOf(source), where: `"${displayPath(stored)}"` };
    await writeWhole(fs, target, mode, plainParts(file, what), (written) => {
      inspectWalFile(written, what, cluster);
    });
    return "restored-plain";
  } finally {
    file.close();
  }
}

/** Where the file is: under its name, or one that a compressor gave it. undefined: the archive does not have it. */
function storedAs(fs: FileSystem, source: BytePath): BytePath | undefined {
  if (fs.stat(source) !== undefined) return source;
  const folder = directoryOf(source);
  return compressedNamesOf(nameOf(source))
    .map((name) => joinPath(folder, name))
    .find((path) => fs.stat(path) !== undefined);
}

/** The content of a file that is not encrypted, decompressed if it is compressed, whatever its name says. */
async function* plainParts(file: OpenFile, { name, where }: PlainFile): AsyncGenerator<Uint8Array> {
  const start = Buffer.alloc(MAGIC_BYTES);
  const suffix = suffixOfContent(start.subarray(0, readUpTo(file, start, 0, start.length, 0)));
  const limit = archivedLimitBytes(name);
  if (suffix === undefined) requireAtMost(limit, file.stat().sizeBytes, where);
  const parts = ownParts(file);
  const content = suffix === undefined ? parts : decompressed(parts, suffix);
  let sizeBytes = 0;
  try {
    for await (const part of content) {
      sizeBytes += part.length;
      requireAtMost(limit, sizeBytes, where);
      yield part;
    }
  } catch (error) {
    if (error instanceof TdeError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new FormatError(`${where} could not be decompressed: ${why}`);
  }
}

/** @throws {FormatError} for what no server can have archived: no more of it is written. */
function requireAtMost(limit: number, sizeBytes: number, where: string): void {
  if (sizeBytes <= limit) return;
  throw new FormatError(
    `${where} has ${sizeBytes} bytes or more, more than the ${limit} that it can have`,
  );
}

async function writeWhole(
  fs: FileSystem,
  target: BytePath,
  mode: number,
  content: AsyncIterable<Uint8Array>,
  inspect: (written: OpenFile) => void = () => {},
): Promise<void> {
  const working = `${target}${WORKING_SUFFIX}` as BytePath;
  fs.remove(working);
  const to = fs.create(working, 0o600);
  // To open the source once more would take as long again: a digest of what came of it does.
  const hash = runningSha256();
  try {
    try {
      const access = plainAccess(fs, directoryOf(target));
      const made = to.stat();
      // The archive's mode counts for no more than the group's right to read, where the server's folder lets that be; and
      // what root restores belongs to whom the folder belongs to.
      const owner = made.uid === 0 ? { uid: access.uid, gid: access.gid } : {};
      to.setAttributes({ ...made, ...owner, mode: 0o600 | (mode & 0o040 & access.fileMode) });
      let position = 0;
      for await (const part of content) {
        hash.update(part);
        writeAll(to, part, 0, part.length, position);
        position += part.length;
      }
      to.sync();
    } finally {
      to.close();
    }
    const written = runningSha256();
    for (const part of fileParts(fs, working)()) written.update(part);
    if (!written.digest().equals(hash.digest())) throw notAsWritten(target);
    withFile(fs, working, inspect);
    fs.rename(working, target);
  } catch (error) {
    removeQuietly(fs, working);
    throw error;
  }
  fs.syncDirectory(directoryOf(target));
}

/** What is decrypted already must not stay behind; the error matters more than whatever goes wrong here. */
function removeQuietly(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // The next restore removes it.
  }
}
