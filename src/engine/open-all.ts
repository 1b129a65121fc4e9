/**
 * Opens every sealed file that a manifest names and that is still sealed, in place or into a new directory.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { AUTO_CONF, BACKUP_MANIFEST, OWN_FILES } from "../datadir/classify.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { plainAccess } from "../datadir/plain-access.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { parseRelationPath, sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { IntegrityError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import { type RelationItem, sizeOf } from "../workers/tasks.ts";
import type { AcceptedChange } from "./accepted-changes.ts";
import { type Planned, writeBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import {
  contentItem,
  newPath,
  openRelationItem,
  type Places,
  readableItem,
  stepsFor,
  walItem,
  walTarget,
} from "./plan-items.ts";
import type { SettledFiles } from "./settle-decryption.ts";

/** What lets a plain file take its place, and which container goes with it. */
interface Opened {
  readonly steps: readonly DueStep[];
  /** In place: its header and tags are to be kept before. */
  readonly container?: BytePath | undefined;
}

type PlannedOpening = Planned<Opened>;

/** What is to be opened: all that the manifest names, but for what the user took as it is now. */
export interface Opening {
  readonly manifest: Manifest;
  readonly accepted: readonly AcceptedChange[];
  /** What an interrupted run has opened already: it is left alone. In place only. */
  readonly settled?: SettledFiles | undefined;
  /** These lines alone; all of them where it is left out. */
  readonly only?: ((entry: ManifestEntry) => boolean) | undefined;
}

/** @param commit - lets a batch's plain files take the places of others, containers among them; never twice at once. */
export async function openAll(
  engine: EngineContext,
  runner: TaskRunner,
  datadir: Datadir,
  places: Places,
  opening: Opening,
  commit: (steps: readonly DueStep[], containers: readonly BytePath[]) => void,
): Promise<void> {
  const { blockSizeBytes } = datadir.control;
  const access = plainAccess(engine.fs, places.output ?? datadir.root);
  await writeBatches<Opened>(
    runner,
    plannedOpenings(engine.fs, datadir, places, opening),
    {
      blockSizeBytes,
      splitLarge: true,
      task: (items) => ({ kind: "open", access, items }),
      prepareLarge: (item) => createPlainFile(engine.fs, item),
      signal: engine.signal,
    },
    (done) =>
      commit(
        done.flatMap(({ extra }) => extra.steps),
        done.flatMap(({ extra }) => extra.container ?? []),
      ),
  );
}

/** How much there is to open; with `output` also what is plain, and copied there. */
export function countToOpen(
  fs: FileSystem,
  datadir: Datadir,
  opening: Opening,
  output?: BytePath,
): { files: number; bytes: number } {
  const counted = { files: 0, bytes: 0 };
  const places = { source: datadir.root, output };
  for (const { item } of plannedOpenings(fs, datadir, places, opening)) {
    if (item === undefined) continue;
    counted.files++;
    counted.bytes += sizeOf(item);
  }
  return counted;
}

function* plannedOpenings(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  { manifest, accepted, only, settled }: Opening,
): Generator<PlannedOpening> {
  const changes = new Map(accepted.map((change) => [change.path, change]));
  let index = -1;
  for (const entry of manifest.entries()) {
    index++;
    if (only?.(entry) === false || settled?.has(index) === true) continue;
    const planned =
      entry.class === "P"
        ? openRelation(fs, datadir, places, entry)
        : entry.class === "W"
          ? openWal(fs, datadir, places, entry)
          : changes.has(entry.path)
            ? undefined
            : openContent(fs, datadir, places, entry);
    if (planned !== undefined) yield planned;
  }
  for (const { path, change, sizeBytes, digest } of accepted) {
    const planned = change === "removed" ? undefined : copyPlain(places, path, sizeBytes, digest);
    if (planned !== undefined) yield planned;
  }
}

function openRelation(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  { path, sizeBytes, expendable }: ManifestEntry,
): PlannedOpening | undefined {
  const sidecar = sidecarName(path);
  if (fs.stat(joinPath(datadir.root, path)) === undefined) {
    // In place a sidecar that a tool left goes at the end, with all others.
    if (expendable) return undefined;
    throw isMissing(path);
  }
  const file = parseRelationPath(path, datadir);
  if (file === undefined) {
    throw new IntegrityError("the manifest names a relation file that cannot be one");
  }
  if (sizeBytes === 0) return copyPlain(places, path, sizeBytes);
  if (fs.stat(joinPath(datadir.root, sidecar)) === undefined) throw hasLostSidecar(path);
  // The sidecar stays until the end: with it a run that goes on tells what it has opened.
  return {
    item: openRelationItem(places, path, identityOf(datadir, file), sizeBytes),
    extra: { steps: stepsFor(places, path) },
  };
}

function openWal(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  { path }: ManifestEntry,
): PlannedOpening | undefined {
  const sidecar = sidecarName(path);
  if (fs.stat(joinPath(datadir.root, path)) === undefined) throw isMissing(path);
  if (fs.stat(joinPath(datadir.root, sidecar)) === undefined) throw hasLostSidecar(path);
  const item = walItem(places, datadir, path);
  if (item === undefined) {
    throw new IntegrityError("the manifest names a WAL segment that cannot be one");
  }
  const extra = { steps: stepsFor(places, path) };
  return { item: { ...item, target: walTarget(places, path) }, extra };
}

function hasLostSidecar(path: BytePath): IntegrityError {
  return new IntegrityError(`the sidecar of "${displayPath(path)}" is missing`, {
    file: displayPath(path),
    hint: "Restore it from a backup of the encrypted directory, then run the same command again.",
  });
}

function isMissing(path: BytePath): IntegrityError {
  return new IntegrityError(`"${displayPath(path)}" is missing`, {
    file: displayPath(path),
    hint: "Restore it with its sidecar from a backup, then run the same command again.",
  });
}

function openContent(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  entry: ManifestEntry,
): PlannedOpening | undefined {
  const { path, sizeBytes } = entry;
  // The original behind the guard comes back last, when the guard goes; pg_control comes from the manifest.
  if (path === OWN_FILES["auto-conf"] || path === AUTO_CONF || path === CONTROL_PATH)
    return undefined;
  if (
    path === BACKUP_MANIFEST &&
    fs.stat(joinPath(datadir.root, OWN_FILES["backup-manifest"])) !== undefined
  ) {
    return undefined;
  }
  if (entry.class === "R" || entry.class === "O") {
    const exists = fs.stat(joinPath(datadir.root, path)) !== undefined;
    return exists ? copyPlain(places, path, sizeBytes, entry.digest) : undefined;
  }
  if (entry.class !== "S") return undefined;
  if (path === OWN_FILES["backup-manifest"])
    return openBackupManifest(fs, datadir, places, sizeBytes);
  if (!isSealed(fs, datadir, path, fileContext(path))) {
    if (entry.expendable && fs.stat(joinPath(datadir.root, path)) === undefined) return undefined;
    throw new IntegrityError(`"${displayPath(path)}" is no longer the sealed file that it was`, {
      hint: "Something else is changing the directory, or the disk is failing. Nothing was changed.",
    });
  }
  const container = places.output === undefined ? path : undefined;
  return {
    item: contentItem("open", places, path, sizeBytes),
    extra: { steps: stepsFor(places, path), container },
  };
}

/** What is plain already goes into a new directory as it is. */
function copyPlain(
  places: Places,
  path: BytePath,
  sizeBytes: number,
  digest?: string,
): PlannedOpening | undefined {
  if (places.output === undefined) return undefined;
  return { item: { ...readableItem(places, path, sizeBytes), digest }, extra: { steps: [] } };
}

/** The original backup_manifest takes the place of the rewritten one; in place the sealed one goes at the end. */
function openBackupManifest(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  sizeBytes: number,
): PlannedOpening | undefined {
  const sealed = OWN_FILES["backup-manifest"];
  const context = fileContext(BACKUP_MANIFEST);
  if (!isSealed(fs, datadir, sealed, context)) return undefined;
  const extra = { steps: stepsFor(places, BACKUP_MANIFEST) };
  const item = {
    kind: "content",
    path: sealed,
    plain: newPath(places, BACKUP_MANIFEST),
    sealed: joinPath(datadir.root, sealed),
    context,
    sizeBytes,
  } as const;
  return { item, extra };
}

function isSealed(fs: FileSystem, datadir: Datadir, path: BytePath, context: string): boolean {
  const absolute = joinPath(datadir.root, path);
  if (fs.stat(absolute)?.kind !== "file") return false;
  // A file that is taken for plain stays as it is: one bad read must not decide that.
  return [1, 2].some(() => containerHeaderOf(fs, absolute)?.context === context);
}

function createPlainFile(fs: FileSystem, item: RelationItem): RelationItem {
  const file = fs.create(item.files.plain, 0o600);
  try {
    file.truncate(item.files.sizeBytes);
  } finally {
    file.close();
  }
  return item;
}
