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
    carryOut(fs, root, content.due);
    return { run: new DirectoryRun(fs, root, journal, content.header), content };
  }

  /** Lets new files, synced under their working names, take their places. */
  commit(steps: readonly DueStep[]): void {
    if (steps.length === 0) return;
    const created = new Set(
      steps.flatMap((step) => (step.action === "rename" ? [directoryOf(step.from)] : [])),
    );
    for (const directory of created) this.fs.syncDirectory(joinPath(this.root, directory));
    this.journal.due(steps);
    carryOut(this.fs, this.root, steps);
  }

  /** All files are done; what follows is finishing, and recovery only finishes. */
  markCommitted(): void {
    this.journal.commit();
  }

  /** Ends the run: nothing is left to do again. */
  end(): void {
    this.journal.close();
    removeJournal(this.fs, this.root);
  }

  /** Leaves the run as it stands, to be taken up later. */
  leave(): void {
    this.journal.close();
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
