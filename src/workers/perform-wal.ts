/**
 * Carries out a task over one WAL segment in readable mode. New files are synced and closed with those of the whole
 * task.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { sha256 } from "../crypto/primitives.ts";
import {
  holdPlainWalSegment,
  openWalSegment,
  type OpenedWalSegment,
  resealWalSegment,
  type SealedWalSegment,
  sealWalSegment,
  WAL_SIDECAR_LIMIT_BYTES,
  type WalFacts,
} from "../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import type { Problem } from "../format/problem.ts";
import { readExactly, readWholeFile, withFile, writeAll } from "../storage/file-io.ts";
import { type FileSystem, hasHoles, type OpenFile } from "../storage/file-system.ts";
import { notAsWritten, readingBack } from "../storage/read-back.ts";
import type { NewFiles } from "./new-files.ts";
import { notAsWrittenIn } from "./new-file-problem.ts";
import type { CheckDepth, ItemResult, Original, WalItem } from "./tasks.ts";
import type { Tools } from "./tools.ts";

export function sealWal(
  fs: FileSystem,
  facts: WalFacts,
  item: WalItem,
  newFiles: NewFiles,
): ItemResult {
  const { files, surroundings } = item;
  assert(surroundings !== undefined, "sealing needs what is around the segment");
  return writeSealed(fs, item, sealWalSegment(fs, facts, files, surroundings), newFiles);
}

export function resealWal(
  fs: FileSystem,
  facts: WalFacts,
  item: WalItem,
  newFiles: NewFiles,
): ItemResult {
  const { files, before } = item;
  const { plainDigest, ...sealed } = resealWalSegment(fs, facts, files, before, stopAt);
  const result = writeSealed(fs, item, sealed, newFiles);
  return { ...result, plainDigest: plainDigest.toString("hex") };
}

function writeSealed(
  fs: FileSystem,
  { files, target }: WalItem,
  { segment, sidecar, openCrc }: SealedWalSegment,
  newFiles: NewFiles,
): ItemResult {
  assert(target !== undefined, "sealing has a target");
  withFile(fs, files.segment, (source) => {
    writeLike(source, newFiles.open(target.segment, true, source, segment.length), segment);
    writeWhole(newFiles.open(target.sidecar, true, source, sidecar.length), sidecar);
  });
  return { path: files.path, openCrc };
}

export function openWal(
  fs: FileSystem,
  facts: WalFacts,
  { files, target }: WalItem,
  newFiles: NewFiles,
): ItemResult {
  assert(target !== undefined, "opening has a target");
  const { segment } = openWalSegment(fs, facts, files, "decrypt", stopAt);
  withFile(fs, files.segment, (source) => {
    writeLike(source, newFiles.open(target.segment, true, source, segment.length), segment);
  });
  return { path: files.path };
}

/** @throws {StorageError} when the stored segment does not give back the plain one. */
export function readBackSealedWal({ fs, walFacts, chunk }: Tools, item: WalItem): void {
  const { files } = item;
  const { segment } = openNew(fs, walFacts, item);
  if (!holdsBytes(fs, files.segment, segment, chunk.data)) throw notAsWritten(files.path);
}

/** @throws {StorageError} when the stored segment does not give back what the one before it gave. */
export function readBackResealedWal(
  { fs, walFacts }: Tools,
  item: WalItem,
  plainDigest: string | undefined,
): void {
  const { segment } = openNew(fs, walFacts, item);
  if (sha256(segment).toString("hex") !== plainDigest) throw notAsWritten(item.files.path);
}

/** @throws {StorageError} when the plain segment is not the one that its sidecar was made for. */
export function readBackOpenedWal({ fs, walFacts }: Tools, { files, target }: WalItem): void {
  assert(target !== undefined, "opening has a target");
  const plain = { ...files, segment: target.segment };
  const { isOriginal } = readingBack(files.path, () =>
    holdPlainWalSegment(fs, walFacts, plain, notAsWrittenIn(files.path)),
  );
  if (!isOriginal) throw notAsWritten(files.path);
}

function openNew(fs: FileSystem, facts: WalFacts, { files, target }: WalItem): OpenedWalSegment {
  assert(target !== undefined, "sealing has a target");
  const report = notAsWrittenIn(files.path);
  return readingBack(files.path, () =>
    openWalSegment(fs, facts, { ...files, ...target }, "decrypt", report),
  );
}

/** Whether a file holds these bytes and no others. */
function holdsBytes(fs: FileSystem, path: BytePath, bytes: Buffer, buffer: Buffer): boolean {
  return withFile(fs, path, (file) => {
    if (file.stat().sizeBytes !== bytes.length) return false;
    for (let at = 0; at < bytes.length; at += buffer.length) {
      const length = Math.min(buffer.length, bytes.length - at);
      readExactly(file, buffer, 0, length, at);
      if (bytes.compare(buffer, 0, length, at, at + length) !== 0) return false;
    }
    return true;
  });
}

/** @param depth - undefined: the digest alone. */
export function checkWal(
  fs: FileSystem,
  facts: WalFacts,
  { files, against }: WalItem,
  depth: CheckDepth | "sidecar" | undefined,
  report: (problem: Problem) => void,
): ItemResult {
  if (depth === undefined) {
    // What cannot be opened must show before a run begins.
    fs.open(files.segment).close();
    const sidecar = readWholeFile(fs, files.sidecar, WAL_SIDECAR_LIMIT_BYTES);
    return { path: files.path, digest: sha256(sidecar).toString("hex") };
  }
  const how = against !== undefined ? "decrypt" : depth === "form" ? "macs" : depth;
  const opened = openWalSegment(fs, facts, files, how, report);
  return {
    path: files.path,
    sizeBytes: opened.segment.length,
    keys: keysOf(opened),
    pages: sum(opened.blocksByKey.values()),
    newestPages: opened.newestBlocks,
    digest: opened.sidecarDigest.toString("hex"),
    fileSalt: opened.fileSalt?.toString("hex"),
    differs: against && differs(fs, opened.segment, against),
  };
}

/** Whether the segment, which is plain, is the one that its sidecar was made for. */
export function checkPlainWal(
  fs: FileSystem,
  facts: WalFacts,
  { files, sizeBytes }: WalItem,
  report: (problem: Problem) => void,
): ItemResult {
  const path = displayPath(files.path);
  let clean = true;
  const reportAlso = (problem: Problem): void => {
    clean = false;
    report(problem);
  };
  const { isOriginal, sidecarDigest } = holdPlainWalSegment(fs, facts, files, reportAlso);
  if (!isOriginal && clean) {
    report({ kind: "tag", path, message: "the segment is not the one that was encrypted" });
  }
  return { path: files.path, sizeBytes, digest: sidecarDigest.toString("hex") };
}

/** @param segment - the original, where it was decrypted without a problem. */
function differs(fs: FileSystem, segment: Buffer, { path, sizeBytes }: Original): boolean {
  return sizeBytes !== segment.length || !readWholeFile(fs, path, sizeBytes).equals(segment);
}

function keysOf({ blocksByKey, macKeyIds }: OpenedWalSegment): ReadonlyMap<number, number> {
  const keys = new Map(blocksByKey);
  for (const keyId of macKeyIds) if (!keys.has(keyId)) keys.set(keyId, 0);
  return keys;
}

function sum(counts: Iterable<number>): number {
  let total = 0;
  for (const count of counts) total += count;
  return total;
}

/** A caller that writes stops at the first problem. */
function stopAt({ kind, path, block, message }: Problem): never {
  const where = block === undefined ? path : `${path} block ${block}`;
  if (kind === "key") throw new KeyError(message, { file: path });
  throw new IntegrityError(`${where}: ${message}`, {
    file: path,
    hint: `Restore the segment together with its sidecar (_tde) from a backup: "${displayPath(path)}".`,
  });
}
function writeWhole(file: OpenFile, bytes: Buffer): void {
  writeAll(file, bytes, 0, bytes.length, 0);
}

/**
 * A hole stays one. Zeros that take space do so afterwards, too: a server fills its segments on purpose, so that it finds
 * a full disk before it needs the space (wal_init_zero).
 */
function writeLike(source: OpenFile, file: OpenFile, bytes: Buffer): void {
  if (!hasHoles(source.stat())) return writeWhole(file, bytes);
  let start = 0;
  const writeUpTo = (end: number): void => {
    if (end > start) writeAll(file, bytes, start, end - start, start);
  };
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const end = Math.min(at + PIECE_BYTES, bytes.length);
    if (!ZEROS.subarray(0, end - at).equals(bytes.subarray(at, end))) continue;
    writeUpTo(at);
    start = end;
  }
  writeUpTo(bytes.length);
}

const PIECE_BYTES = 2 ** 16;
const ZEROS = Buffer.alloc(PIECE_BYTES);
