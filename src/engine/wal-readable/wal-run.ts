/**
 * The frame of a run over a folder of WAL: nobody else works on it, what an earlier run left is gone, and every segment
 * that is not clearly one or the other has been settled by its tags. Such a folder has no manifest: what is encrypted here
 * is of epoch 0, and what was copied here out of a data directory of whatever epoch that was in.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { ANY_EPOCH } from "../../datadir/relation-job.ts";
import type { WalFacts } from "../../datadir/wal-segment.ts";
import { KeyError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { RunContext } from "../../workers/perform.ts";
import type { TaskRunner } from "../../workers/runner.ts";
import type { EngineContext } from "../context.ts";
import { finishReplacements } from "./finish-replacements.ts";
import { lockWalFolder, removeWorkingFiles } from "./folder-lock.ts";
import { type SettledState, settleSegment } from "./settle-segment.ts";
import {
  readWalFolder,
  type SegmentSelection,
  type WalFolder,
  type WalSegment,
} from "./wal-folder.ts";

export interface WalRunRequest {
  readonly folder: BytePath;
  /** Only these; undefined: all segments of the folder. */
  readonly names?: ReadonlySet<BytePath> | undefined;
}

export interface WalRun {
  readonly folder: WalFolder;
  readonly context: RunContext;
  readonly states: ReadonlyMap<WalSegment, SettledState>;
  /**
   * Works on that many bytes of the folder, shows how far it is, and makes all that was renamed and removed durable.
   * @param what - is being done: "encrypting".
   */
  readonly work: (
    what: string,
    totalBytes: number,
    work: (runner: TaskRunner) => Promise<void>,
  ) => Promise<void>;
}

/** @throws {StateError} {FormatError} {IntegrityError} {KeyError} before anything is written, and what `run` throws. */
export async function runInWalFolder<T>(
  engine: EngineContext,
  keys: DataKeys,
  { folder: path, ...selection }: WalRunRequest & SegmentSelection,
  run: (run: WalRun) => Promise<T>,
): Promise<T> {
  const { fs, progress } = engine;
  const lock = lockWalFolder(fs, path, engine.command);
  try {
    let folder = readWalFolder(fs, path, selection);
    const context = runContext(keys, folder.systemIdentifier);
    if (finishReplacements(fs, context, folder)) folder = readWalFolder(fs, path, selection);
    removeWorkingFiles(fs, folder);
    const states = new Map(
      folder.segments.map((segment) => [segment, settleSegment(fs, context, segment)]),
    );
    const work: WalRun["work"] = async (what, totalBytes, workOn) => {
      progress.begin(what, totalBytes);
      const runner = engine.startRunner(context, (done) => progress.advance(done));
      try {
        await workOn(runner);
        fs.syncDirectory(path);
      } finally {
        await runner.close();
        progress.end();
      }
    };
    try {
      return await run({ folder, context, states, work });
    } catch (error) {
      tidyUp(fs, context, path, selection);
      throw error;
    }
  } finally {
    lock.release();
  }
}

/** After an error nothing half done stays, where that can be helped; else the next run sees to it. */
function tidyUp(
  fs: FileSystem,
  facts: WalFacts,
  path: BytePath,
  selection: SegmentSelection,
): void {
  try {
    const found = readWalFolder(fs, path, selection);
    finishReplacements(fs, facts, found);
    removeWorkingFiles(fs, found);
  } catch {
    // The error that came first says more.
  }
}

/** @throws {KeyError} for a stored segment that names another keyring: whoever decrypts the folder opens all of it with one keyring. */
export function assertOneKeyring(segments: readonly WalSegment[], keys: DataKeys): void {
  for (const { state, keyringId = keys.keyringId, path } of segments) {
    if (state !== "stored" || keyringId === keys.keyringId) continue;
    throw new KeyError(
      `"${displayPath(path)}" needs keyring ${keyringId}, yours is keyring ${keys.keyringId}`,
      { hint: "Encrypt the segments of one folder with one keyring." },
    );
  }
}

function runContext(keys: DataKeys, systemIdentifier: bigint): RunContext {
  return {
    keys,
    keyringId: keys.keyringId,
    epoch: 0n,
    latestEpoch: ANY_EPOCH,
    systemIdentifier,
    blockSizeBytes: WAL_PAGE_BYTES,
    dataChecksums: false,
  };
}
