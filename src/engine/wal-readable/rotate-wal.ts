/**
 * `tde rotate --wal` on a folder of segments in readable mode: all of them sealed anew, the last one first, because the
 * CRC of a record that crosses into the next segment counts what is stored there.
 *
 * Order for each segment: new segment and sidecar under working names, written, synced and read back to the last tag;
 * sync of the folder; sidecar renamed; sync of the folder; segment renamed. After a crash in between the next run over
 * the folder renames the segment: finish-replacements.ts.
 */
import { displayPath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import { StateError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { addLoad, type KeyLoad } from "../../keyring/key-load.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { EngineContext } from "../context.ts";
import type { RotateArchiveReport, RotateArchiveRequest } from "../wal-archive/rotate-archive.ts";
import { isStoredSegment } from "./read-stored.ts";
import { type OrderedSegment, SealOrder } from "./seal-order.ts";
import { isSegmentName, readWalFolder, type WalFolder, type WalSegment } from "./wal-folder.ts";
import { assertOneKeyring, runInWalFolder } from "./wal-run.ts";

/** Whether a folder holds segments in readable mode, and so is no archive. */
export function hasReadableSegments(fs: FileSystem, folder: WalFolder["path"]): boolean {
  return (
    fs.statFollowing(folder)?.kind === "directory" &&
    fs
      .readDirectory(folder)
      .some(({ name }) => isSegmentName(name) && isStoredSegment(fs, folder, name))
  );
}

/**
 * @throws {StateError} for a folder in use, or one that is an archive, too. @throws {KeyError} {IntegrityError} when a
 *   segment cannot be opened: it and the earlier ones are as they were.
 */
export async function rotateWal(
  engine: EngineContext,
  keys: DataKeys,
  { archive: path, fromKey, dryRun }: RotateArchiveRequest,
): Promise<RotateArchiveReport> {
  if (dryRun) {
    const folder = readWalFolder(engine.fs, path);
    const stored = folder.segments.filter(({ state }) => state === "stored");
    return report(folder, stored, isAnyUnder(stored, keys, fromKey) ? "dry-run" : "nothing", keys);
  }
  return await runInWalFolder(engine, keys, { folder: path }, async (run) => {
    const { folder, context, states, work } = run;
    assertNoArchive(folder);
    assertOneKeyring(folder.segments, keys);
    const stored = folder.segments.filter((each) => states.get(each) === "stored");
    if (!isAnyUnder(stored, keys, fromKey)) return report(folder, stored, "nothing", keys);
    const isStored = new Set(stored);
    const segments = folder.segments.map((each) => ordered(each, isStored.has(each)));
    const order = new SealOrder(engine.fs, context, folder.segmentBytes, segments);
    await work("rotating", stored.length * folder.segmentBytes, (runner) =>
      order.run(runner, engine.signal, (segment) => publish(engine.fs, folder, segment)),
    );
    return report(folder, stored, "rotated", keys);
  });
}

function assertNoArchive({ path, sealed: [archived], sealedInPgWal }: WalFolder): void {
  const sealed = archived ?? sealedInPgWal[0]?.name;
  if (sealed === undefined) return;
  throw new StateError(
    `"${displayPath(path)}" holds segments in readable mode, and "${displayPath(sealed)}", which is sealed whole`,
    { hint: "Move those that are of an archive to a folder of their own." },
  );
}

function isAnyUnder(
  stored: readonly WalSegment[],
  { currentKeyId }: DataKeys,
  fromKey: number | undefined,
): boolean {
  return stored.some(
    ({ keyId = currentKeyId }) => keyId !== currentKeyId && (fromKey ?? keyId) === keyId,
  );
}

function ordered(segment: WalSegment, isStored: boolean): OrderedSegment {
  const { files, number, place, path } = segment;
  const target = { segment: workingName(files.segment), sidecar: workingName(files.sidecar) };
  return isStored ? { number, place, files, target } : { number, place, files, plain: path };
}

/** The new files take the places of the old ones. */
function publish(fs: FileSystem, { path }: WalFolder, { files, target }: OrderedSegment): void {
  if (target === undefined) return;
  // Once the sidecar has its name, nothing but the new segment opens with it: that must not be lost.
  fs.syncDirectory(path);
  fs.rename(target.sidecar, files.sidecar);
  fs.syncDirectory(path);
  fs.rename(target.segment, files.segment);
}

function report(
  { segments, segmentBytes }: WalFolder,
  stored: readonly WalSegment[],
  done: "rotated" | "dry-run" | "nothing",
  { currentKeyId }: DataKeys,
): RotateArchiveReport {
  const load = new Map<number, KeyLoad>();
  for (const { keyId = currentKeyId } of stored) {
    const under = done === "rotated" ? currentKeyId : keyId;
    addLoad(load, under, { pages: 1, bytes: segmentBytes });
  }
  const files = done === "nothing" ? 0 : stored.length;
  return {
    outcome: done === "nothing" ? "nothing-to-do" : done,
    files,
    bytes: files * segmentBytes,
    keyId: currentKeyId,
    plain: segments.length - stored.length,
    load,
    archiveId: undefined,
  };
}
