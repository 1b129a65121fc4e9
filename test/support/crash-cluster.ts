/**
 * A small real cluster on a CrashDisk: a few files of each kind, cut from a fixture, so that one run over it has some
 * hundreds of operations and every one of them can be crashed at. It has what the protocol treats differently: two
 * segments of one relation, forks, empty files, an odd tail, pages whose checksum is wrong, a file that is spread over
 * several tasks, WAL and a tablespace behind links, whole files that are sealed, and files that stay readable.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { CONTROL_FILE_BYTES } from "../../src/postgres/control-file.ts";
import { readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk } from "./crash-disk.ts";
import { unpackFixture } from "./fixture.ts";
import { withSmallSegments } from "./small-wal.ts";
import { message, WalWriter } from "./written-wal.ts";

export const ROOT = "/srv/data" as BytePath;
export const TABLESPACE = "/srv/ts_ext" as BytePath;
const WAL = "/srv/wal" as BytePath;
const BLOCK_BYTES = 8192;
const FOLDER_17 = "PG_17_202406281";

/** Path in the cluster -> path in the fixture and how many bytes of it. */
const PARTS: readonly (readonly [path: string, from: string, sizeBytes?: number])[] = [
  ["PG_VERSION", "PG_VERSION"],
  ["postgresql.conf", "postgresql.conf"],
  ["postgresql.auto.conf", "postgresql.auto.conf"],
  ["global/pg_filenode.map", "global/pg_filenode.map"],
  ["global/pg_internal.init", "global/pg_internal.init", 5000],
  ["global/1262", "global/1262"],
  ["global/1262_vm", "global/1262_vm"],
  ["base/5/PG_VERSION", "base/5/PG_VERSION"],
  ["base/5/1259", "base/5/1259", 3 * BLOCK_BYTES],
  // Pages of another segment's block numbers: their checksums are wrong here.
  ["base/5/1259.1", "base/5/1259", 2 * BLOCK_BYTES],
  ["base/5/1259_fsm", "base/5/1259_fsm"],
  // A torn extension of the file: its tail is no whole block.
  ["base/5/2619", "base/5/2619", 2 * BLOCK_BYTES + 1234],
  ["base/5/6100", "global/6100"],
  ["base/16386/17565_init", "base/16386/17565_init"],
  ["base/16386/17565", "base/16386/17565"],
  ["pg_xact/0000", "pg_xact/0000", 2048],
  ["pg_stat/pgstat.stat", "pg_stat/pgstat.stat", 3000],
  ["log/postgresql.log", "postgresql.conf", 4321],
];

/** Relation files that a checker looks at without knowing anything of tde. */
export const RELATIONS: readonly BytePath[] = [
  ...PARTS.map(([path]) => path).filter((path) =>
    /^(global|base\/\d+)\/\d+(_\w+)?(\.\d+)?$/.test(path),
  ),
  "base/5/2600",
].map((path) => joinPath(ROOT, path));

let made: CrashDisk | undefined;

/** A disk of its own for every caller, all of it durable. */
export function crashCluster(): CrashDisk {
  made ??= makeCluster();
  return made.copy();
}

function makeCluster(): CrashDisk {
  const folder = mkdtempSync(join(tmpdir(), "tde-test-"));
  try {
    const { datadir } = unpackFixture(17, folder);
    const disk = new CrashDisk();
    const from = (path: string, sizeBytes?: number): Buffer =>
      readFileSync(join(datadir, path)).subarray(0, sizeBytes);
    const add = (path: string, content: Buffer): void => {
      makeFolders(disk, dirname(path) as BytePath);
      const file = disk.create(path as BytePath, 0o600);
      writeAll(file, content, 0, content.length, 0);
      file.close();
    };
    for (const [path, source, sizeBytes] of PARTS) add(`${ROOT}/${path}`, from(source, sizeBytes));
    add(`${ROOT}/base/5/2600`, largeRelation(from("base/5/1259", 3 * BLOCK_BYTES)));
    add(`${WAL}/000000010000000000000015`, from("pg_wal/000000010000000000000015", 20_000));
    add(`${ROOT}/global/pg_control`, withSmallSegments(from("global/pg_control")));
    const wal = crashWal(disk);
    for (const [i, bytes] of wal.segments.entries()) add(`${WAL}/${wal.name(i)}`, bytes);
    makeFolders(disk, `${WAL}/archive_status` as BytePath);
    disk.makeLink(WAL, joinPath(ROOT, "pg_wal"));
    const inTablespace = `${FOLDER_17}/16386/17572`;
    add(`${TABLESPACE}/${inTablespace}`, from(`pg_tblspc/16387/${inTablespace}`, BLOCK_BYTES));
    makeFolders(disk, joinPath(ROOT, "pg_tblspc"));
    disk.makeLink("../../ts_ext" as BytePath, joinPath(ROOT, "pg_tblspc/16387"));
    return disk.copy();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Two segments in readable mode: the last record of the first goes on in the second, where there is room for more. */
export function crashWal(disk: CrashDisk): WalWriter {
  const control = readWholeFile(disk, joinPath(ROOT, "global/pg_control"), CONTROL_FILE_BYTES);
  const writer = new WalWriter(17, { firstSegment: 0x20, system: control.readBigUInt64LE(0) });
  writer.append(message("tde", Buffer.alloc(100, "a row")));
  writer.fillTo(500);
  writer.append(message("crosses", Buffer.alloc(1500, "another row")));
  return writer;
}

/** Large enough for several ranges; most of it is zeros, as in a file that was just extended. */
function largeRelation(pages: Buffer): Buffer {
  const content = Buffer.alloc(140 * BLOCK_BYTES);
  pages.copy(content);
  pages.copy(content, 130 * BLOCK_BYTES, 0, BLOCK_BYTES);
  return content;
}

function makeFolders(disk: CrashDisk, path: BytePath): void {
  if (disk.statFollowing(path) !== undefined) return;
  makeFolders(disk, dirname(path) as BytePath);
  disk.makeDirectory(path, 0o700);
}
