/**
 * The file that claims the place of a tablespace for a run that makes it: what it says, and what to do about one that
 * stands in the way. docs/FORMAT.md, "Claims".
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { CLAIM_NAME } from "../datadir/classify.ts";
import { StateError } from "../errors.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { JOURNAL_NAME } from "../storage/journal.ts";
import type { DirectoryMemory } from "./context.ts";
import { RUN_NAMES } from "./run/standing.ts";

/** The run id, 32 hex digits, and a line feed. */
const CLAIM_BYTES = 33;

/** What a problem says of one beside files that are no unfinished run's any more. */
export const STRAY_CLAIM = "left by an unfinished run: it is no part of the directory, delete it";

/** @param path - of a file that stands where no other file may. */
export function isClaim(path: BytePath): boolean {
  return nameOf(path) === CLAIM_NAME;
}

export type Claim =
  | { readonly kind: "none" }
  /** Its run had not even claimed the place, so it has put nothing there. */
  | { readonly kind: "torn" }
  | { readonly kind: "whole"; readonly runId: string };

export function readClaim(fs: FileSystem, place: BytePath): Claim {
  const path = joinPath(place, CLAIM_NAME);
  if (fs.stat(path)?.kind !== "file") return { kind: "none" };
  const bytes = Buffer.alloc(CLAIM_BYTES + 1);
  const count = withFile(fs, path, (file) => readUpTo(file, bytes, 0, bytes.length, 0));
  const text = bytes.toString("latin1", 0, count);
  const runId = /^([0-9a-f]{32})\n$/.exec(text)?.[1];
  return runId === undefined ? { kind: "torn" } : { kind: "whole", runId };
}

export function claimContent(runId: Buffer): Buffer {
  return Buffer.from(`${runId.toString("hex")}\n`, "latin1");
}

/**
 * @param place - holds a file of a claim's name.
 * @param memory - tells which directory the claim is for; undefined where nobody can be asked.
 */
export function isClaimed(
  fs: FileSystem,
  place: BytePath,
  memory: Pick<DirectoryMemory, "openRun"> | undefined,
): StateError {
  const claim = readClaim(fs, place);
  const run = claim.kind === "whole" ? memory?.openRun(claim.runId) : undefined;
  const message = `"${displayPath(place)}" is not empty: an unfinished run has claimed it`;
  if (run === undefined) {
    return new StateError(message, {
      hint: `It was to be a tablespace of a new directory: run "tde recover" on that. If you deleted that directory, nothing needs this one any more: delete it, too. Or choose another place.`,
    });
  }
  const output = displayPath(run.place);
  const isThere = fs.stat(joinPath(run.place, JOURNAL_NAME)) !== undefined;
  const goOn = run.operation === "sync" ? "run that again" : 'run "tde recover" on that';
  const way = isThere
    ? goOn
    : `its journal is gone from there. If you deleted that directory, nothing needs this one any more: delete it, too`;
  return new StateError(message, {
    hint: `It was to be a tablespace of "${output}", by tde ${RUN_NAMES[run.operation]}: ${way}. Or choose another place.`,
  });
}
