/**
 * What becomes of a new directory whose run was interrupted: it is emptied, since its source has all of it, unless the
 * journal's last entry is durable. Emptying is for a directory alone that the state file says is still being filled, at
 * this very place: what a finished run has made is never emptied, whatever journal is put into it.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { openDatadir } from "../../datadir/datadir.ts";
import { StateError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import {
  type JournalOperation,
  readJournalHeader,
  removeUnbornJournal,
} from "../../storage/journal.ts";
import type { EngineContext, KeyContext, RunOutcome } from "../context.ts";
import { manifestIsMissing, openManifestOfRun, seenAsManifest } from "../open-manifest.ts";
import type { OutputPlan } from "../output-directory.ts";
import { assertNotWhole, assertOutputAsEnded } from "./as-ended.ts";
import { hasLitter, lockDatadir, unfinishedRun } from "./datadir-lock.ts";
import { DirectoryRun, type FoundRun } from "./directory-run.ts";
import { emptyOutput } from "./empty-output.ts";
import { pathFromHex, pathToHex } from "./hex-path.ts";

/** output-ended: the run had come to its end, and nothing was left of it but its journal. */
export type OutputOutcome = "nothing-to-do" | "output-finished" | "output-emptied" | "output-ended";

/** What the journal keeps: where tablespaces went, without a link in it, in hex. */
interface KeptOutput {
  readonly tablespaces: readonly string[];
}

export function keptOutput({ places }: OutputPlan): KeptOutput {
  return { tablespaces: [...places.values()].map(pathToHex) };
}

/** Before a run fills `output` anew: ends what an interrupted run of the same kind left there, one way or the other. */
export function endOutputBefore(
  engine: EngineContext,
  keyContext: KeyContext,
  output: BytePath,
  operation: JournalOperation,
): OutputOutcome {
  const { fs } = engine;
  if (!hasLitter(fs, output)) return "nothing-to-do";
  unfinishedRun(fs, output, operation, keyContext.memory);
  const lock = lockDatadir(fs, output, engine.command);
  try {
    return endOutput(engine, keyContext, output);
  } finally {
    lock.release();
  }
}

/**
 * @param output - locked.
 * @throws {IntegrityError} for a journal that is of no run that is open here, or does not fit what is there. @throws {StateError} when nothing tells
 *   whether it is, whatever the user accepts: nothing is emptied then.
 */
export function endOutput(
  engine: EngineContext,
  keyContext: KeyContext,
  output: BytePath,
): OutputOutcome {
  const { fs } = engine;
  const header = readJournalHeader(fs, output);
  if (header === undefined) {
    removeUnbornJournal(fs, output);
    return "nothing-to-do";
  }
  const judge = ({ content, standing }: FoundRun): void => {
    if (standing === "doubted" && !content.committed) throw cannotBeEmptied(output);
    if (standing === "ended") assertOutputAsEnded(fs, keyContext, output, content.header);
    else if (!content.committed) assertNotWhole(fs, output, content.header);
  };
  const resumed = DirectoryRun.resume<KeptOutput>(fs, output, keyContext, header, judge);
  const { run, content, plan, standing } = resumed;
  try {
    if (standing === "ended") {
      run.endAgain();
      return "output-ended";
    }
    if (content.committed) {
      run.end(outcomeOf(fs, keyContext, output, run));
      return "output-finished";
    }
    emptyOutput(engine, output, plan.tablespaces.map(pathFromHex), run.header.runId);
    run.end({ kind: "nothing" });
    return "output-emptied";
  } finally {
    run.leave();
  }
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
