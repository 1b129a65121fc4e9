/** Segments of WAL in a folder of a disk in memory, encrypted there by the engine. */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk } from "./crash-disk.ts";
import { testKeys } from "./keys.ts";
import { SmallEngine } from "./small-cluster.ts";

export interface NamedSegment {
  readonly name: string;
  readonly bytes: Buffer;
}

const FOLDER = "/wal" as BytePath;

/** @returns the stored segments, in the same order, and the sidecar of each. */
export async function encryptedCopies(
  segments: readonly NamedSegment[],
): Promise<{ name: string; stored: Buffer; sidecar: Buffer }[]> {
  const disk = new CrashDisk();
  disk.makeDirectory(FOLDER, 0o700);
  for (const { name, bytes } of segments) {
    const file = disk.create(pathOf(name), 0o600);
    writeAll(file, bytes, 0, bytes.length, 0);
    file.close();
  }
  await encryptWal(new SmallEngine({ fs: disk }).engine, testKeys(2), { folder: FOLDER });
  return segments.map(({ name, bytes }) => ({
    name,
    stored: readWholeFile(disk, pathOf(name), bytes.length),
    sidecar: readWholeFile(disk, pathOf(`${name}_tde`), bytes.length),
  }));
}

function pathOf(name: string): BytePath {
  return `${FOLDER}/${name}` as BytePath;
}
