/**
 * Keeps what opens the data apart from the data: a keyring, key file, passphrase file or state file that lies in a data
 * directory would be sealed with the rest of it, under a key that only it can give back.
 */
import { type BytePath, directoryOf, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { StateError, StorageError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  type KeyringFlags,
  keyringPathFrom,
  type SecretFlags,
  secretsFrom,
  statePathFrom,
} from "./keyring-flags.ts";
import type { OutputDirectoryFlags } from "./options.ts";

interface KeyPlace {
  /** As in messages: `key file`. */
  readonly what: string;
  readonly path: BytePath;
}

const HINT =
  "Move it out of there first, best to where nobody who can write to the data can reach it, and give its new path.";

/**
 * For whatever writes into a data directory or makes one, before anything is opened.
 * @param roots - the data directories that are read or written.
 * @throws {StateError} when a file that the flags or the environment name lies in one of them, in a tablespace of theirs,
 *   behind their pg_wal, or in what --output and --tablespace-mapping name. @throws {UsageError} when no keyring is named.
 */
export function assertKeysApart(
  fs: FileSystem,
  flags: KeyringFlags & SecretFlags & OutputDirectoryFlags,
  ...roots: readonly BytePath[]
): void {
  const made = [flags.output, ...(flags.tablespaceMapping?.values() ?? [])];
  const places = [...roots.flatMap((root) => placesOfDatadir(fs, root)), ...made];
  const files = keyPlaces(flags).map((file) => ({ ...file, real: realPathToBe(fs, file.path) }));
  for (const place of places) {
    const folder = place === undefined ? undefined : realPathToBe(fs, place);
    if (place === undefined || folder === undefined) continue;
    const file = files.find(({ real }) => real !== undefined && liesIn(real, folder));
    if (file === undefined) continue;
    throw new StateError(
      `${file.what} "${displayPath(file.path)}" lies in "${displayPath(place)}", with the data that it opens`,
      { hint: HINT },
    );
  }
}

/**
 * For a file that is to be made.
 * @param what - as in messages: `key file`.
 * @throws {StateError} when it would lie in a data directory.
 */
export function assertNotInDatadir(fs: FileSystem, what: string, path: BytePath): void {
  const real = realPathToBe(fs, path);
  if (real === undefined) return;
  let folder = real;
  while (folder !== "/") {
    folder = directoryOf(folder);
    const isDatadir = ["PG_VERSION", "global/pg_control"].every((name) => exists(fs, folder, name));
    if (!isDatadir) continue;
    throw new StateError(
      `${what} "${displayPath(path)}" would lie in data directory "${displayPath(folder)}"`,
      { hint: "Choose a place outside of it: encrypting the directory would lock it in." },
    );
  }
}

function keyPlaces(flags: KeyringFlags & SecretFlags): KeyPlace[] {
  const { keyFile = [], passphraseFile = [] } = secretsFrom(flags);
  return [
    { what: "keyring", path: keyringPathFrom(flags) },
    ...keyFile.map((path) => ({ what: "key file", path })),
    ...passphraseFile.map((path) => ({ what: "passphrase file", path })),
    { what: "state file", path: statePathFrom(flags) },
  ];
}

/** The directory itself and the places that its links lead to, as far as they are there. */
function placesOfDatadir(fs: FileSystem, root: BytePath): BytePath[] {
  const parent = joinPath(root, "pg_tblspc");
  const tablespaces = fs.stat(parent)?.kind === "directory" ? fs.readDirectory(parent) : [];
  const links = ["pg_wal", ...tablespaces.map(({ name }) => joinPath("pg_tblspc", name))];
  return [
    root,
    ...links
      .map((link) => joinPath(root, link))
      .filter((link) => fs.stat(link)?.kind === "link" && exists(fs, link))
      .map((link) => fs.realPath(link)),
  ];
}

/** Without a link in it, and absolute; undefined where the system does not say, and so nothing can be made there. */
function realPathToBe(fs: FileSystem, path: BytePath): BytePath | undefined {
  try {
    if (fs.statFollowing(path) !== undefined) return fs.realPath(path);
    const link = fs.stat(path)?.kind === "link" ? fs.readLink(path) : undefined;
    if (link !== undefined) {
      const target = link.startsWith("/") ? link : joinPath(directoryOf(path), link);
      return joinPath(fs.realPath(directoryOf(target)), nameOf(target));
    }
    const folder = directoryOf(path);
    const parent = folder === path ? undefined : realPathToBe(fs, folder);
    return parent && joinPath(parent, nameOf(path));
  } catch (error) {
    if (error instanceof StorageError) return undefined;
    throw error;
  }
}

function exists(fs: FileSystem, ...path: readonly string[]): boolean {
  try {
    return fs.statFollowing(joinPath(...path)) !== undefined;
  } catch (error) {
    if (error instanceof StorageError) return false;
    throw error;
  }
}

function liesIn(file: BytePath, folder: BytePath): boolean {
  return file.startsWith(folder === "/" ? "/" : `${folder}/`);
}
