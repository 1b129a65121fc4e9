/**
 * Seals every file of an inventory that is not sealed yet, in place or into a new directory.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { KeyObject } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { newFileSalt } from "../format/file-salt.ts";
import type { WalFacts } from "../datadir/wal-segment.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { RelationItem } from "../workers/tasks.ts";
import { type Planned, writeBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import type { InventoryEntry } from "./inventory.ts";
import {
  contentItem,
  emptyRelation,
  type Places,
  readableItem,
  sealRelationItem,
  stepsFor,
} from "./plan-items.ts";
import { WalToSeal } from "./seal-wal.ts";

/**
 * @param commit - lets a batch's new files take their places; called in order, never twice at once.
 */
export async function sealAll(
  engine: EngineContext,
  runner: TaskRunner,
  facts: WalFacts,
  datadir: Datadir,
  places: Places,
  inventory: Iterable<InventoryEntry>,
  commit: (steps: readonly DueStep[]) => void,
): Promise<void> {
  const { blockSizeBytes } = datadir.control;
  const wal = new WalToSeal(datadir, places);
  await writeBatches<readonly DueStep[]>(
    runner,
    planned(datadir, places, inventory, wal),
    {
      blockSizeBytes,
      splitLarge: true,
      task: (items) => ({ kind: "seal", items }),
      prepareLarge: (item) => prepareLarge(engine.fs, facts.saltKey, item),
      signal: engine.signal,
    },
    (done) => commit(done.flatMap(({ extra }) => extra)),
  );
  await wal.run(engine, runner, facts, commit);
}

function* planned(
  datadir: Datadir,
  places: Places,
  inventory: Iterable<InventoryEntry>,
  wal: WalToSeal,
): Generator<Planned<readonly DueStep[]>> {
  for (const { entry, action, sizeBytes } of inventory) {
    const { path } = entry;
    if (action.do === "seal-wal") wal.add(path);
    else if (entry.classification.class === "wal" && action.do === "nothing") wal.addStored(path);
    else if (action.do === "seal-relation") {
      const identity = identityOf(datadir, action.file);
      // The sidecar first: ciphertext without one must never exist.
      const steps = stepsFor(places, sidecarName(path), path);
      yield { item: sealRelationItem(places, path, identity, sizeBytes), extra: steps };
    } else if (action.do === "seal-content") {
      yield { item: contentItem("seal", places, path, sizeBytes), extra: stepsFor(places, path) };
    } else if (places.output !== undefined && action.do === "keep" && entry.kind === "file") {
      const item = readableItem(places, path, sizeBytes);
      const isEmpty = entry.classification.class === "relation" && sizeBytes === 0;
      yield { item: isEmpty ? emptyRelation(item) : item, extra: [] };
    }
  }
}

/** The new files of a relation file that several workers write. */
export function createSealedFiles(
  fs: FileSystem,
  paths: { readonly sealed: BytePath; readonly sidecar: BytePath },
  sizeBytes: number,
): void {
  for (const [path, size] of [
    [paths.sealed, sizeBytes],
    [paths.sidecar, 0],
  ] as const) {
    const file = fs.create(path, 0o600);
    try {
      file.truncate(size);
    } finally {
      file.close();
    }
  }
}

/** Makes the new files of a relation file that several workers write; they share a salt. */
export function prepareLarge(
  fs: FileSystem,
  saltKey: KeyObject | undefined,
  item: RelationItem,
): RelationItem {
  createSealedFiles(fs, item.files, item.files.sizeBytes);
  return { ...item, fileSalt: newFileSalt(saltKey, item.files.path) };
}
