/**
 * What lies now where the state file says that a directory or an archive is. "Gone" is what nobody here can know: a disk may
 * not be mounted, a path not readable for this user. What is there, what is not found and what cannot be read are told
 * apart, for whoever believes that something is gone may destroy its key.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { TdeError } from "../errors.ts";
import { readManifestHeader } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { ARCHIVE_ROOT } from "../keyring/state.ts";
import type { DirectoryMemory } from "../keyring/state-file.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { readJournalHeader } from "../storage/journal.ts";
import { hasManifest, manifestSource } from "./open-manifest.ts";
import { readIdentity } from "./wal-archive/archive-identity.ts";
import { holdsWal } from "./wal-key-use.ts";

/** there: the very one. other: something else. not-found: nothing that tde knows. unreadable: nobody can say. */
export type Presence = "there" | "other" | "not-found" | "unreadable";

export interface FoundPlace {
  readonly presence: Presence;
  /** Of what is unreadable. */
  readonly why?: string;
}

/** @param keys - an archive's identity is sealed. */
export function lookAtPlace(
  fs: FileSystem,
  { id, path, root }: Pick<DirectoryMemory, "id" | "path" | "root">,
  keys: DataKeys,
): FoundPlace {
  try {
    const found = root === ARCHIVE_ROOT ? archiveAt(fs, path, keys) : directoryAt(fs, path);
    if (found === undefined) return { presence: "not-found" };
    if (found === "unknown")
      return { presence: "unreadable", why: "files of WAL are there, but no identity" };
    return { presence: found === id ? "there" : "other" };
  } catch (error) {
    if (error instanceof TdeError) return { presence: "unreadable", why: error.message };
    throw error;
  }
}

/** The id of the directory whose manifest or journal lies at `root`, unproved; undefined where none can be read. */
export function directoryIdAt(fs: FileSystem, root: BytePath): string | undefined {
  try {
    return directoryAt(fs, root);
  } catch (error) {
    if (error instanceof TdeError) return undefined;
    throw error;
  }
}

/** The id of the archive at `path`; "unknown" where WAL is that does not say whose archive it is in. */
function archiveAt(fs: FileSystem, path: BytePath, keys: DataKeys): string | undefined {
  if (fs.statFollowing(path)?.kind !== "directory") return undefined;
  const identity = readIdentity(fs, path, keys);
  return identity?.archiveId ?? (holdsWal(fs, path) ? "unknown" : undefined);
}

/** The id that the manifest or the journal at `path` names, unproved. */
function directoryAt(fs: FileSystem, path: BytePath): string | undefined {
  if (fs.statFollowing(path)?.kind !== "directory") return undefined;
  if (hasManifest(fs, path))
    return readManifestHeader(manifestSource(fs, path), "tde.manifest").directoryId;
  return readJournalHeader(fs, path)?.directoryId;
}
