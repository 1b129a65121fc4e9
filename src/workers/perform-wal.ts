/**
 * Carries out a task over WAL segments in readable mode. New files are synced and closed under working names, as those
 * of every task.
 */
import assert from "node:assert/strict";
import { displayPath } from "../bytes/byte-path.ts";
import {
  openWalSegment,
  type OpenedWalSegment,
  sealWalSegment,
  type WalFacts,
} from "../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import type { Problem } from "../format/problem.ts";
import { withFile, writeAll } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";
import { NewFiles } from "./new-files.ts";
import { ProblemCollector } from "./problem-collector.ts";
import type { OnBytes } from "./runner.ts";
import type { ItemResult, WalItem, WalTask } from "./tasks.ts";

export async function performWal(
  fs: FileSystem,
  facts: WalFacts,
  task: WalTask,
  onBytes: OnBytes,
): Promise<ItemResult[]> {
  const results: ItemResult[] = [];
  const newFiles = new NewFiles(fs);
  try {
    for (const item of task.items) {
      if (task.kind === "sealWal") results.push(seal(fs, facts, item, newFiles));
      else if (task.kind === "openWal") results.push(open(fs, facts, item, newFiles));
      else results.push(check(fs, facts, item));
      onBytes(item.files.identity.relationSegment);
    }
    await newFiles.sync();
  } finally {
    newFiles.close();
  }
  return results;
}

function seal(fs: FileSystem, facts: WalFacts, item: WalItem, newFiles: NewFiles): ItemResult {
  const { files, target, surroundings } = item;
  assert(target !== undefined && surroundings !== undefined, "sealing has a target");
  const { segment, sidecar, openCrc } = sealWalSegment(fs, facts, files, surroundings);
  withFile(fs, files.segment, (source) => {
    writeNew(newFiles.open(target.segment, true, source, segment.length), segment);
    writeNew(newFiles.open(target.sidecar, true, source, sidecar.length), sidecar);
  });
  return { path: files.path, openCrc };
}

function open(fs: FileSystem, facts: WalFacts, item: WalItem, newFiles: NewFiles): ItemResult {
  const { files, target } = item;
  assert(target !== undefined, "opening has a target");
  const { segment } = openWalSegment(fs, facts, files, true, stopAt);
  withFile(fs, files.segment, (source) => {
    writeNew(newFiles.open(target.segment, true, source, segment.length), segment);
  });
  return { path: files.path };
}

function check(fs: FileSystem, facts: WalFacts, { files }: WalItem): ItemResult {
  return new ProblemCollector(files.path).collect((report) => {
    const opened = openWalSegment(fs, facts, files, false, report);
    return {
      path: files.path,
      sizeBytes: opened.segment.length,
      keys: keysOf(opened),
      digest: opened.sidecarDigest.toString("hex"),
    };
  });
}

function keysOf({ blocksByKey, macKeyIds }: OpenedWalSegment): ReadonlyMap<number, number> {
  const keys = new Map(blocksByKey);
  for (const keyId of macKeyIds) if (!keys.has(keyId)) keys.set(keyId, 0);
  return keys;
}

/** A caller that writes stops at the first problem. */
function stopAt({ kind, path, block, message }: Problem): never {
  const where = block === undefined ? path : `${path} block ${block}`;
  if (kind === "key") throw new KeyError(message);
  throw new IntegrityError(`${where}: ${message}`, {
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
