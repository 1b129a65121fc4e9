/**
 * Which sealed files an interrupted run has made itself. A sidecar or a container's header alone says nothing: anybody who
 * can write to the directory could have put an older pair of files there, whose tags hold as well. So such a file counts
 * as done only if its salt is one that this run made for it, and every tag of it holds.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { OWN_FILES } from "../../datadir/classify.ts";
import type { Datadir } from "../../datadir/datadir.ts";
import { identityOf } from "../../datadir/relation-identity.ts";
import { sidecarName } from "../../datadir/relation-path.ts";
import { containerHeaderOf } from "../../datadir/sealed-file.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import { fileContext } from "../../format/container.ts";
import { isSaltOfRun } from "../../format/file-salt.ts";
import type { ManifestEntry } from "../../format/manifest-entry.ts";
import { joinByPath } from "../../format/manifest-order.ts";
import type { Manifest } from "../../format/manifest.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { TaskRunner } from "../../workers/runner.ts";
import { type Item, pathOf } from "../../workers/tasks.ts";
import { type Planned, runBatches } from "../batches.ts";
import type { EngineContext } from "../context.ts";
import { contextFor } from "../expected-entry.ts";
import type { InventoryEntry } from "../inventory.ts";
import { contentItem, openRelationItem, type Places, walItem } from "../plan-items.ts";
import type { DirectoryRun } from "./directory-run.ts";

/** The sealed files of an encryption that no line of the manifest of before vouches for. */
export function* sealedByRun(
  fs: FileSystem,
  datadir: Datadir,
  inventory: Iterable<InventoryEntry>,
  manifest: Manifest | undefined,
): Generator<Item> {
  const found = withPaths(inventory);
  for (const { path, entry, found: one } of joinByPath(manifest?.entries() ?? [], found)) {
    if (one === undefined || (entry !== undefined && isSealedClass(entry))) continue;
    const item = sealedItem(fs, datadir, path, one.inventory);
    if (item !== undefined) yield item;
  }
}

/** Whether a file that the manifest calls plain is sealed now: then a run that goes on has sealed it, or must be refused. */
export function isSealedSince(
  fs: FileSystem,
  datadir: Datadir,
  keys: DataKeys,
  { class: kind, path }: ManifestEntry,
): boolean {
  return (kind === "R" || kind === "O") && isSealedFile(fs, datadir, keys, path);
}

/** Whether a file has a sidecar, or is its own path's container under this keyring. Nothing is authenticated. */
export function isSealedFile(
  fs: FileSystem,
  { root }: Datadir,
  keys: DataKeys,
  path: BytePath,
): boolean {
  const file = joinPath(root, path);
  if (fs.stat(file)?.kind !== "file") return false;
  if (fs.stat(joinPath(root, sidecarName(path))) !== undefined) return true;
  const header = containerHeaderOf(fs, file);
  return header?.context === fileContext(path) && header.keyringId === keys.keyringId;
}

/**
 * @throws {IntegrityError} for the first file that is not this run's own, or not whole; {KeyError}. Nothing was changed.
 */
export async function assertOwnFiles(
  engine: EngineContext,
  runner: TaskRunner,
  { control }: Datadir,
  run: DirectoryRun,
  items: Iterable<Item>,
): Promise<void> {
  await runBatches<Item>(
    runner,
    planned(items),
    {
      blockSizeBytes: control.blockSizeBytes,
      splitLarge: true,
      task: (some) => ({ kind: "check", depth: "tags", items: some }),
      signal: engine.signal,
    },
    (done) => {
      for (const { extra, result } of done) {
        const path = pathOf(extra);
        const problem = result?.problems?.[0];
        if (problem?.kind === "key") throw new KeyError(`${problem.path}: ${problem.message}`);
        if (problem !== undefined) throw isNotOwn(path, problem.message);
        const salt = Buffer.from(result?.fileSalt ?? "", "hex");
        if (isSaltOfRun(run.saltKey, path, salt)) continue;
        throw isNotOwn(path, "it authenticates, but the run that is unfinished did not write it");
      }
    },
  );
}

function isNotOwn(path: BytePath, why: string): IntegrityError {
  return new IntegrityError(`${displayPath(path)}: ${why}`, {
    file: displayPath(path),
    hint: "Nothing was changed. Somebody put another file there while the run was unfinished, or the disk is failing: restore the file, plain as it was or as the run left it, and run the same command again.",
  });
}

function isSealedClass({ class: kind }: ManifestEntry): boolean {
  return kind === "P" || kind === "W" || kind === "S";
}

function sealedItem(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  { entry, action, sizeBytes }: InventoryEntry,
): Item | undefined {
  const places: Places = { source: datadir.root, output: undefined };
  const { classification } = entry;
  if (classification.class === "own") {
    const isOriginal = path === OWN_FILES["auto-conf"] || path === OWN_FILES["backup-manifest"];
    if (!isOriginal) return undefined;
    return {
      ...contentItem("check", places, path, sizeBytes),
      context: contextFor(fs, datadir, path),
    };
  }
  if (action.do !== "nothing") return undefined;
  if (classification.class === "relation") {
    const identity = identityOf(datadir, classification.file);
    return openRelationItem(places, path, identity, sizeBytes);
  }
  const isSegment = fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined;
  const segment =
    classification.class === "wal" && isSegment ? walItem(places, datadir, path) : undefined;
  return segment ?? contentItem("check", places, path, sizeBytes);
}

function* withPaths(
  inventory: Iterable<InventoryEntry>,
): Generator<{ readonly path: BytePath; readonly inventory: InventoryEntry }> {
  for (const found of inventory) {
    // What has no line in a manifest and is none of the originals is not sealed either.
    if (found.entry.classification.class === "sidecar") continue;
    yield { path: found.entry.path, inventory: found };
  }
}

function* planned(items: Iterable<Item>): Generator<Planned<Item>> {
  for (const item of items) yield { item, extra: item };
}
