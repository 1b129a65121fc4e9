/**
 * The tablespace_map of a base backup: where its tablespaces were, one to a line, `OID PATH`. A backup that was
 * unpacked from tar has it instead of links in pg_tblspc, and a server makes the links when it begins recovery. Until
 * then nothing leads to the tablespaces' files, so an encryption would pass them by.
 * PostgreSQL: access/transam/xlogrecovery.c (read_tablespace_map).
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import { readWholeFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { Datadir } from "./datadir.ts";

const TABLESPACE_MAP = "tablespace_map" as BytePath;
/** A line to a tablespace, with a path of at most 1024 bytes. */
const LIMIT_BYTES = 2 ** 24;

/** @throws {StateError} when the map names a tablespace that pg_tblspc does not have: its files would stay plain. */
export function assertMappedTablespacesAreThere(fs: FileSystem, datadir: Datadir): void {
  const path = joinPath(datadir.root, TABLESPACE_MAP);
  if (fs.stat(path)?.kind !== "file") return;
  const there = new Set(datadir.tablespaces.map(({ oid }) => oid));
  for (const { oid, location } of parseTablespaceMap(readWholeFile(fs, path, LIMIT_BYTES))) {
    if (there.has(oid)) continue;
    throw new StateError(
      `tablespace ${oid} is not in "${displayPath(joinPath(datadir.root, "pg_tblspc"))}": tablespace_map says that it was at "${displayPath(location)}"`,
      {
        hint: `Its files would stay plaintext. Make the link pg_tblspc/${oid} to the directory where they are now, and run the command again.`,
      },
    );
  }
}

export interface MappedTablespace {
  readonly oid: number;
  readonly location: BytePath;
}

/** A backslash takes what follows it, a line end too, into the path. */
export function parseTablespaceMap(bytes: Buffer): MappedTablespace[] {
  return unescapedLines(bytes).flatMap((line) => {
    const blank = line.indexOf(" ");
    const oid = line.slice(0, Math.max(0, blank));
    if (!/^[0-9]+$/.test(oid)) return [];
    return [{ oid: Number(oid), location: line.slice(blank + 1) as BytePath }];
  });
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BACKSLASH = 0x5c;

function unescapedLines(bytes: Buffer): string[] {
  const lines: string[] = [];
  const line = Buffer.alloc(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (byte === LINE_FEED || byte === CARRIAGE_RETURN) {
      lines.push(line.toString("latin1", 0, length));
      length = 0;
    } else if (byte !== BACKSLASH) {
      line[length++] = byte;
    } else if (++at < bytes.length) {
      line[length++] = bytes[at] ?? 0;
    }
  }
  return [...lines, line.toString("latin1", 0, length)];
}
