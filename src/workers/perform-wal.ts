/**
 * Carries out a task over one WAL segment in readable mode. New files are synced and closed with those of the whole
 * task.
 */
import assert from "node:assert/strict";
import { displayPath } from "../bytes/byte-path.ts";
import { sha256 } from "../crypto/primitives.ts";
import {
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
import { readWholeFile, withFile, writeAll } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";
import type { NewFiles } from "./new-files.ts";
import type { CheckDepth, ItemResult, Original, WalItem } from "./tasks.ts";

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
  return writeSealed(fs, item, resealWalSegment(fs, facts, files, before, stopAt), newFiles);
}

function writeSealed(
  fs: FileSystem,
  { files, target }: WalItem,
  { segment, sidecar, openCrc }: SealedWalSegment,
  newFiles: NewFiles,
): ItemResult {
  assert(target !== undefined, "sealing has a target");
  withFile(fs, files.segment, (source) => {
    writeNew(newFiles.open(target.segment, true, source, segment.length), segment);
    writeNew(newFiles.open(target.sidecar, true, source, sidecar.length), sidecar);
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
    writeNew(newFiles.open(target.segment, true, source, segment.length), segment);
  });
  return { path: files.path };
}

/** @param depth - undefined: the digest alone. */
export function checkWal(
  fs: FileSystem,
  facts: WalFacts,
  { files, against }: WalItem,
  depth: CheckDepth | undefined,
  report: (problem: Problem) => void,
): ItemResult {
  if (depth === undefined) {
    // What cannot be opened must show before a run begins.
    fs.open(files.segment).close();
    const sidecar = readWholeFile(fs, files.sidecar, WAL_SIDECAR_LIMIT_BYTES);
    return { path: files.path, digest: sha256(sidecar).toString("hex") };
  }
  const how = against !== undefined ? "decrypt" : depth === "tags" ? "tags" : "macs";
  const opened = openWalSegment(fs, facts, files, how, report);
  return {
    path: files.path,
    sizeBytes: opened.segment.length,
    keys: keysOf(opened),
    pages: sum(opened.blocksByKey.values()),
    newestPages: opened.newestBlocks,
    digest: opened.sidecarDigest.toString("hex"),
    differs: against && differs(fs, opened.segment, against),
  };
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
/** A hole stays one: most of a segment that was never filled is zero. */
function writeNew(file: OpenFile, bytes: Buffer): void {
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
