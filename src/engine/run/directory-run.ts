/**
 * A run that changes a data directory: registered in the state file before its first write, with a journal in the
 * directory, and the one way in which new files take the place of old ones, and in which files are written in place.
 *
 * Order of a run: the state file knows it; the journal is durable; then the work. At the end the state file says that all
 * is in its place; the journal goes; the state file forgets the run. A crash in between leaves a run that is open, or one
 * that has ended and whose journal is only to be removed. A journal whose run the state file does not know opens nothing.
 *
 * Order of a commit: the new files' names are synced, the journal entry is synced, the renames and removals are done, the
 * directories are synced. A crash before the entry leaves the old files and some working files that nobody names; a crash
 * after it leaves steps that recovery does again. What is written in place is in the journal before, so that a write that
 * was torn is done again.
 */
import assert from "node:assert/strict";
import { type BytePath, directoryOf, joinPath } from "../../bytes/byte-path.ts";
import { deriveKey, type KeyObject, randomBytes } from "../../crypto/primitives.ts";
import { FormatError } from "../../errors.ts";
import { deriveSaltKey } from "../../format/file-salt.ts";
import type { Manifest } from "../../format/manifest.ts";
import { type DataKeys, dekFor } from "../../keyring/data-keys.ts";
import { closeAll } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import {
  carryOut,
  type DueStep,
  type FilePatch,
  Journal,
  JOURNAL_NAME,
  type JournalContent,
  type JournalHeader,
  removeJournal,
} from "../../storage/journal.ts";
import type { DirectoryMemory, KeyContext, RunOutcome } from "../context.ts";
import { assertLinksOfRun, followedLinks, followsLinks, type KeptLinks } from "./followed-links.ts";
import { pathFromHex, pathToHex } from "./hex-path.ts";
import { applyPatches, carryOutPatches, requirePatched } from "./redo.ts";
import { assertRealFolders, pathsOf } from "./step-folders.ts";
import { type Standing, standingOf, wasBegunElsewhere } from "./standing.ts";

export interface RunOrder extends Pick<JournalHeader, "operation" | "directoryId" | "epoch"> {
  /** The manifest that the run begins with, and that is judged; undefined where there is none. */
  readonly from: Pick<Manifest, "root"> | undefined;
}

/** What an authentic journal says of a run that is open here, or has ended. */
export interface FoundRun {
  readonly content: JournalContent;
  /** Root of the manifest that the run was begun with, 64 hex digits; undefined where there was none. */
  readonly from: string | undefined;
  readonly standing: Standing;
}

/** A run that was interrupted: what was due is done, unless it has ended. */
export interface TakenUp<Plan> extends FoundRun {
  readonly run: DirectoryRun;
  /** What the run was asked to do, as it was given to `begin`. */
  readonly plan: Plan;
}

export class DirectoryRun {
  readonly header: JournalHeader;
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly memory: DirectoryMemory;
  private readonly journal: Journal;
  /** Makes salts of files that name this run, and tells them from others. */
  readonly saltKey: KeyObject;
  /** Whether the newest entry is done, is to be done (by this), or may or may not have become durable. */
  private state: "settled" | "entering" | (() => void) = "settled";

  private constructor(
    fs: FileSystem,
    root: BytePath,
    { keys, memory }: KeyContext,
    journal: Journal,
    header: JournalHeader,
  ) {
    this.fs = fs;
    this.root = root;
    this.memory = memory;
    this.saltKey = deriveSaltKey(dekOf(keys, header), header.runId);
    this.journal = journal;
    this.header = header;
  }

  /**
   * Begins a run in a directory that is locked and has no journal.
   * @param order - what is to be done to which directory; a directory that comes to be has its id from here.
   * @param plan - what it was asked to do; kept as JSON.
   * @throws {StateError} {IntegrityError} {StorageError} when it cannot be registered: nothing is written then.
   */
  static begin(
    fs: FileSystem,
    root: BytePath,
    keyContext: KeyContext,
    { from, ...order }: RunOrder,
    plan: object,
  ): DirectoryRun {
    const { keys, memory } = keyContext;
    const { keyringId, currentKeyId: keyId } = keys;
    const header: JournalHeader = { ...order, runId: randomBytes(16), keyringId, keyId };
    const place = fs.realPath(root);
    memory.beginRun({ ...order, runId: header.runId.toString("hex"), place });
    // Should this fail, the journal may be durable all the same: the run stays registered, and the next one here replaces it.
    const links = followsLinks(order.operation) ? followedLinks(fs, root) : {};
    const kept: KeptPlan = {
      place: pathToHex(place),
      ...(Object.keys(links).length === 0 ? {} : { links }),
      from: from?.root.toString("hex") ?? null,
      plan,
    };
    const key = journalKey(keys, header);
    const journal = Journal.create(fs, root, key, header, JSON.stringify(kept));
    return new DirectoryRun(fs, root, keyContext, journal, header);
  }

  /**
   * Takes up an interrupted run: what was due is done when this returns, unless the run has ended.
   * @param judge - sees what the journal says before any of it is done; what it throws leaves all as it is.
   * @throws {IntegrityError} when the journal does not authenticate, or is of no run that is open here; when pg_wal or a
   *   tablespace leads elsewhere than when the run was begun.
   */
  static resume<Plan>(
    fs: FileSystem,
    root: BytePath,
    keyContext: KeyContext,
    header: JournalHeader,
    judge: (found: FoundRun) => void = () => {},
  ): TakenUp<Plan> {
    const { keys, memory } = keyContext;
    const standing = standingOf(fs, root, memory, header);
    let kept: KeptPlan | undefined;
    const { journal, content } = Journal.resume(fs, root, journalKey(keys, header), (found) => {
      kept = planAt(fs, root, found, standing);
      judge({ content: found, from: kept.from ?? undefined, standing });
    });
    try {
      if (standing !== "ended") {
        const touched = [...pathsOf(content.due), ...content.redo.map(({ path }) => path)];
        assertRealFolders(fs, root, touched);
        carryOut(fs, root, content.due);
        carryOutPatches(fs, root, content.redo);
      }
    } catch (error) {
      journal.close();
      throw error;
    }
    const run = new DirectoryRun(fs, root, keyContext, journal, content.header);
    assert(kept !== undefined, "a journal that was judged has a plan");
    const from = kept.from ?? undefined;
    // Its MAC says that a run of this operation wrote it.
    return { run, content, plan: kept.plan as Plan, from, standing };
  }

  /** Lets new files, synced under their working names, take their places. */
  commit(steps: readonly DueStep[]): void {
    if (steps.length > 0) this.enter(steps, () => this.journal.due(steps));
  }

  /** Says, durably, that from here on the directory may be changed in ways that no entry tells. */
  mark(): void {
    this.enter([], () => this.journal.due([]));
  }

  /** As commit, for the last steps: after them recovery only finishes, and undoes nothing. */
  commitLast(steps: readonly DueStep[]): void {
    this.enter(steps, () => this.journal.commit(steps));
  }

  /**
   * Writes files in place, durably, and reads back what was written; none of them may have working files that are not in
   * place yet.
   */
  async redo(patches: readonly FilePatch[]): Promise<void> {
    assertRealFolders(
      this.fs,
      this.root,
      patches.map(({ path }) => path),
    );
    this.state = "entering";
    this.journal.redo(patches);
    this.state = () => carryOutPatches(this.fs, this.root, patches);
    const files = applyPatches(this.fs, this.root, patches);
    try {
      await this.fs.syncFiles(files);
    } finally {
      closeAll(files);
    }
    requirePatched(this.fs, this.root, patches);
    this.state = "settled";
  }

  private enter(steps: readonly DueStep[], write: () => void): void {
    const created = new Set(
      steps.flatMap((step) => (step.action === "rename" ? [directoryOf(step.from)] : [])),
    );
    assertRealFolders(this.fs, this.root, pathsOf(steps));
    for (const directory of created) this.fs.syncDirectory(joinPath(this.root, directory));
    this.state = "entering";
    write();
    this.state = () => carryOut(this.fs, this.root, steps);
    this.state();
    this.state = "settled";
  }

  /**
   * Ends the run, all of which is in its place. What it comes to is remembered before the journal goes: afterwards no
   * recovery would tell the state file what was written.
   */
  end(outcome: RunOutcome): void {
    this.journal.close();
    this.memory.endRun(this.runId, outcome);
    this.endAgain();
  }

  /** What is left to do of a run that has ended. */
  endAgain(): void {
    this.journal.close();
    removeJournal(this.fs, this.root);
    this.memory.closeRun(this.runId);
  }

  /** Leaves the run as it stands: recovery undoes it or takes it up. */
  leave(): void {
    this.journal.close();
  }

  /**
   * Leaves the run as it stands after an error, to be taken up later. Due steps are tried once more; only when they
   * are done may `cleanUp` remove what is left of other batches. Never throws: the first error matters more.
   */
  abandon(cleanUp: () => void): void {
    try {
      this.journal.close();
      // Nobody knows whether an entry that failed is durable: then both its old and its new files must stay.
      if (this.state === "entering") return;
      if (this.state !== "settled") this.state();
      cleanUp();
    } catch {
      // Recovery does both.
    }
  }

  private get runId(): string {
    return this.header.runId.toString("hex");
  }
}

export function hasJournal(fs: FileSystem, root: BytePath): boolean {
  return fs.stat(joinPath(root, JOURNAL_NAME)) !== undefined;
}

/** What the plan's record of a journal holds. */
interface KeptPlan {
  /** The directory that the run was begun in, without a link in it; in hex. */
  readonly place: string;
  /** Of the links that a run in place follows; absent where there were none. */
  readonly links?: KeptLinks | undefined;
  readonly from: string | null;
  readonly plan: unknown;
}

/** @throws {IntegrityError} when the journal is of another place, or links lead to others. */
function planAt(
  fs: FileSystem,
  root: BytePath,
  content: JournalContent,
  standing: Standing,
): KeptPlan {
  const kept: unknown = JSON.parse(content.plan);
  if (!isKeptPlan(kept)) throw new FormatError('"tde.journal" has a plan of an unknown form');
  const place = pathFromHex(kept.place);
  if (place !== fs.realPath(root)) throw wasBegunElsewhere(root, place);
  const { header, committed } = content;
  // Of a run that has ended nothing is done any more, wherever links lead.
  if (standing !== "ended" && followsLinks(header.operation))
    assertLinksOfRun(fs, root, { ...header, committed }, kept.links ?? {});
  return kept;
}

function isKeptPlan(value: unknown): value is KeptPlan {
  return (
    typeof value === "object" &&
    value !== null &&
    "place" in value &&
    "from" in value &&
    "plan" in value &&
    typeof value.place === "string" &&
    (!("links" in value) || isKeptLinks(value.links)) &&
    (value.from === null || typeof value.from === "string")
  );
}

function isKeptLinks(value: unknown): value is KeptLinks {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((target) => typeof target === "string")
  );
}

/** HKDF(DEK, run id, "tde/v1/journal", 32). */
function journalKey(keys: DataKeys, header: JournalHeader): KeyObject {
  return deriveKey(dekOf(keys, header), header.runId, Buffer.from("tde/v1/journal"));
}

function dekOf(keys: DataKeys, { keyringId, keyId }: JournalHeader): KeyObject {
  return dekFor(keys, keyringId, keyId, JOURNAL_NAME);
}
