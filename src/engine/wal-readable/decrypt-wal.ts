/**
 * `tde wal decrypt`: segments in readable mode back to what they were, bit for bit, in place.
 *
 * Order for each segment: the original under its working name, written and synced; renamed; sync of the folder; sidecar
 * removed, which the next sync of the folder makes durable. A crash leaves a segment stored with its sidecar, or plain beside one that does not
 * count.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import { IntegrityError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { runInOrder } from "../../workers/runner.ts";
import type { Task } from "../../workers/tasks.ts";
import type { EngineContext } from "../context.ts";
import { crossingDefect } from "./crossing-record.ts";
import { lockWalFolder, removeWorkingFiles } from "./folder-lock.ts";
import { settleSegment } from "./settle-segment.ts";
import { readWalFolder, type WalSegment } from "./wal-folder.ts";
import { walRunContext } from "./wal-run.ts";

export interface DecryptWalRequest {
  readonly folder: BytePath;
  readonly names?: ReadonlySet<BytePath> | undefined;
}

export interface DecryptWalReport {
  readonly decrypted: number;
  /** That were plain before. */
  readonly plain: number;
  readonly bytes: number;
  /** Sealed as containers: left as they are. */
  readonly sealed: readonly BytePath[];
}

/** @throws {IntegrityError} at the first segment that does not authenticate: it and the later ones stay stored. */
export async function decryptWal(
  engine: EngineContext,
  keys: DataKeys,
  { folder: path, names }: DecryptWalRequest,
): Promise<DecryptWalReport> {
  const { fs } = engine;
  const lock = lockWalFolder(fs, path, engine.command);
  try {
    removeWorkingFiles(fs, path);
    const folder = readWalFolder(fs, path, names);
    const context = walRunContext(keys, folder.systemIdentifier);
    const todo: WalSegment[] = [];
    for (const segment of folder.segments) {
      const state = settleSegment(fs, context, segment);
      if (state === "stored") todo.push(segment);
      else if (state === "half") fs.remove(segment.files.sidecar);
    }
    const bytes = todo.length * folder.segmentBytes;
    engine.progress.begin("decrypting", bytes);
    const stored = new Set(todo);
    const runner = engine.startRunner(context, (done) => engine.progress.advance(done));
    try {
      await runInOrder(runner, tasks(todo, engine.signal), (_results, segment) => {
        // Those behind it are stored still.
        const defect = crossingDefect(fs, folder.segments, segment, (each) => stored.has(each));
        if (defect !== undefined) throw wrongCrossing(segment, defect);
        fs.rename(workingName(segment.path), segment.path);
        fs.syncDirectory(path);
        fs.remove(segment.files.sidecar);
      });
      fs.syncDirectory(path);
    } finally {
      await runner.close();
      engine.progress.end();
    }
    const plain = folder.segments.length - todo.length;
    return { decrypted: todo.length, plain, bytes, sealed: folder.sealed };
  } finally {
    lock.release();
  }
}

function wrongCrossing({ path }: WalSegment, defect: string): IntegrityError {
  return new IntegrityError(`${path}: the record that goes on in the next segment: ${defect}`, {
    hint: "All tags hold, but a CRC that no tag covers was changed. Decrypt the segments one by one, the last one first: the original CRC is sealed in the sidecar.",
  });
}

function* tasks(
  segments: readonly WalSegment[],
  signal: AbortSignal | undefined,
): Generator<{ task: Task; context: WalSegment }> {
  for (const segment of segments) {
    signal?.throwIfAborted();
    const { files } = segment;
    const target = { segment: workingName(files.segment), sidecar: workingName(files.sidecar) };
    const item = { kind: "wal", files, sizeBytes: files.identity.relationSegment, target } as const;
    yield { task: { kind: "open", items: [item] }, context: segment };
  }
}
