/**
 * A run that changes a data directory: its lock, its journal, and the one way in which new files take the place of
 * old ones, and in which files are written in place. Order of a commit: the new files' names are synced, the journal entry is synced, the renames and
 * removals are done, the directories are synced. A crash before the entry leaves the old files and some working
 * files that nobody names; a crash after it leaves steps that recovery does again. What is written in place is in the
 * journal before, so that a write that was torn is done again.
 */
import { type BytePath, directoryOf, joinPath } from "../bytes/byte-path.ts";
import { deriveKey, type KeyObject } from "../crypto/primitives.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { closeAll } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  carryOut,
  type DueStep,
  type FilePatch,
  Journal,
  JOURNAL_NAME,
  type JournalContent,
  type JournalHeader,
  removeJournal,
} from "../storage/journal.ts";
import { applyPatches, carryOutPatches, requirePatched } from "./redo.ts";

export class DirectoryRun {
  readonly header: JournalHeader;
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly journal: Journal;
  /** Whether the newest entry is done, is to be done (by this), or may or may not have become durable. */
  private state: "settled" | "entering" | (() => void) = "settled";

  private constructor(fs: FileSystem, root: BytePath, journal: Journal, header: JournalHeader) {
    this.fs = fs;
    this.root = root;
    this.journal = journal;
    this.header = header;
  }

  static begin(
    fs: FileSystem,
    root: BytePath,
    keys: DataKeys,
    header: JournalHeader,
    plan: object,
  ): DirectoryRun {
    const journal = Journal.create(
      fs,
      root,
      journalKey(keys, header),
      header,
      JSON.stringify(plan),
    );
    return new DirectoryRun(fs, root, journal, header);
  }

  /**
   * Takes up an interrupted run: what was due is done when this returns.
   * @param judge - sees what the journal says before any of it is done; what it throws leaves all as it is.
   */
  static resume(
    fs: FileSystem,
    root: BytePath,
    keys: DataKeys,
    header: JournalHeader,
    judge: (content: JournalContent) => void = () => {},
  ): { run: DirectoryRun; content: JournalContent } {
    const { journal, content } = Journal.resume(fs, root, journalKey(keys, header));
    try {
      judge(content);
      carryOut(fs, root, content.due);
      carryOutPatches(fs, root, content.redo);
    } catch (error) {
      journal.close();
      throw error;
    }
    return { run: new DirectoryRun(fs, root, journal, content.header), content };
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

  /** Writes files in place, durably, and reads back what was written; none of them may have working files that are not in place yet. */
  async redo(patches: readonly FilePatch[]): Promise<void> {
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
    for (const directory of created) this.fs.syncDirectory(joinPath(this.root, directory));
    this.state = "entering";
    write();
    this.state = () => carryOut(this.fs, this.root, steps);
    this.state();
    this.state = "settled";
  }

  /** Ends the run: nothing is left to do again. */
  end(): void {
    this.journal.close();
    removeJournal(this.fs, this.root);
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
}

export function hasJournal(fs: FileSystem, root: BytePath): boolean {
  return fs.stat(joinPath(root, JOURNAL_NAME)) !== undefined;
}

/** HKDF(DEK, run id, "tde/v1/journal", 32). */
function journalKey(keys: DataKeys, header: JournalHeader): KeyObject {
  const dek = dekFor(keys, header.keyringId, header.keyId, "tde.journal");
  return deriveKey(dek, header.runId, Buffer.from("tde/v1/journal"));
}
