/**
 * Seals anew every file of a rotation that still is as the manifest of before names it; what a run that was
 * interrupted has done is left alone.
 */
import type { KeyObject } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { digestSidecar } from "../datadir/open-relation.ts";
import { sidecarSizeBytes } from "../datadir/relation-job.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { WAL_SIDECAR_LIMIT_BYTES, type WalFacts } from "../datadir/wal-segment.ts";
import { inspectSealedFile } from "../datadir/sealed-file.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import { newFileSalt } from "../format/file-salt.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { ContentItem, Item, RelationItem, WalItem } from "../workers/tasks.ts";
import { type Planned, writeBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import { newPath, stepsFor } from "./plan-items.ts";
import type { RotationFile } from "./rotation-files.ts";
import { createSealedFiles } from "./seal-all.ts";
import { WalToSeal } from "./seal-wal.ts";

/**
 * @param isResumed - some of the files may be done already.
 * @param commit - lets a batch's new files take their places; called in order, never twice at once.
 */
export async function resealAll(
  engine: EngineContext,
  runner: TaskRunner,
  facts: WalFacts,
  datadir: Datadir,
  files: Iterable<RotationFile>,
  isResumed: boolean,
  commit: (steps: readonly DueStep[]) => void,
): Promise<void> {
  const { fs, signal } = engine;
  const wal = new WalToSeal(datadir, { source: datadir.root, output: undefined });
  await writeBatches<readonly DueStep[]>(
    runner,
    planned(fs, datadir, files, isResumed, wal),
    {
      blockSizeBytes: datadir.control.blockSizeBytes,
      splitLarge: true,
      task: (items) => ({ kind: "reseal", items }),
      prepareLarge: (item) => createTarget(fs, facts.saltKey, item),
      signal,
    },
    (done) => commit(done.flatMap(({ extra }) => extra)),
  );
  await wal.run(engine, runner, facts, commit);
}

function* planned(
  fs: FileSystem,
  datadir: Datadir,
  files: Iterable<RotationFile>,
  isResumed: boolean,
  wal: WalToSeal,
): Generator<Planned<readonly DueStep[]>> {
  const places = { source: datadir.root, output: undefined };
  for (const file of files) {
    const { path } = file.entry;
    if (file.do === "drop" && file.hasSidecar) {
      yield { item: undefined, extra: [{ action: "remove", path: sidecarName(path) }] };
    }
    const isTodo =
      file.do === "reseal" && (!isResumed || isAsBefore(fs, datadir, file.entry, file.item));
    if (file.entry.class === "W") {
      if (isTodo) wal.addAnew(path);
      else wal.addStored(path);
    }
    if (!isTodo || file.item.kind === "wal") continue;
    const item: Item =
      file.item.kind === "relation"
        ? { ...file.item, target: relationTarget(datadir, file.entry) }
        : { ...file.item, target: newPath(places, path) };
    // The sidecar first, as everywhere. Until both have their names only the journal knows that they do not fit.
    const steps =
      file.item.kind === "relation"
        ? stepsFor(places, sidecarName(path), path)
        : stepsFor(places, path);
    yield { item, extra: steps };
  }
}

function relationTarget(
  datadir: Datadir,
  { path }: ManifestEntry,
): NonNullable<RelationItem["target"]> {
  const places = { source: datadir.root, output: undefined };
  return { sealed: newPath(places, path), sidecar: newPath(places, sidecarName(path)) };
}

/** Whether a file is the one that the manifest of before names: its digest is of all that makes it that one. */
export function isAsBefore(
  fs: FileSystem,
  { control }: Datadir,
  { digest }: ManifestEntry,
  item: RelationItem | WalItem | ContentItem,
): boolean {
  if (item.kind !== "content") {
    const buffer = Buffer.alloc(READ_BYTES);
    const limit =
      item.kind === "wal"
        ? WAL_SIDECAR_LIMIT_BYTES
        : sidecarSizeBytes(item.files.sizeBytes, control.blockSizeBytes);
    const { root, sizeBytes } = withFile(fs, item.files.sidecar, (sidecar) =>
      digestSidecar(sidecar, buffer, limit),
    );
    return sizeBytes <= limit && root.toString("hex") === digest;
  }
  return inspectSealedFile(fs, item.sealed, item.context).digest.toString("hex") === digest;
}

const READ_BYTES = 2 ** 18;

function createTarget(
  fs: FileSystem,
  saltKey: KeyObject | undefined,
  item: RelationItem,
): RelationItem {
  const { target, files } = item;
  if (target !== undefined) createSealedFiles(fs, target, files.sizeBytes);
  return { ...item, fileSalt: newFileSalt(saltKey, item.files.path) };
}
