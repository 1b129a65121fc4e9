/**
 * `tde wal decrypt`: segments in readable mode back to what they were, bit for bit, in place; and those that encrypt-datadir
 * sealed whole, once they were copied out of its directory. What is plain already is not looked at.
 *
 * Order for each segment: the original under its working name, written, synced and read back; renamed; sync of the folder; sidecar
 * removed, which the next sync of the folder makes durable. A crash leaves a segment stored with its sidecar, or plain beside one that does not
 * count. A segment that was sealed whole is one file, which is replaced in one step.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import { type PlainAccess, plainAccess } from "../../datadir/plain-access.ts";
import { workingName } from "../../datadir/relation-path.ts";
import { IntegrityError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { runWriting, type Writing } from "../../workers/runner.ts";
import type { EngineContext } from "../context.ts";
import { crossingDefect } from "./crossing-record.ts";
import type { SealedSegment, WalSegment } from "./wal-folder.ts";
import { runInWalFolder, type WalRunRequest } from "./wal-run.ts";

export interface DecryptWalReport {
  readonly decrypted: number;
  /** That were plain before. */
  readonly plain: number;
  readonly bytes: number;
  /** Sealed as containers by "tde wal archive": left as they are. */
  readonly sealed: readonly BytePath[];
}

/** @throws {IntegrityError} at the first segment that does not authenticate: it and the later ones stay stored. */
export async function decryptWal(
  engine: EngineContext,
  keys: DataKeys,
  request: WalRunRequest,
): Promise<DecryptWalReport> {
  const { fs, signal } = engine;
  const selection = { ...request, onlyEncrypted: true };
  return await runInWalFolder(engine, keys, selection, async ({ folder, states, work }) => {
    const { segments, path, segmentBytes, sealedInPgWal } = folder;
    const isStored = (segment: WalSegment): boolean => states.get(segment) === "stored";
    for (const segment of segments) {
      if (states.get(segment) === "half") fs.remove(segment.files.sidecar);
    }
    const todo = segments.filter(isStored);
    const access = plainAccess(fs, path);
    let bytes = todo.length * segmentBytes;
    await work("decrypting", bytes + totalBytes(sealedInPgWal), async (runner) => {
      await runWriting(runner, tasks(todo, access, signal), {
        take: (_results, segment) => {
          // Those behind it are stored still.
          const defect = crossingDefect(fs, segments, segment, isStored);
          if (defect !== undefined) throw wrongCrossing(segment, defect);
          fs.rename(workingName(segment.path), segment.path);
          fs.syncDirectory(path);
          fs.remove(segment.files.sidecar);
        },
      });
      await runWriting(runner, tasksOfSealed(sealedInPgWal, access, signal), {
        take: (_results, sealed) => {
          const working = workingName(sealed.path);
          bytes += fs.stat(working)?.sizeBytes ?? 0;
          fs.rename(working, sealed.path);
        },
      });
    });
    return {
      decrypted: todo.length + sealedInPgWal.length,
      plain: segments.length - todo.length + folder.passedOver,
      bytes,
      sealed: folder.sealed,
    };
  });
}

function totalBytes(files: readonly SealedSegment[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function* tasksOfSealed(
  files: readonly SealedSegment[],
  access: PlainAccess,
  signal: AbortSignal | undefined,
): Generator<Writing<SealedSegment>> {
  for (const file of files) {
    signal?.throwIfAborted();
    const { path, context, sizeBytes } = file;
    const item = {
      kind: "content",
      path,
      plain: workingName(path),
      sealed: path,
      context,
    } as const;
    yield { task: { kind: "open", access, items: [{ ...item, sizeBytes }] }, context: file };
  }
}

function wrongCrossing({ path }: WalSegment, defect: string): IntegrityError {
  return new IntegrityError(`${path}: the record that goes on in the next segment: ${defect}`, {
    hint: "All tags hold, but a CRC that no tag covers was changed. Decrypt the segments one by one, the last one first: the original CRC is sealed in the sidecar.",
  });
}

function* tasks(
  segments: readonly WalSegment[],
  access: PlainAccess,
  signal: AbortSignal | undefined,
): Generator<Writing<WalSegment>> {
  for (const segment of segments) {
    signal?.throwIfAborted();
    const { files } = segment;
    const target = { segment: workingName(files.segment), sidecar: workingName(files.sidecar) };
    const item = { kind: "wal", files, sizeBytes: files.identity.relationSegment, target } as const;
    yield { task: { kind: "open", access, items: [item] }, context: segment };
  }
}
