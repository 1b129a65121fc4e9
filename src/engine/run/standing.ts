/**
 * Whether a journal may be acted on. A journal says which files are done and what is to be renamed, removed or written
 * over; its MAC says only that a keyholder's run wrote it once. So it counts while the state file says that this very run
 * is open, at this place. Anybody who can write to the directory could have kept a copy of an older one.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { IntegrityError, StateError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { JOURNAL_NAME, type JournalHeader, type JournalOperation } from "../../storage/journal.ts";
import type { DirectoryMemory } from "../context.ts";

/** The command that a run is of, without its "tde". */
export const RUN_NAMES: Readonly<Record<JournalOperation, string>> = {
  encrypt: "encrypt-datadir",
  decrypt: "decrypt-datadir",
  encryptOutput: "encrypt-datadir --output",
  decryptOutput: "decrypt-datadir --output",
  rotate: "rotate",
  sync: "sync",
};

/**
 * open: it is to be taken up. ended: all of it is in its place, and only the journal is left to be removed. doubted: the
 * state file cannot tell, and the user wants it taken up all the same.
 */
export type Standing = "open" | "ended" | "doubted";

/**
 * @param header - of the journal in `root`, unproved: whoever takes the run up checks its MAC.
 * @throws {IntegrityError} for a journal of a run that is over, unknown, of another place, or not as it was registered;
 *   also for a state file that cannot be believed. @throws {StateError} when there is none.
 */
export function standingOf(
  fs: FileSystem,
  root: BytePath,
  memory: DirectoryMemory,
  header: JournalHeader,
): Standing {
  const doubt = memory.doubt();
  if (doubt !== undefined) {
    if (memory.isDoubtAccepted) return "doubted";
    const message = `nothing tells whether the unfinished run of tde ${RUN_NAMES[header.operation]} in "${displayPath(root)}" is open: ${doubt.message}`;
    const hint =
      "Give the state file that the run was begun with (--state, if it is not beside the keyring). " +
      "--without-state takes the run up all the same; a journal that somebody kept and put back cannot be told from it then.";
    throw doubt.kind === "unusable"
      ? new IntegrityError(message, { hint })
      : new StateError(message, { hint });
  }
  const run = memory.openRun(header.runId.toString("hex"));
  if (run === undefined) throw isOfNoOpenRun(root, memory, header);
  const place = fs.realPath(root);
  if (run.place !== place) throw wasBegunElsewhere(root, run.place);
  if (
    run.directoryId !== header.directoryId ||
    run.operation !== header.operation ||
    run.epoch !== header.epoch
  ) {
    throw new IntegrityError(
      `"${JOURNAL_NAME}" in "${displayPath(root)}" was altered: its run was registered otherwise`,
      { hint: "Nothing was changed. Restore the journal, or the directory as a whole." },
    );
  }
  return run.ended ? "ended" : "open";
}

/** @param begun - where the run's journal belongs. */
export function wasBegunElsewhere(root: BytePath, begun: BytePath): IntegrityError {
  return new IntegrityError(
    `"${displayPath(root)}" was moved or copied while it was unfinished: its run was begun in "${displayPath(begun)}"`,
    {
      hint: "Nothing was changed. Move the directory back to where it was, or delete it if it is a copy.",
    },
  );
}

/** Nobody can take up a run whose journal is gone; but it may only be away. */
export function journalIsMissing(root: BytePath, operation: JournalOperation): StateError {
  return new StateError(
    `a run of tde ${RUN_NAMES[operation]} is open in "${displayPath(root)}", and its journal is missing`,
    {
      hint: `Nothing was changed. Put "${JOURNAL_NAME}" back if it was moved away; else restore the directory from a backup. If "tde verify" says that all is well, the run had never begun: the next command replaces it.`,
    },
  );
}

function isOfNoOpenRun(
  root: BytePath,
  memory: DirectoryMemory,
  { directoryId, epoch }: JournalHeader,
): IntegrityError {
  const { lastEpoch } = memory.judge(directoryId, epoch, "");
  const why =
    lastEpoch >= epoch && lastEpoch > 0n
      ? "that run had come to its end"
      : "the state file knows no such run";
  return new IntegrityError(
    `"${JOURNAL_NAME}" in "${displayPath(root)}" is of no run that is open: ${why}`,
    {
      hint: 'Nothing was changed. The state file may be older than the run: bring the newer one back, or name it with --state. Else somebody put this journal there, or put back an older copy of the directory: then move the journal away, and believe only what "tde verify" says.',
    },
  );
}
