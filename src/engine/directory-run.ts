/**
 * A run that changes a data directory: its lock, its journal, and the one way in which new files take the place of
 * old ones. Order of a commit: the new files' names are synced, the journal entry is synced, the renames and
 * removals are done, the directories are synced. A crash before the entry leaves the old files and some working
 * files that nobody names; a crash after it leaves steps that recovery does again.
 */
import { type BytePath, directoryOf, joinPath } from "../bytes/byte-path.ts";
import { deriveKey, type KeyObject } from "../crypto/primitives.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  carryOut,
  type DueStep,
  Journal,
  JOURNAL_NAME,
  type JournalContent,
  type JournalHeader,
  removeJournal,
} from "../storage/journal.ts";

export class DirectoryRun {
  readonly header: JournalHeader;
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly journal: Journal;
  /** Whether the newest entry's steps are done, are to be done, or may or may not have become durable. */
  private state: "settled" | "entering" | readonly DueStep[] = "settled";

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

  /** Takes up an interrupted run: what was due is done when this returns. */
  static resume(
    fs: FileSystem,
    root: BytePath,
    keys: DataKeys,
    header: JournalHeader,
  ): { run: DirectoryRun; content: JournalContent } {
    const { journal, content } = Journal.resume(fs, root, journalKey(keys, header));
    try {
      carryOut(fs, root, content.due);
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

  /** As commit, for the last steps: after them recovery only finishes, and undoes nothing. */
  commitLast(steps: readonly DueStep[]): void {
    this.enter(steps, () => this.journal.commit(steps));
  }

  private enter(steps: readonly DueStep[], write: () => void): void {
    const created = new Set(
      steps.flatMap((step) => (step.action === "rename" ? [directoryOf(step.from)] : [])),
    );
    for (const directory of created) this.fs.syncDirectory(joinPath(this.root, directory));
    this.state = "entering";
    write();
    this.state = steps;
    carryOut(this.fs, this.root, steps);
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
      if (this.state !== "settled") carryOut(this.fs, this.root, this.state);
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
