/**
 * Compares an encrypted copy with its plain source, page by page: every tag of the copy is checked, every page is
 * decrypted and held against the source's. Nothing is written. What does not authenticate, or is not what the manifest
 * names, ends it: a copy that fails verification is not brought up to date. In a run that goes on such a file is one that
 * the interrupted run wrote wrongly, or that was damaged meanwhile: it is written anew from the source.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { AUTO_CONF, BACKUP_MANIFEST, CLAIM_NAME, OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { type RelationFile, sidecarName } from "../datadir/relation-path.ts";
import { slotCountOf } from "../datadir/relation-job.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import type { WalkEntry } from "../datadir/walk.ts";
import { StateError } from "../errors.ts";
import type { ManifestClass, ManifestEntry } from "../format/manifest-entry.ts";
import { joinByPath } from "../format/manifest-order.ts";
import type { Manifest } from "../format/manifest.ts";
import { type ScopeFilter, scopeFilter, type ScopePart } from "../format/scope.ts";
import { slotsPerPage } from "../format/sidecar-page.ts";
import { SLOT_BYTES } from "../format/slot.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { Item, ItemResult, Original } from "../workers/tasks.ts";
import { hasSealedBackupManifest } from "./backup-manifest.ts";
import { type Planned, runBatches } from "./batches.ts";
import type { EngineContext } from "./context.ts";
import { digestProblem, expectationOf } from "./expected-entry.ts";
import type { InventoryEntry } from "./inventory.ts";
import { carried, FirstProblem } from "./structure-check.ts";
import { plainInventory } from "./sync-checks.ts";
import { SyncChanges, type WholeFile } from "./sync-changes.ts";
import { addCrossing } from "./sync-segments.ts";

export interface SyncPair {
  readonly source: Datadir;
  readonly copy: Datadir;
  readonly manifest: Manifest;
  /** Seal configuration files that hold passwords, as the copy does. */
  readonly sealConfig: boolean;
  /** A run that was interrupted: what it touched is no more what the manifest names. */
  readonly resumed: boolean;
  /** Of the run that is to come, or goes on. */
  readonly epoch: bigint;
}

/** One path of source or copy, or both. */
interface Compared {
  readonly path: BytePath;
  readonly entry: ManifestEntry | undefined;
  readonly found: WalkEntry | undefined;
  readonly wanted: InventoryEntry | undefined;
}

const CONTROL_PATH = "global/pg_control";
/** Judged by themselves: what stands there is the copy's own. */
const OWN_PATHS: readonly string[] = [AUTO_CONF, BACKUP_MANIFEST, OWN_FILES["auto-conf"]];
/** Messages with random nonces under one key; a whole file gets a new one. docs/FORMAT.md, "Limits". */
const MAX_MESSAGES = 2 ** 31;

/** @throws {IntegrityError} {KeyError} {StorageError} that names the first problem and how many there are. */
export async function compareTrees(
  engine: EngineContext,
  runner: TaskRunner,
  pair: SyncPair,
): Promise<SyncChanges> {
  const comparison = new TreeComparison(engine, pair);
  return await comparison.run(runner);
}

class TreeComparison {
  private readonly engine: EngineContext;
  private readonly pair: SyncPair;
  private readonly problems: FirstProblem;
  private readonly changes: SyncChanges = new SyncChanges();
  private readonly isInScope: ScopeFilter;
  /** Relations that the scope names and that the source has not shown yet. */
  private readonly missingParts: Set<ScopePart>;

  constructor(engine: EngineContext, pair: SyncPair) {
    this.engine = engine;
    this.pair = pair;
    const { scope } = pair.manifest.header;
    this.isInScope = scopeFilter(scope);
    const parts = scope.included === "all" ? [] : scope.included;
    this.missingParts = new Set(parts.filter((part) => part.startsWith("relation:")));
    this.problems = new FirstProblem(
      pair.resumed
        ? "Restore what is damaged from a backup of the copy, or encrypt the source into a new directory."
        : undefined,
      // Of tablespaces that the run itself has made.
      (path) => pair.resumed && path.endsWith(`/${CLAIM_NAME}`),
    );
  }

  async run(runner: TaskRunner): Promise<SyncChanges> {
    const { engine, pair } = this;
    const { blockSizeBytes } = pair.copy.control;
    await runBatches<Compared>(
      runner,
      this.plan(),
      {
        blockSizeBytes,
        splitLarge: true,
        task: (items) => ({ kind: "check", depth: "tags", items }),
        signal: engine.signal,
      },
      (done) => {
        for (const { extra, result } of done) this.take(extra, result);
      },
    );
    this.problems.throwIfAny();
    this.assertScopeIsThere();
    addCrossing(engine.fs, pair, this.changes);
    return this.changes;
  }

  /**
   * A relation that was rewritten (VACUUM FULL, TRUNCATE) has another relfilenumber: it would be plain in the copy.
   * @throws {StateError} when the source lacks a relation that the copy's scope names.
   */
  private assertScopeIsThere(): void {
    const [part] = this.missingParts;
    if (part === undefined) return;
    throw new StateError(
      `the source has no ${part.replace(":", " ")}, which the copy's scope names`,
      {
        hint: "It was dropped, or rewritten under another number, which would be left plain. Nothing was changed. Encrypt the source into a new directory.",
      },
    );
  }

  private *plan(): Generator<Planned<Compared>> {
    const { pair, engine } = this;
    const inCopy = joinByPath(
      pair.manifest.entries(),
      carried(engine.fs, pair.copy, this.problems),
    );
    for (const { path, entry, found } of joinByPath(this.inSource(), inCopy)) {
      const compared = { path, entry: found?.entry, found: found?.found, wanted: entry?.wanted };
      const item = this.checkInCopy(compared);
      const against = item === undefined ? undefined : this.originalOf(compared);
      yield { item: item && { ...item, against }, extra: compared };
    }
  }

  /** What of the source has a place in the copy. */
  private *inSource(): Generator<{ path: BytePath; wanted: InventoryEntry }> {
    const { engine, pair } = this;
    const options = {
      scope: pair.manifest.header.scope,
      wal: pair.manifest.header.wal,
      sealConfig: pair.sealConfig,
      keyringId: pair.manifest.header.keyringId,
    } as const;
    for (const wanted of plainInventory(engine.fs, pair.source, options)) {
      const { classification } = wanted.entry;
      // Its other forks may be left behind.
      if (classification.class === "relation" && classification.file.fork === "main")
        this.missingParts.delete(partOf(classification.file));
      if (wanted.action.do !== "pass") yield { path: wanted.entry.path, wanted };
    }
  }

  /** Adds what is wrong with an entry of the copy. @returns how its content is to be checked. */
  private checkInCopy({ path, entry, found }: Compared): Item | undefined {
    const { engine, pair, problems } = this;
    if (found === undefined) {
      if (entry !== undefined && !entry.expendable && !pair.resumed)
        problems.add({ kind: "missing", path: displayPath(path), message: "the file is missing" });
      return undefined;
    }
    if (entry === undefined && !pair.resumed) {
      const message = "the manifest does not name it";
      problems.add({ kind: "extra", path: displayPath(path), message });
      return undefined;
    }
    const expected = entry === undefined || pair.resumed ? this.standing(found) : entry;
    if (expected === undefined) return undefined;
    const { problems: wrong, item } = expectationOf(engine.fs, pair.copy, found, expected);
    for (const problem of wrong) problems.add(problem);
    return item;
  }

  /** What stands there, as a manifest would say it: a run that goes on has changed some, and not yet others. */
  private standing(
    found: WalkEntry,
  ): Pick<ManifestEntry, "class" | "sizeBytes" | "digest"> | undefined {
    if (found.kind !== "file") return undefined;
    const { fs } = this.engine;
    const absolute = joinPath(this.pair.copy.root, found.path);
    const sizeBytes = fs.stat(absolute)?.sizeBytes ?? 0;
    const manifestClass: ManifestClass = this.hasSidecar(found)
      ? "P"
      : this.isSegment(found)
        ? "W"
        : this.isContainer(found)
          ? "S"
          : "R";
    return { class: manifestClass, sizeBytes, digest: undefined };
  }

  /** Whether it is, or is to be, sealed page by page: a relation in scope, but for empty files. */
  private hasSidecar({ classification }: WalkEntry): boolean {
    return classification.class === "relation" && this.isInScope(classification.file);
  }

  /** Whether it is a segment of WAL that is sealed in readable mode. */
  private isSegment({ path, classification }: WalkEntry): boolean {
    if (classification.class !== "wal") return false;
    return this.engine.fs.stat(joinPath(this.pair.copy.root, sidecarName(path))) !== undefined;
  }

  private isContainer({ path, classification }: WalkEntry): boolean {
    if (classification.class === "relation") return false;
    return containerHeaderOf(this.engine.fs, joinPath(this.pair.copy.root, path)) !== undefined;
  }

  /** The file of the source that a file of the copy is held against, where they are of one kind. */
  private originalOf({ path, found, wanted }: Compared): Original | undefined {
    const { fs } = this.engine;
    const { source } = this.pair;
    if (path === OWN_FILES["backup-manifest"]) {
      const original = joinPath(source.root, BACKUP_MANIFEST);
      const stat = fs.stat(original);
      return stat?.kind === "file" ? { path: original, sizeBytes: stat.sizeBytes } : undefined;
    }
    if (found === undefined || wanted === undefined || OWN_PATHS.includes(path)) return undefined;
    if (wanted.entry.kind !== "file" || this.howToReplace(found, wanted) === "anew")
      return undefined;
    return { path: joinPath(source.root, path), sizeBytes: wanted.sizeBytes };
  }

  /** Whether a file of the copy has the form that the source's is to have; a sealed one stays sealed. */
  private howToReplace(found: WalkEntry, { entry, action }: InventoryEntry): "as-it-is" | "anew" {
    if (found.kind !== "file") return "anew";
    if (entry.classification.class === "relation") return "as-it-is"; // whose scope never changes
    if (action.do === "seal-wal") return this.isSegment(found) ? "as-it-is" : "anew";
    return action.do !== "seal-content" || this.isContainer(found) ? "as-it-is" : "anew";
  }

  private take(compared: Compared, result: ItemResult | undefined): void {
    const { path, entry, found, wanted } = compared;
    const { figures } = this.changes;
    const isMended = this.isMended(compared, result);
    if (!isMended) for (const problem of result?.problems ?? []) this.problems.add(problem);
    if (result !== undefined) {
      figures.comparedFiles++;
      figures.comparedPages += result.pages ?? 0;
      figures.copyBytes += result.sizeBytes ?? 0;
      const differs =
        this.pair.resumed || entry === undefined ? undefined : digestProblem(entry, result);
      if (differs !== undefined) this.problems.add(differs);
    }
    if (path === OWN_FILES["backup-manifest"]) return this.takeBackupManifest(found, result);
    if (OWN_PATHS.includes(path)) return;
    if (wanted === undefined) this.takeGone(compared);
    else if (wanted.entry.kind !== "file") this.takeFolder(path, found, wanted);
    else this.takeFile(path, found, wanted, isMended ? undefined : result, isMended);
  }

  /** Whether a file of the copy, in which something is wrong, is written anew from the source. */
  private isMended({ path, found, wanted }: Compared, result: ItemResult | undefined): boolean {
    const [problem] = result?.problems ?? [];
    const isFile = found?.kind === "file" && wanted?.entry.kind === "file";
    if (problem === undefined || !this.pair.resumed || !isFile || OWN_PATHS.includes(path))
      return false;
    if (result?.problems?.some(({ kind }) => kind === "key") === true) return false;
    this.engine.notice(
      `${displayPath(path)} of the copy is damaged, and written anew from the source: ${problem.message}`,
    );
    return true;
  }

  private takeGone({ path, entry, found }: Compared): void {
    const { changes, engine, pair } = this;
    if (isFolder(found)) {
      changes.removedFolders.push(path);
      return;
    }
    // A tool that leaves out what is expendable kept the sidecar, whose name it does not know.
    const sidecar = joinPath(pair.copy.root, sidecarName(path));
    const isLeft = entry?.class === "P" && engine.fs.stat(sidecar) !== undefined;
    if (found === undefined && !isLeft) return;
    changes.removed.push(path);
    if (found?.kind === "file") changes.figures.removedFiles++;
  }

  /** A folder or link of the source. pg_wal and tablespaces have places of their own in the copy. */
  private takeFolder(path: BytePath, found: WalkEntry | undefined, wanted: InventoryEntry): void {
    const { changes, engine, pair } = this;
    if (isFolder(wanted.entry)) {
      if (isFolder(found)) return;
      if (found !== undefined) changes.removed.push(path);
      changes.newFolders.push(path);
      return;
    }
    const targetIn = ({ root }: Datadir): BytePath => engine.fs.readLink(joinPath(root, path));
    if (found?.kind === "link" && targetIn(pair.copy) === targetIn(pair.source)) return;
    if (isFolder(found)) changes.removedFolders.push(path);
    else if (found !== undefined) changes.removed.push(path);
    changes.newLinks.push(path);
  }

  private takeFile(
    path: BytePath,
    found: WalkEntry | undefined,
    wanted: InventoryEntry,
    result: ItemResult | undefined,
    isMended: boolean,
  ): void {
    const { changes } = this;
    if (wanted.action.do === "seal-wal") changes.segments.push(path);
    if (found === undefined || isMended || this.howToReplace(found, wanted) === "anew") {
      if (isFolder(found)) changes.removedFolders.push(path);
      else if (found?.kind === "link") changes.removed.push(path);
      if (found === undefined) changes.figures.newFiles++;
      this.replace(path, wanted, found);
      return;
    }
    if (this.hasSidecar(wanted.entry)) {
      this.takeRelation(path, found, wanted, result);
    } else if (result?.differs === true) {
      this.replace(path, wanted, found);
    }
  }

  private takeRelation(
    path: BytePath,
    found: WalkEntry,
    wanted: InventoryEntry,
    result: ItemResult | undefined,
  ): void {
    const { changes, engine, pair } = this;
    const { blockSizeBytes, blocksPerSegment, dataChecksumVersion } = pair.copy.control;
    const copy = engine.fs.stat(joinPath(pair.copy.root, path));
    const sidecar = engine.fs.stat(joinPath(pair.copy.root, sidecarName(path)));
    const [before, after] = [copy?.sizeBytes ?? 0, wanted.sizeBytes];
    const slots = slotCountOf(after, blockSizeBytes);
    const grown = Math.max(0, slots - slotCountOf(before, blockSizeBytes));
    const changed = result?.changed ?? [];
    const pages = grown + changed.reduce((sum, { count }) => sum + count, 0);
    // A slot says whether its page's checksum was wrong; without data checksums none is.
    const meaning = pair.source.control.dataChecksumVersion !== dataChecksumVersion;
    if (pages === 0 && before === after && !meaning) return;
    const isShared = (copy?.linkCount ?? 1) > 1 || (sidecar?.linkCount ?? 1) > 1;
    const isWornOut = BigInt(blocksPerSegment) * pair.epoch >= BigInt(MAX_MESSAGES);
    const perPage = slotsPerPage(blockSizeBytes);
    // All of it twice: the pages, each with its slot and the rest of its sidecar page, and new sidecar pages.
    const patchBytes =
      2 * (pages * (blockSizeBytes + 2 * SLOT_BYTES) + Math.ceil(grown / perPage) * blockSizeBytes);
    const wholeBytes = after + Math.ceil(slots / perPage) * blockSizeBytes;
    if (
      before === 0 ||
      after === 0 ||
      meaning ||
      isShared ||
      isWornOut ||
      patchBytes >= wholeBytes
    ) {
      changes.figures.changedPages += meaning ? slots : pages;
      this.replace(path, wanted, found);
      return;
    }
    changes.figures.changedPages += pages;
    changes.figures.patchedFiles++;
    changes.figures.bytesToWrite += patchBytes;
    changes.figures.growthBytes += Math.max(0, after - before);
    const sidecarDigest = result?.digest;
    // Without one there is a problem with the file, which ends the comparison.
    if (sidecarDigest === undefined) return;
    changes.addPatched({ path, sourceBytes: after, sealedBytes: before, sidecarDigest, changed });
  }

  private replace(path: BytePath, wanted: InventoryEntry, found: WalkEntry | undefined): void {
    const { figures, whole } = this.changes;
    const how = this.howToWrite(wanted, found);
    if (path === CONTROL_PATH) this.changes.control = true;
    else if (how === "wal") this.changes.changedSegments.add(path);
    else whole.push({ path, how });
    if (found === undefined && how === "relation") {
      figures.changedPages += slotCountOf(wanted.sizeBytes, this.pair.copy.control.blockSizeBytes);
    }
    figures.wholeFiles++;
    figures.bytesToWrite += wanted.sizeBytes;
    figures.largestFileBytes = Math.max(figures.largestFileBytes, wanted.sizeBytes);
    const before = this.engine.fs.stat(joinPath(this.pair.copy.root, path))?.sizeBytes ?? 0;
    figures.growthBytes += Math.max(0, wanted.sizeBytes - before);
  }

  private howToWrite({ entry, action, sizeBytes }: InventoryEntry, found?: WalkEntry): WholeFile {
    if (action.do === "seal-relation") return "relation";
    if (action.do === "seal-wal") return "wal";
    const isContent = found?.kind === "file" && (this.isContainer(found) || this.isSegment(found));
    if (action.do === "seal-content" || isContent) return "content";
    const isEmpty = entry.classification.class === "relation" && sizeBytes === 0;
    return isEmpty ? "empty-relation" : "readable";
  }

  private takeBackupManifest(found: WalkEntry | undefined, result: ItemResult | undefined): void {
    const { changes } = this;
    if (found === undefined) return;
    if (result?.differs === undefined) changes.backupManifest = "gone";
    else if (result.differs) changes.backupManifest = "changed";
  }
}

/** A directory, or a link that stands for one: pg_wal and tablespaces. */
function isFolder(entry: WalkEntry | undefined): boolean {
  if (entry?.kind === "directory") return true;
  return entry?.classification.class === "link" && entry.classification.followed;
}

function partOf({ tablespaceOid, databaseOid, relfilenumber }: RelationFile): ScopePart {
  return `relation:${tablespaceOid}/${databaseOid}/${relfilenumber}`;
}

/** A source that has a backup_manifest, where the copy has none yet. */
export function isNewBackupManifest(
  { fs }: EngineContext,
  { source, copy }: Pick<SyncPair, "source" | "copy">,
): boolean {
  const stat = fs.stat(joinPath(source.root, BACKUP_MANIFEST));
  return stat?.kind === "file" && !hasSealedBackupManifest(fs, copy.root);
}
