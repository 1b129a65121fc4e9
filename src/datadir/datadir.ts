/**
 * Opens a data directory: what cluster it is, and that its parts are where they should be. Nothing is written, and
 * nothing of it is believed before pg_control's CRC holds. Whether a server uses it is in-use.ts's question.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { FormatError, StateError, TdeError, withHint } from "../errors.ts";
import {
  CONTROL_CONTENT_BYTES,
  CONTROL_FILE_BYTES,
  type ControlFile,
  parseControlFile,
} from "../postgres/control-file.ts";
import { type Major, parsePgVersion } from "../postgres/version.ts";
import { readWholeFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { OWN_FILES } from "./classify.ts";
import { findTablespaces, type Tablespace } from "./tablespaces.ts";

export interface Datadir {
  /** As the user named it. */
  readonly root: BytePath;
  /** Absolute and without a link in it. */
  readonly realRoot: BytePath;
  readonly major: Major;
  readonly catalogVersion: number;
  readonly blocksPerSegment: number;
  readonly control: ControlFile;
  /** The first 512 bytes of global/pg_control; zeros follow them there. */
  readonly controlBytes: Buffer;
  /** Where pg_wal is when it is a link, absolute; undefined when it is a folder or missing. */
  readonly walTarget: BytePath | undefined;
  /** In pg_tblspc, by OID. */
  readonly tablespaces: readonly Tablespace[];
  /** Where one of them lies once more, in the folder of another or in the data directory: nothing is listed there. */
  readonly elsewhere: ReadonlySet<BytePath>;
}

export const CONTROL_PATH = "global/pg_control" as BytePath;
const VERSION_LIMIT_BYTES = 64;

/**
 * @throws {StateError} when it is no data directory, one that pg_upgrade has disabled, or one whose tablespaces or
 * pg_wal lead nowhere or into each other.
 * @throws {FormatError} when PG_VERSION or pg_control is not what a supported PostgreSQL writes.
 */
export function openDatadir(fs: FileSystem, root: BytePath): Datadir {
  const where = displayPath(root);
  if (fs.statFollowing(root)?.kind !== "directory") {
    throw new StateError(`"${where}" is not a directory`, {
      hint: "Name the data directory of the cluster with -D or PGDATA.",
    });
  }
  return hintingAtManifest(fs, root, () => openOwn(fs, root));
}

function openOwn(fs: FileSystem, root: BytePath): Datadir {
  const where = displayPath(root);
  refuseOtherThanDatadir(fs, root);
  const versionPath = joinPath(root, "PG_VERSION");
  const major = parsePgVersion(
    readWholeFile(fs, versionPath, VERSION_LIMIT_BYTES),
    displayPath(versionPath),
  );
  const controlPath = joinPath(root, CONTROL_PATH);
  const bytes = readWholeFile(fs, controlPath, CONTROL_FILE_BYTES);
  const control = parseControlFile(bytes, displayPath(controlPath));
  if (!control.majors.includes(major)) {
    throw new FormatError(
      `"${where}" is inconsistent: PG_VERSION says ${major}, global/pg_control is of PostgreSQL ${control.majors.join(", ")}`,
      { hint: "Files of two clusters are mixed here. Restore the directory as a whole." },
    );
  }
  return datadirOf(fs, root, major, control, bytes);
}

/**
 * Of an encrypted directory pg_control is kept in the manifest. Whether that is authentic, decrypt-datadir finds out
 * before it goes by it.
 */
function hintingAtManifest<T>(fs: FileSystem, root: BytePath, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const isOfControl = error instanceof FormatError || error instanceof StateError;
    if (!isOfControl || !error.message.includes(CONTROL_PATH)) throw error;
    if (fs.stat(joinPath(root, OWN_FILES.manifest)) === undefined) throw error;
    throw withHint(
      error,
      `The directory is encrypted, and its manifest keeps the original: "tde decrypt-datadir --restore-control" puts it back.`,
    );
  }
}

/**
 * As openDatadir, of a directory whose own PG_VERSION or pg_control cannot be used, so that the rest of it can be looked
 * at all the same.
 * @param controlBytes - another copy of the first 512 bytes of pg_control.
 * @throws {StateError} {FormatError} where nothing tells the major version, or links lead nowhere.
 */
export function openDatadirWith(fs: FileSystem, root: BytePath, controlBytes: Buffer): Datadir {
  const bytes = Buffer.alloc(CONTROL_FILE_BYTES);
  controlBytes.copy(bytes);
  const control = parseControlFile(bytes, "a copy of global/pg_control");
  const told = VERSION_FILES.map((name) => majorIn(fs, joinPath(root, name)));
  const major = told.find((one) => one !== undefined && control.majors.includes(one));
  const [only] = control.majors;
  if (major !== undefined) return datadirOf(fs, root, major, control, bytes);
  if (only !== undefined && control.majors.length === 1)
    return datadirOf(fs, root, only, control, bytes);
  throw new FormatError(`nothing in "${displayPath(root)}" says of which major version it is`, {
    hint: "Restore PG_VERSION from a backup.",
  });
}

/** The second is of a database that every cluster has. */
const VERSION_FILES: readonly string[] = ["PG_VERSION", "base/1/PG_VERSION"];

function majorIn(fs: FileSystem, path: BytePath): Major | undefined {
  try {
    return parsePgVersion(readWholeFile(fs, path, VERSION_LIMIT_BYTES), displayPath(path));
  } catch (error) {
    if (error instanceof TdeError) return undefined;
    throw error;
  }
}

function datadirOf(
  fs: FileSystem,
  root: BytePath,
  major: Major,
  control: ControlFile,
  bytes: Buffer,
): Datadir {
  const { catalogVersion, blocksPerSegment } = control;
  const cluster = { major, catalogVersion, blocksPerSegment };
  return {
    root,
    realRoot: fs.realPath(root),
    ...cluster,
    control,
    controlBytes: bytes.subarray(0, CONTROL_CONTENT_BYTES),
    ...findTablespaces(fs, root, cluster),
  };
}

/** Names what the directory is, where it is not a data directory that can be worked on. */
function refuseOtherThanDatadir(fs: FileSystem, root: BytePath): void {
  const where = displayPath(root);
  const has = (name: string): boolean => fs.stat(joinPath(root, name)) !== undefined;
  if (!has(CONTROL_PATH) && has("global/pg_control.old")) {
    throw new StateError(
      `"${where}" was disabled, as pg_upgrade --link does: it has global/pg_control.old, and no global/pg_control`,
      {
        hint: "If pg_upgrade did it, its files are those of the upgraded cluster: work on that one.",
      },
    );
  }
  // Only regular files: opening a pipe would wait for ever.
  const isFile = (name: string): boolean => fs.statFollowing(joinPath(root, name))?.kind === "file";
  const missing = ["PG_VERSION", CONTROL_PATH].filter((name) => !isFile(name));
  if (missing.length === 0) return;
  const tar = fs.readDirectory(root).find(({ name }) => /^base\.(?:tar(?:\..*)?|tgz)$/s.test(name));
  if (tar !== undefined) {
    throw new StateError(`"${where}" is a base backup in tar format: it has ${nameOf(tar.name)}`, {
      hint: "Unpack base.tar, the tablespaces' archives and pg_wal.tar first, or take the backup with --format=plain.",
    });
  }
  throw new StateError(`"${where}" is not a PostgreSQL data directory: ${missing[0]} is missing`, {
    hint: "Name the directory that holds PG_VERSION, base and global.",
  });
}
