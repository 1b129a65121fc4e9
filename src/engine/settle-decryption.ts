/**
 * What an interrupted decryption has done, found out anew: nothing of it counts because it lies there. A file is plain
 * already only if it gives every tag that is kept of it, of a relation in its sidecar, of a file that was sealed whole in
 * tde.tags, and if those are the ones that the manifest names. All that stays as it is must be as the manifest says.
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../bytes/byte-path.ts";
import { AUTO_CONF, BACKUP_MANIFEST, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { parseRelationPath, sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { Item, ItemResult } from "../workers/tasks.ts";
import { type AcceptedChange, Acceptance, assertSameAccepted } from "./accepted-changes.ts";
import { type Planned, runBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import { type Damage, exceptDamage } from "./damage.ts";
import { digestOfGuard } from "./guard.ts";
import { beginsSealed } from "./inventory.ts";
import { contentItem, openRelationItem, type Places, walItem } from "./plan-items.ts";
import { KeptTags } from "./run/kept-tags.ts";
import { assertIntact } from "./structure-check.ts";

/** Lines of a manifest, by their place in it. */
export class SettledFiles {
  private readonly bits: Uint8Array;
  /** How many there are. */
  count: number = 0;
  /** Files that are plain, and of which nothing is left that would tell whether they are what was decrypted. */
  unchecked: number = 0;

  constructor(entryCount: number) {
    this.bits = new Uint8Array(Math.ceil(entryCount / 8));
  }

  add(index: number): void {
    const at = index >> 3;
    this.bits[at] = (this.bits[at] ?? 0) | (1 << (index & 7));
    this.count++;
  }

  has(index: number): boolean {
    return (((this.bits[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
  }
}

export interface Unsettled {
  readonly manifest: Manifest;
  /** Configuration that the run was begun with as it was then. */
  readonly accepted: readonly AcceptedChange[];
  /** Of the guard, as the run found it: settings beside it may be carried over. */
  readonly guardDigest: string;
  /** Signal files that the run found. */
  readonly addedSignals: readonly string[];
  /** What the run does without: it is dealt with anew. */
  readonly damage?: Damage | undefined;
  /** Every file was plain, and what is kept of tags may be gone in part. */
  readonly isCommitted: boolean;
}

/**
 * @returns the lines whose files are plain already.
 * @throws {IntegrityError} for what is neither as it was encrypted nor as the run made it; {KeyError}. Nothing was changed.
 */
export async function settleDecryption(
  engine: EngineContext,
  runner: TaskRunner,
  datadir: Datadir,
  unsettled: Unsettled,
): Promise<SettledFiles> {
  const { manifest, isCommitted } = unsettled;
  await assertRestIntact(engine, runner, datadir, unsettled);
  const settled = new SettledFiles(manifest.entryCount);
  await runBatches<Candidate>(
    runner,
    candidates(engine.fs, datadir, unsettled, () => settled.unchecked++),
    {
      blockSizeBytes: datadir.control.blockSizeBytes,
      splitLarge: true,
      task: (items) => ({ kind: "check-plain", items }),
      signal: engine.signal,
    },
    (done) => {
      for (const { extra, result } of done) {
        const { entry, index, mayBeSealed } = extra;
        if (result !== undefined && isProved(entry, result)) settled.add(index);
        else if (isCommitted || !mayBeSealed) throw isNeither(entry.path, result);
      }
    },
  );
  return settled;
}

/** Takes away what was kept beside files that are plain now: the sidecars of all that the manifest names, durably. */
export function removeKeptSidecars(fs: FileSystem, { root }: Datadir, manifest: Manifest): void {
  const folders = new Set<BytePath>();
  for (const { path, class: kind } of manifest.entries()) {
    if (kind !== "P" && kind !== "W") continue;
    const sidecar = joinPath(root, sidecarName(path));
    if (fs.stat(sidecar) === undefined) continue;
    fs.remove(sidecar);
    folders.add(directoryOf(sidecar));
  }
  for (const folder of folders) fs.syncDirectory(folder);
}

interface Candidate {
  readonly entry: ManifestEntry;
  readonly index: number;
  /** It need not be plain: opening it will tell. */
  readonly mayBeSealed: boolean;
}

function* candidates(
  fs: FileSystem,
  datadir: Datadir,
  { manifest, isCommitted, damage }: Unsettled,
  noEvidence: () => void,
): Generator<Planned<Candidate>> {
  const { only: isWhole = () => true } = exceptDamage(datadir, damage);
  const tags = new KeptTags(fs, datadir.root);
  const places: Places = { source: datadir.root, output: undefined };
  let index = -1;
  for (const entry of manifest.entries()) {
    index++;
    if (!isWhole(entry)) continue;
    const { path, sizeBytes } = entry;
    const exists = fs.stat(joinPath(datadir.root, path))?.kind === "file";
    switch (entry.class) {
      case "P": {
        const file = parseRelationPath(path, datadir);
        if (!exists || file === undefined || sizeBytes === 0) break;
        if (!hasSidecar(fs, datadir, path)) {
          if (isCommitted) noEvidence();
          break;
        }
        // What bears the mark of sealed pages is not plain: opening it looks at every page.
        if (!isCommitted && beginsSealed(fs, datadir, path, file)) break;
        const sealed = openRelationItem(places, path, identityOf(datadir, file), sizeBytes);
        const item = { ...sealed, files: { ...sealed.files, plain: sealed.files.sealed } };
        yield { item, extra: { entry, index, mayBeSealed: true } };
        break;
      }
      case "W": {
        const item = hasSidecar(fs, datadir, path) ? walItem(places, datadir, path) : undefined;
        if (exists && item === undefined && isCommitted) noEvidence();
        if (exists && item !== undefined)
          yield { item, extra: { entry, index, mayBeSealed: true } };
        break;
      }
      case "S": {
        const item = contentCandidate(fs, datadir, tags, path, isCommitted);
        if (item === "no evidence") noEvidence();
        else if (item !== undefined) yield { item, extra: { entry, index, mayBeSealed: false } };
        break;
      }
      case "R":
      case "O":
      case "D":
      case "L":
    }
  }
}

/**
 * @returns undefined for one that is still sealed, missing, or an original that goes at the end; "no evidence" for one that
 *   is plain, and whose tags are gone as they go at the end.
 * @throws {IntegrityError} for one that is plain, although nothing is kept of its tags.
 */
function contentCandidate(
  fs: FileSystem,
  datadir: Datadir,
  tags: KeptTags,
  path: BytePath,
  isCommitted: boolean,
): Item | "no evidence" | undefined {
  if (path === OWN_FILES["auto-conf"] || path === OWN_FILES["backup-manifest"]) return undefined;
  const stat = fs.stat(joinPath(datadir.root, path));
  if (stat?.kind !== "file" || isContainer(fs, datadir, path)) return undefined;
  const keptTags = tags.of(path);
  if (keptTags === undefined) {
    // They go when all of them have been checked.
    if (isCommitted && fs.stat(joinPath(datadir.root, OWN_FILES["kept-tags"])) === undefined)
      return "no evidence";
    throw isNeither(path, undefined);
  }
  const places: Places = { source: datadir.root, output: undefined };
  const plain = joinPath(datadir.root, path);
  return { ...contentItem("check", places, path, stat.sizeBytes), plain, keptTags };
}

/** What no tag that is kept tells of: readable files, folders, links, and all that is still sealed. */
async function assertRestIntact(
  engine: EngineContext,
  runner: TaskRunner,
  datadir: Datadir,
  unsettled: Unsettled,
): Promise<void> {
  const { fs } = engine;
  const { manifest, accepted: begun, addedSignals: known, guardDigest, isCommitted } = unsettled;
  const { only: isWhole = () => true, ...knownDamage } = exceptDamage(datadir, unsettled.damage);
  if (digestOfGuard(fs, datadir.root) !== guardDigest) {
    throw new IntegrityError(`"${AUTO_CONF}" was changed while the decryption was unfinished`, {
      file: AUTO_CONF,
      hint: "Nothing was changed. Put it back to what it was, and run the same command again.",
    });
  }
  const acceptance = new Acceptance(begun.map(({ path }) => path));
  const hasOriginalList =
    fs.stat(joinPath(datadir.root, OWN_FILES["backup-manifest"])) !== undefined;
  const only = (entry: ManifestEntry): boolean => {
    const { path } = entry;
    if (!isWhole(entry)) return false;
    switch (entry.class) {
      case "P":
      case "W":
        // Of a plain file whose sidecar is gone nothing is left to tell of, but that it is there; an empty one is empty.
        return (
          !isCommitted ||
          hasSidecar(fs, datadir, path) ||
          entry.sizeBytes === 0 ||
          fs.stat(joinPath(datadir.root, path))?.kind !== "file"
        );
      case "S":
        if (path === OWN_FILES["backup-manifest"]) return !isCommitted || hasOriginalList;
        if (path === OWN_FILES["auto-conf"]) return true;
        // One that is plain is held against its tags.
        return (
          fs.stat(joinPath(datadir.root, path)) === undefined || isContainer(fs, datadir, path)
        );
      case "R":
        // The original may be back; the sealed one is kept, and authenticates.
        return path !== BACKUP_MANIFEST || !(hasOriginalList || isCommitted);
      case "O":
      case "D":
      case "L":
        return true;
    }
  };
  const options = { acceptance, only, ...knownDamage, isResumed: true };
  const { addedSignals, accepted } = await assertIntact(engine, runner, datadir, manifest, options);
  assertSameAccepted(accepted, begun);
  const added = addedSignals.find((signal) => !known.includes(signal));
  if (added === undefined) return;
  throw new IntegrityError(`"${added}" was added while the decryption was unfinished`, {
    file: added,
    hint: "Nothing was changed. Move it away, and run the same command again.",
  });
}

/** Whether a plain file gave every tag, and these are the ones of the manifest. */
function isProved(entry: ManifestEntry, { problemCount, digest }: ItemResult): boolean {
  return (problemCount ?? 0) === 0 && digest === entry.digest;
}

function isNeither(path: BytePath, result: ItemResult | undefined): IntegrityError | KeyError {
  const problem = result?.problems?.[0];
  if (problem?.kind === "key") return new KeyError(`${problem.path}: ${problem.message}`);
  const why = problem === undefined ? "" : `: ${problem.message}`;
  return new IntegrityError(
    `${displayPath(path)} is neither the sealed file that it was nor what is sealed in it${why}`,
    {
      file: displayPath(path),
      hint: "Nothing was changed. It was altered while the decryption was unfinished: restore it from a backup of the encrypted directory, and run the same command again.",
    },
  );
}

function hasSidecar(fs: FileSystem, { root }: Datadir, path: BytePath): boolean {
  return fs.stat(joinPath(root, sidecarName(path)))?.kind === "file";
}

function isContainer(fs: FileSystem, { root }: Datadir, path: BytePath): boolean {
  const absolute = joinPath(root, path);
  if (fs.stat(absolute)?.kind !== "file") return false;
  return containerHeaderOf(fs, absolute)?.context === fileContext(path);
}
