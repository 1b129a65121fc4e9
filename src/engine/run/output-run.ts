/**
 * What becomes of a new directory whose run was interrupted: it is emptied, since its source has all of it, unless the
 * journal's last entry is durable. Emptying is for a directory alone that the state file says is still being filled, at
 * this very place: what a finished run has made is never emptied, whatever journal is put into it.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { openDatadir } from "../../datadir/datadir.ts";
import { IntegrityError, StateError } from "../../errors.ts";
import type { Manifest } from "../../format/manifest.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import {
  JOURNAL_NAME,
  type JournalOperation,
  readJournalHeader,
  removeUnbornJournal,
} from "../../storage/journal.ts";
import type { EngineContext, KeyContext, RunOutcome } from "../context.ts";
import { manifestIsMissing, openManifestOfRun, seenAsManifest } from "../open-manifest.ts";
import type { OutputPlan } from "../output-directory.ts";
import { assertAllThere } from "../structure-check.ts";
import { assertNotWhole, assertOutputAsEnded } from "./as-ended.ts";
import { hasLitter, isLockName, lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { DirectoryRun, type FoundRun } from "./directory-run.ts";
import { emptyOutput } from "./empty-output.ts";
import { pathFromHex, pathToHex } from "./hex-path.ts";

/**
 * What became of it. Filled by a run that had done all its work: `output-finished`, encrypted, and what its manifest names is
 * there; `output-altered`, encrypted, and it is not; `output-unproved`, decrypted, and nothing is left that would tell.
 * Not filled: `output-emptied`; `output-place-left`, but the place of a tablespace is left as it is; `output-ended`, that had been
 * done before, and only the journal was left.
 */
export type OutputOutcome =
  | "nothing-to-do"
  | "output-finished"
  | "output-altered"
  | "output-unproved"
  | "output-emptied"
  | "output-place-left"
  | "output-ended";

const FILLED: readonly OutputOutcome[] = ["output-finished", "output-altered", "output-unproved"];

/** What the journal keeps: where tablespaces went, without a link in it, in hex. */
interface KeptOutput {
  readonly tablespaces: readonly string[];
}

export function keptOutput({ places }: OutputPlan): KeptOutput {
  return { tablespaces: [...places.values()].map(pathToHex) };
}

/**
 * Before a run fills `output` anew: ends what an interrupted run of the same kind left there, one way or the other.
 * @param from - the manifest that the new run is to begin with; undefined where there is none, or where it does not matter.
 * @returns whether it is filled, by the earlier run.
 * @throws {StateError} when that run is undone, and not all of what it wrote is known to be gone; when it has filled the
 *   directory from something else than `from`, and then nothing is changed.
 */
export function endOutputBefore(
  engine: EngineContext,
  keyContext: KeyContext,
  output: BytePath,
  operation: JournalOperation,
  from?: Manifest,
): boolean {
  const { fs } = engine;
  if (!hasLitter(fs, output)) return false;
  unfinishedRun(fs, output, operation, keyContext.memory);
  const lock = lockDatadir(fs, output, engine.command);
  try {
    const outcome = endOutput(engine, keyContext, output, from);
    if (outcome === "output-place-left") throw isNotAllGone(output);
    return FILLED.includes(outcome);
  } finally {
    lock.release();
  }
}

/**
 * @param output - locked.
 * @param from - as of endOutputBefore.
 * @throws {IntegrityError} for a journal that is of no run that is open here, or does not fit what is there. @throws {StateError} when nothing tells
 *   whether it is, whatever the user accepts: nothing is emptied then.
 */
export function endOutput(
  engine: EngineContext,
  keyContext: KeyContext,
  output: BytePath,
  from?: Manifest,
): OutputOutcome {
  const { fs } = engine;
  const header = readJournalHeader(fs, output);
  if (header === undefined) {
    removeUnbornJournal(fs, output);
    return "nothing-to-do";
  }
  const judge = (found: FoundRun): void => {
    const { content, standing } = found;
    if (from !== undefined && content.committed && !isFrom(found, from)) throw isOfAnother(output);
    if (standing === "doubted" && !content.committed) throw cannotBeEmptied(output);
    if (standing === "ended") assertOutputAsEnded(fs, keyContext, output, content.header);
    else if (!content.committed) assertNotWhole(fs, output, content.header);
  };
  const resumed = DirectoryRun.resume<KeptOutput>(fs, output, keyContext, header, judge);
  const { run, content, plan, standing } = resumed;
  try {
    if (standing === "ended") {
      const outcome = isBare(fs, output)
        ? "output-ended"
        : filledAs(engine, keyContext, output, run);
      run.endAgain();
      return outcome;
    }
    if (content.committed) {
      const outcome = filledAs(engine, keyContext, output, run);
      run.end(outcomeOf(fs, keyContext, output, run));
      return outcome;
    }
    const { runId } = run.header;
    const left = emptyOutput(engine, output, plan.tablespaces.map(pathFromHex), runId);
    run.end({ kind: "nothing" });
    return left.length === 0 ? "output-emptied" : "output-place-left";
  } finally {
    run.leave();
  }
}

/** Whether nothing is there but what is of the run itself. */
function isBare(fs: FileSystem, output: BytePath): boolean {
  return fs.readDirectory(output).every(({ name }) => name === JOURNAL_NAME || isLockName(name));
}

/** What can be said of a directory that was filled, and that anybody may have written to since. */
function filledAs(
  { fs, notice }: EngineContext,
  { keys }: KeyContext,
  output: BytePath,
  { header }: DirectoryRun,
): OutputOutcome {
  if (header.operation !== "encryptOutput") return "output-unproved";
  const manifest = openManifestOfRun(fs, output, keys, header);
  if (manifest === undefined) throw manifestIsMissing(output);
  try {
    assertAllThere(fs, openDatadir(fs, output), manifest);
    return "output-finished";
  } catch (error) {
    if (!(error instanceof IntegrityError || error instanceof StateError)) throw error;
    notice(error.message);
    return "output-altered";
  }
}

function isFrom({ content, from }: FoundRun, manifest: Manifest): boolean {
  const { directoryId, epoch } = content.header;
  return (
    directoryId === manifest.header.directoryId &&
    epoch === manifest.header.epoch &&
    from === manifest.root.toString("hex")
  );
}

function isOfAnother(output: BytePath): StateError {
  return new StateError(
    `"${displayPath(output)}" was filled by an earlier run from another directory, or from another state of this one`,
    {
      hint: 'Nothing was changed. Choose another place. "tde recover" on this one ends the earlier run.',
    },
  );
}

function isNotAllGone(output: BytePath): StateError {
  return new StateError(
    `the unfinished run into "${displayPath(output)}" is undone, but the place of a tablespace is left as it is`,
    {
      hint: "What that run wrote may still be there. See what it holds, delete what is worth nothing, and run the same command again.",
    },
  );
}

function outcomeOf(
  fs: FileSystem,
  { keys }: KeyContext,
  output: BytePath,
  { header }: DirectoryRun,
): RunOutcome {
  if (header.operation !== "encryptOutput") return { kind: "nothing" };
  const manifest = openManifestOfRun(fs, output, keys, header);
  if (manifest === undefined) throw manifestIsMissing(output);
  return { kind: "seen", seen: seenAsManifest(openDatadir(fs, output), manifest) };
}

function cannotBeEmptied(output: BytePath): StateError {
  return new StateError(
    `"${displayPath(output)}" is not emptied: without the state file nothing tells whether it is unfinished`,
    {
      hint: "What an unfinished run has written there its source holds, too. If you are sure that it is unfinished, delete it and its tablespaces yourself.",
    },
  );
}
