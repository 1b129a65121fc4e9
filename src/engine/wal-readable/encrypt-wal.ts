/**
 * `tde wal encrypt`: segments of a folder into readable mode, in place, the last one first.
 *
 * Order for each segment: new segment and sidecar under working names, written and synced; the CRC of the record that
 * goes on in the next segment; both read back; sidecar renamed; sync of the folder, which makes the segment after it durable, too;
 * segment renamed. After the first one, which comes last, the folder is synced once more. A crash leaves a segment
 * plain, or plain beside a sidecar that does not count, or stored with its sidecar and all segments after it.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { EngineContext } from "../context.ts";
import { countLinked, noLinkedFiles, tellLinked } from "../hard-links.ts";
import { type OrderedSegment, SealOrder } from "./seal-order.ts";
import { gapsIn, type WalSegment } from "./wal-folder.ts";
import { assertOneKeyring, runInWalFolder, type WalRunRequest } from "./wal-run.ts";

export interface EncryptWalReport {
  readonly encrypted: number;
  /** That were encrypted before. */
  readonly already: number;
  readonly bytes: number;
  /** Segments that lack the one before them. */
  readonly gaps: readonly BytePath[];
  /** Sealed as containers: left as they are. */
  readonly sealed: readonly BytePath[];
  /** The same, by encrypt-datadir. */
  readonly sealedInPgWal: readonly BytePath[];
}

/**
 * @throws {StateError} {FormatError} {IntegrityError} before anything is written, for a folder in use and for segments
 *   that are not whole or not of one cluster. @throws {KeyError} where some are stored under another keyring.
 */
export async function encryptWal(
  engine: EngineContext,
  keys: DataKeys,
  request: WalRunRequest,
): Promise<EncryptWalReport> {
  const { fs, signal } = engine;
  return await runInWalFolder(engine, keys, request, async ({ folder, context, states, work }) => {
    const { segments, segmentBytes } = folder;
    assertOneKeyring(segments, keys);
    const todo = segments.filter((each) => states.get(each) !== "stored");
    const isTodo = new Set(todo);
    const linked = noLinkedFiles();
    for (const { path } of todo) countLinked(linked, path, fs.stat(path)?.linkCount ?? 1);
    tellLinked(linked, engine.notice);
    const inOrder = segments.map((each) => ordered(each, isTodo.has(each)));
    const order = new SealOrder(fs, context, segmentBytes, inOrder);
    await work("encrypting", todo.length * segmentBytes, (runner) =>
      order.run(runner, signal, (segment) => publish(fs, folder.path, segment)),
    );
    return {
      encrypted: todo.length,
      already: segments.length - todo.length,
      bytes: todo.length * segmentBytes,
      gaps: gapsIn(segments).map(({ name }) => name),
      sealed: folder.sealed,
      sealedInPgWal: folder.sealedInPgWal.map(({ name }) => name),
    };
  });
}

/** Its new files take their places. */
function publish(fs: FileSystem, folder: BytePath, { files, path }: FolderSegment): void {
  fs.rename(workingName(files.sidecar), files.sidecar);
  fs.syncDirectory(folder);
  fs.rename(workingName(path), path);
}

/** As sealing wants it: plain and still to do, or stored by an earlier run. */
function ordered(segment: WalSegment, isPlain: boolean): FolderSegment {
  const { files, number, place, path } = segment;
  const target = { segment: workingName(files.segment), sidecar: workingName(files.sidecar) };
  const one = { number, place, files, path };
  return isPlain ? { ...one, plain: path, target } : one;
}

interface FolderSegment extends OrderedSegment {
  readonly path: BytePath;
}
