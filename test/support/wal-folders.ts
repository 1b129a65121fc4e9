/**
 * Folders of WAL segments, to be encrypted and decrypted in place.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { encryptWal, type EncryptWalReport } from "../../src/engine/wal-readable/encrypt-wal.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk } from "./crash-disk.ts";
import { testKeys } from "./keys.ts";
import { SmallEngine } from "./small-cluster.ts";
import { temporaryDirectory } from "./temporary-directory.ts";
import { commitWithMessages, filler, message, WalWriter } from "./written-wal.ts";

export const isSegment = (name: string): boolean => /^[0-9A-F]{24}(\.partial)?$/.test(name);

export async function encrypt(
  folder: string,
  { keys = testKeys(2), names }: { keys?: DataKeys; names?: readonly string[] } = {},
): Promise<EncryptWalReport> {
  const { engine } = new SmallEngine();
  return await encryptWal(engine, keys, {
    folder: bytePath(folder),
    names: names && new Set(names.map(bytePath)),
  });
}

export async function decrypt(
  folder: string,
  keys: DataKeys = testKeys(2),
  names?: readonly string[],
): Promise<number> {
  const { engine } = new SmallEngine();
  const request = { folder: bytePath(folder), names: names && new Set(names.map(bytePath)) };
  return (await decryptWal(engine, keys, request)).decrypted;
}

/** Three segments with records that cross into the next one. */
export function crossing(): WalWriter {
  const writer = new WalWriter(17);
  writer.append(message("first", Buffer.from("text")));
  writer.fillTo(400);
  writer.append(commitWithMessages(60));
  writer.fillTo(16);
  writer.append(message("prefix", Buffer.alloc(3000, "text of a message ")));
  writer.append(filler(100));
  return writer;
}

export function writeFolder(t: TestContext, writer: WalWriter): string {
  const folder = temporaryDirectory(t);
  for (const [i, bytes] of writer.segments.entries())
    writeFileSync(join(folder, writer.name(i)), bytes);
  return folder;
}

/** The folder of `diskWith`. */
export const FOLDER: BytePath = bytePath("/wal");

export function diskWith(writer: WalWriter): CrashDisk {
  const disk = new CrashDisk();
  disk.makeDirectory(FOLDER, 0o700);
  for (const [i, bytes] of writer.segments.entries()) {
    const file = disk.create(`${FOLDER}/${writer.name(i)}` as BytePath, 0o600);
    writeAll(file, bytes, 0, bytes.length, 0);
    file.sync();
    file.close();
  }
  disk.syncDirectory(FOLDER);
  disk.syncDirectory("/" as BytePath);
  return disk;
}
