/**
 * A file that a server wants archived, looked at before anything is done with it: what it is, whether it is whole, and
 * of which cluster.
 */
import {
  type BytePath,
  directoryOf,
  displayPath,
  joinPath,
  nameOf,
} from "../../bytes/byte-path.ts";
import { FormatError, IntegrityError, StateError, UsageError } from "../../errors.ts";
import { firstPageOf } from "../../format/wal/wal-page.ts";
import { readExactly, readUpTo, withFile } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { parseSegmentHead, SEGMENT_HEAD_BYTES } from "../../wal/segment-head.ts";
import { parseTimelineHistory } from "../../wal/timeline-history.ts";
import { archivedKind } from "../../wal/wal-file-name.ts";
import { WAL_HISTORY_LIMIT_BYTES } from "./sealed-wal.ts";

const SYSTEM_IDENTIFIER_BYTES = 8;

/** A file by the name that it is archived under. */
export interface PlainFile {
  readonly name: BytePath;
  /** For messages. */
  readonly where: string;
}

/**
 * @param cluster - the system identifier of the cluster whose pg_wal it is in, where that is known.
 * @returns the system identifier that the file, or else its cluster, has; 0n where nothing tells.
 * @throws {FormatError} for anything but a whole file. @throws {IntegrityError} for one of another cluster.
 * @throws {StateError} for one that is encrypted.
 */
export function inspectWalFile(
  file: OpenFile,
  { name, where }: PlainFile,
  cluster: bigint | undefined,
): bigint {
  const { sizeBytes, kind } = file.stat();
  if (kind !== "file") throw new FormatError(`${where} is not a regular file`);
  const archived = requireArchivedKind(name);
  if (archived === "segment" || archived === "partial") {
    const start = Buffer.alloc(SEGMENT_HEAD_BYTES);
    readUpTo(file, start, 0, start.length, 0);
    const { systemIdentifier } = parseSegmentHead(start, sizeBytes, name, where);
    requireUnguarded(start, where);
    if (cluster === undefined || cluster === systemIdentifier) return systemIdentifier;
    throw new IntegrityError(
      `${where} is from another cluster: its system identifier is ${systemIdentifier}, not ${cluster}`,
      { hint: "The file was not written by the server in whose pg_wal it stands. Take it away." },
    );
  }
  if (sizeBytes === 0 || sizeBytes > WAL_HISTORY_LIMIT_BYTES) {
    throw new FormatError(
      `${where} is no history of a timeline or backup: it has ${sizeBytes} bytes`,
    );
  }
  const content = Buffer.alloc(sizeBytes);
  readExactly(file, content, 0, sizeBytes, 0);
  if (archived === "history") parseTimelineHistory(content, Number(`0x${name.slice(0, 8)}`), where);
  // pg_backup_stop writes it (BackupHistoryFilePath, build_backup_content): this is its first line.
  else if (!content.toString("latin1").startsWith("START WAL LOCATION: "))
    throw new FormatError(`${where} is no history of a backup`);
  return cluster ?? 0n;
}

/**
 * @param start - of a segment, SEGMENT_HEAD_BYTES.
 * @throws {StateError} when it is one in readable mode: no server takes it, and another seal would hide that.
 */
export function requireUnguarded(start: Buffer, where: string): void {
  if (firstPageOf(start)?.isGuarded !== true) return;
  throw new StateError(`${where} is encrypted in readable mode`, {
    hint: 'Decrypt it first, with its sidecar (_tde) beside it: "tde wal decrypt".',
  });
}

/** @throws {UsageError} for the name of anything that a server never archives. */
export function requireArchivedKind(name: BytePath): NonNullable<ReturnType<typeof archivedKind>> {
  const kind = archivedKind(name);
  if (kind !== undefined) return kind;
  throw new UsageError(`"${displayPath(name)}" is not the name of a WAL file`, {
    hint: "A server archives segments, .partial, .history and .backup files. Give %p, and %f at the end of the archive's path.",
  });
}

/**
 * The system identifier of the cluster whose pg_wal the path is in, from its pg_control. PostgreSQL runs the commands
 * with the data directory as working directory and `pg_wal/...` as path. Only the first field is read: a server writes
 * the file while it is read, but never changes that.
 * @returns undefined where there is no pg_control, as beside pg_receivewal.
 */
export function clusterOf(fs: FileSystem, walFile: BytePath): bigint | undefined {
  const folder = directoryOf(walFile);
  if (nameOf(folder) !== "pg_wal") return undefined;
  const path = joinPath(directoryOf(folder), "global/pg_control");
  if (fs.stat(path)?.kind !== "file") return undefined;
  const bytes = Buffer.alloc(SYSTEM_IDENTIFIER_BYTES);
  const count = withFile(fs, path, (file) => readUpTo(file, bytes, 0, bytes.length, 0));
  const identifier = count < bytes.length ? 0n : bytes.readBigUInt64LE();
  return identifier === 0n ? undefined : identifier;
}
