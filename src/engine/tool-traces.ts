/**
 * Traces that PostgreSQL's own tools leave on an encrypted directory. They change and copy files and know nothing of
 * sidecars, manifest and guard; verify finds what is wrong, and here is said which tool did it and what to do. A trace
 * is an explanation and no proof: whoever can write can leave one on purpose.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { BACKUP_MANIFEST, OWN_FILES } from "../datadir/classify.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { TdeError } from "../errors.ts";
import { openBackupManifest } from "../format/backup-manifest.ts";
import type { Manifest } from "../format/manifest.ts";
import { parseControlFile, sameButForChecksums } from "../postgres/control-file.ts";
import { fileParts, readWholeFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { beginsSealed } from "./inventory.ts";

export interface ToolTrace {
  readonly tool: string;
  /** One line, lower case, no full stop. */
  readonly happened: string;
  /** Sentences. */
  readonly advice: string;
}

const BACKUP_LABEL = "backup_label" as BytePath;
/** A few lines: PostgreSQL itself reads no more (xlogrecovery.c, read_backup_label). */
const LABEL_LIMIT_BYTES = 2 ** 16;

export interface Traced {
  readonly datadir: Datadir;
  /** By its own pg_control; undefined where that cannot be used. */
  readonly own: Datadir | undefined;
  /** Undefined where there is none that can be believed. */
  readonly manifest: Manifest | undefined;
}

/**
 * @param isWrong - whether verify found a problem with a file, by its path.
 */
export function tracesOfTools(
  fs: FileSystem,
  { datadir, own, manifest }: Traced,
  isWrong: (path: BytePath) => boolean,
): ToolTrace[] {
  if (manifest === undefined) {
    const stripped = isStripped(fs, datadir);
    return stripped ? [isRewound(fs, datadir) ? REWOUND_TARGET : COMBINED_FROM_SEALED] : [];
  }
  const traces: ToolTrace[] = [];
  const original = manifest.header.control;
  const isControlWrong = isWrong(CONTROL_PATH);
  if (isControlWrong && own !== undefined && sameButForChecksums(original, own.controlBytes))
    traces.push(checksumsSwitched(original, own));
  // A directory that was rewound first and encrypted then has the label in its manifest.
  if (isWrong(BACKUP_LABEL) && isRewound(fs, datadir)) traces.push(REWOUND_FROM_SEALED);
  if (isWrong(BACKUP_MANIFEST) && isBackupManifest(fs, datadir)) traces.push(COMBINED_ALONE);
  // Whatever else was here has changed it, too.
  if (isControlWrong && traces.length === 0) traces.push(CONTROL_IS_DAMAGED);
  return traces;
}

/**
 * The first relation file that holds ciphertext and has no sidecar; undefined where there is none. Only the first page
 * of each file is looked at, for the mark of sealed pages.
 */
export function findStrippedFile(fs: FileSystem, datadir: Datadir): BytePath | undefined {
  for (const { path, classification } of walkDatadir(fs, datadir.root, datadir)) {
    if (classification.class !== "relation") continue;
    if (fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined) continue;
    if (beginsSealed(fs, datadir, path, classification.file)) return path;
  }
  return undefined;
}

/** Manifest, kept original and sidecars are gone, ciphertext is there. */
function isStripped(fs: FileSystem, datadir: Datadir): boolean {
  const { root } = datadir;
  const own = [OWN_FILES.manifest, OWN_FILES["auto-conf"]];
  return (
    own.every((path) => fs.stat(joinPath(root, path)) === undefined) &&
    findStrippedFile(fs, datadir) !== undefined
  );
}

/** pg_rewind writes a backup_label of its own kind (pg_rewind.c, createBackupLabel). */
function isRewound(fs: FileSystem, { root }: Datadir): boolean {
  const path = joinPath(root, BACKUP_LABEL);
  const stat = fs.stat(path);
  if (stat?.kind !== "file" || stat.sizeBytes > LABEL_LIMIT_BYTES) return false;
  const label = readWholeFile(fs, path, LABEL_LIMIT_BYTES).toString("latin1");
  return /^BACKUP METHOD: pg_rewind$/m.test(label);
}

/** Whole, by its own checksum. */
function isBackupManifest(fs: FileSystem, { root }: Datadir): boolean {
  const path = joinPath(root, BACKUP_MANIFEST);
  if (fs.stat(path)?.kind !== "file") return false;
  try {
    openBackupManifest(fileParts(fs, path), BACKUP_MANIFEST);
    return true;
  } catch (error) {
    if (error instanceof TdeError) return false;
    throw error;
  }
}

function checksumsSwitched(original: Buffer, { control }: Datadir): ToolTrace {
  const before = parseControlFile(original, CONTROL_PATH).dataChecksumVersion;
  const after = control.dataChecksumVersion;
  const mode = after === 0 ? "--disable" : "--enable";
  return {
    tool: `pg_checksums ${mode}`,
    happened:
      before === after
        ? "pg_checksums switched data checksums on the encrypted directory and back again"
        : `pg_checksums ${mode} was run on the encrypted directory: ${CONTROL_PATH} says now that data checksums are ${after === 0 ? "off" : "on"}`,
    advice:
      "Run tde decrypt-datadir, which puts the original back. Then switch data checksums, and encrypt again.",
  };
}

/** Of no tool that is known: a crash, a full disk or a failed pg_rewind leaves it so. */
const CONTROL_IS_DAMAGED: ToolTrace = {
  tool: "unknown",
  happened: `${CONTROL_PATH} is not what it was when the directory was encrypted`,
  advice:
    "The manifest keeps the original: tde decrypt-datadir --restore-control puts it back. Everything else was checked by the manifest's copy of it.",
};

const REWOUND_TARGET: ToolTrace = {
  tool: "pg_rewind",
  happened:
    "pg_rewind was run on this directory while it was encrypted: it took files of its source, removed manifest, guard and sidecars, which the source does not have, and left the other files sealed",
  advice:
    "What is sealed here cannot be opened any more. Restore the directory from a backup, or make it anew from that source. Decrypt a directory before you rewind it.",
};

const REWOUND_FROM_SEALED: ToolTrace = {
  tool: "pg_rewind",
  happened:
    "pg_rewind copied the changed files of an encrypted directory over this one, with its manifest, guard and sidecars; what it did not copy is not sealed",
  advice:
    "Its source was only read. Make this directory anew from a copy of the source, decrypted if it is to be used by a server.",
};

const COMBINED_FROM_SEALED: ToolTrace = {
  tool: "pg_combinebackup",
  happened:
    "pg_combinebackup, or another tool that carries only files it knows, made this directory from an encrypted one: manifest, guard and sidecars were left behind, pages are sealed",
  advice:
    "What is sealed here cannot be opened. The backups that it was made of are as they were: decrypt each of them, then combine them again.",
};

const COMBINED_ALONE: ToolTrace = {
  tool: "pg_combinebackup",
  happened: "backup_manifest was written anew, as pg_combinebackup does for what it copies",
  advice: "Remove backup_manifest: tde can do without it, and decryption brings the original back.",
};
