/**
 * What a server might do to the cluster of the crash tests between two syncs: pages changed, files that grow, shrink,
 * come and go, in each of the ways that a sync treats differently.
 */
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { crashWal, ROOT, TABLESPACE } from "./crash-cluster.ts";
import type { CrashDisk } from "./crash-disk.ts";
import { message } from "./written-wal.ts";

const BLOCK_BYTES = 8192;
/** Of `base/5/2600`, which is large enough to be patched. */
const LARGE = "base/5/2600";
const SHRINKING = "base/5/2601";

/** Adds what the work will need to the cluster, before it is encrypted. */
export function beforeWork(disk: CrashDisk): void {
  add(disk, SHRINKING, contentOf(disk, LARGE));
}

export function nightOfWork(disk: CrashDisk): void {
  const page = contentOf(disk, LARGE).subarray(0, BLOCK_BYTES);
  edit(disk, LARGE, (bytes) => {
    for (const block of [1, 5, 64, 130])
      bytes.fill(0x5a, block * BLOCK_BYTES + 100, block * BLOCK_BYTES + 180);
    return Buffer.concat([bytes, ...Array.from({ length: 40 }, () => page)]);
  });
  edit(disk, SHRINKING, (bytes) => bytes.subarray(0, 100 * BLOCK_BYTES).fill(7, 200, 300));
  edit(disk, "base/5/1259", (bytes) => bytes.fill(1, BLOCK_BYTES + 100, BLOCK_BYTES + 200));
  edit(disk, "base/5/1259.1", (bytes) => bytes.subarray(0, BLOCK_BYTES));
  edit(disk, "base/5/2619", (bytes) => Buffer.concat([bytes, page.subarray(0, 77)]));
  edit(disk, "base/16386/17565_init", () => Buffer.alloc(0));
  disk.remove(joinPath(ROOT, "base/5/6100"));
  disk.remove(joinPath(ROOT, "base/5/1259_fsm"));
  add(disk, "base/5/7000", Buffer.concat([page, Buffer.alloc(BLOCK_BYTES)]));
  disk.makeDirectory(joinPath(ROOT, "base/17000"), 0o700);
  add(disk, "base/17000/PG_VERSION", Buffer.from("17\n"));
  add(disk, "base/17000/1259", page);
  const inTablespace = joinPath(TABLESPACE, "PG_17_202406281/16386/17572");
  editAt(disk, inTablespace, (bytes) => bytes.fill(3, 1000, 1100));
  edit(disk, "pg_xact/0000", (bytes) => bytes.fill(0x55, 100, 110));
  edit(disk, "log/postgresql.log", (bytes) =>
    Buffer.concat([bytes, Buffer.from("one more line\n")]),
  );
  disk.remove(joinPath(ROOT, "pg_stat/pgstat.stat"));
  disk.removeDirectory(joinPath(ROOT, "pg_stat"));
  edit(disk, "postgresql.auto.conf", () => Buffer.from("work_mem = '8MB'\n"));
  edit(disk, "pg_wal/000000010000000000000015", (bytes) => bytes.fill(9, 5000, 6000));
  add(disk, "pg_wal/000000010000000000000016", page);
  const wal = crashWal(disk);
  wal.append(message("later", Buffer.alloc(200, "one more row")));
  edit(disk, `pg_wal/${wal.name(1)}`, () => wal.segments[1] ?? Buffer.alloc(0));
  edit(disk, "global/pg_control", (bytes) => {
    // The latest checkpoint of 17: offset 32; the CRC: 288.
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(32) + 4096n, 32);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
    return bytes;
  });
}

function contentOf(disk: CrashDisk, path: string): Buffer {
  return Buffer.from(readWholeFile(disk, joinPath(ROOT, path), 2 ** 24));
}

function edit(disk: CrashDisk, path: string, change: (bytes: Buffer) => Buffer): void {
  editAt(disk, joinPath(ROOT, path), change);
}

function editAt(disk: CrashDisk, path: BytePath, change: (bytes: Buffer) => Buffer): void {
  const next = change(Buffer.from(readWholeFile(disk, path, 2 ** 24)));
  const file = disk.openForWriting(path);
  file.truncate(0);
  writeAll(file, next, 0, next.length, 0);
  file.setAttributes({ ...file.stat(), modifyTimeNs: 1_800_000_000_250_000_000n });
  file.close();
}

function add(disk: CrashDisk, path: string, content: Buffer): void {
  const full = joinPath(ROOT, path);
  const file = disk.create(full, 0o600);
  writeAll(file, content, 0, content.length, 0);
  file.close();
}
