/**
 * The places of tablespaces outside of a new directory, which a run fills and, should it not come to its end, is undone by
 * emptying. Only what this very run has put there may go: so before anything else it writes a claim there that names it,
 * durably, and a place without that claim is not emptied, whatever the journal says of it. The claim goes with the last
 * steps of the run. docs/FORMAT.md, "Claims".
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { CLAIM_NAME } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { StateError, StorageError } from "../errors.ts";
import { writeAll } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { notAsWritten } from "../storage/read-back.ts";
import type { DueStep } from "../storage/journal.ts";
import { claimContent, readClaim } from "./claim-file.ts";
import { assertEmpty, type OutputPlan, parentOf, placesIn } from "./output-directory.ts";

/** Makes the places where they are missing, and claims them; they are as they were planned, and hold nothing else. */
export function claimPlaces(fs: FileSystem, { places }: OutputPlan, runId: Buffer): void {
  // One that lies in another comes after it.
  const all = [...places.values()].sort((a, b) => a.length - b.length);
  for (const place of all) claimPlace(fs, place, runId, { others: placesIn(place, all) });
}

/**
 * Whether a place holds nothing but the claim of this run, which was interrupted, or the beginning of one, which is nobody's:
 * the run had begun to claim it.
 */
export function isClaimedAlone(fs: FileSystem, place: BytePath, runId: Buffer): boolean {
  const claim = claimOf(fs, place, runId);
  return (claim === "own" || claim === "torn") && fs.readDirectory(place).length === 1;
}

export interface ClaimOptions {
  /** A run that goes on may have claimed it. */
  readonly isResumed?: boolean;
  /** Names in it that lead to other places, which are claimed by themselves. */
  readonly others?: readonly BytePath[];
}

/** Makes one place where it is missing, and claims it. */
export function claimPlace(
  fs: FileSystem,
  place: BytePath,
  runId: Buffer,
  { isResumed = false, others = [] }: ClaimOptions = {},
): void {
  if (fs.stat(place) === undefined) fs.makeDirectory(place, 0o700);
  fs.syncDirectory(parentOf(place));
  if (!isRealDirectory(fs, place)) {
    throw new StateError(`"${displayPath(place)}" is no directory, or a link leads to it now`, {
      hint: 'It was put there while tde was at work. Run "tde recover" on the new directory, then see who did.',
    });
  }
  if (isResumed && isClaimedAlone(fs, place, runId)) fs.remove(joinPath(place, CLAIM_NAME));
  assertEmpty(fs, place, { others });
  claim(fs, place, runId);
  const isWritten = claimOf(fs, place, runId) === "own";
  // Whoever else wanted it has seen no claim, and claims it before it writes anything.
  const found = fs.readDirectory(place).filter(({ name }) => !others.includes(name));
  if (isWritten && found.length === 1) return;
  fs.remove(joinPath(place, CLAIM_NAME));
  throw isWritten ? isTaken(place) : notAsWritten(CLAIM_NAME);
}

/** The same of a run that works in place: those of its tablespaces that it has made. */
export function ownClaimRemovals(
  fs: FileSystem,
  { root, tablespaces }: Datadir,
  runId: Buffer,
): DueStep[] {
  return tablespaces
    .filter(({ path }) => claimOf(fs, joinPath(root, path), runId) === "own")
    .map(({ path }) => ({ action: "remove", path: joinPath(path, CLAIM_NAME) }));
}

/** Among the last steps of a run: the tablespaces are part of a whole directory now. */
export function claimRemovals({ places }: OutputPlan): DueStep[] {
  return [...places.keys()].map((path) => ({ action: "remove", path: joinPath(path, CLAIM_NAME) }));
}

export function isRealDirectory(fs: FileSystem, place: BytePath): boolean {
  return fs.stat(place)?.kind === "directory" && fs.realPath(place) === place;
}

export function claimOf(
  fs: FileSystem,
  place: BytePath,
  runId: Buffer,
): "own" | "other" | "torn" | "none" {
  const claim = readClaim(fs, place);
  if (claim.kind !== "whole") return claim.kind;
  return claim.runId === runId.toString("hex") ? "own" : "other";
}

function claim(fs: FileSystem, place: BytePath, runId: Buffer): void {
  const content = claimContent(runId);
  const file = createClaim(fs, place);
  try {
    writeAll(file, content, 0, content.length, 0);
    file.sync();
  } finally {
    file.close();
  }
  fs.syncDirectory(place);
}

function createClaim(fs: FileSystem, place: BytePath): ReturnType<FileSystem["create"]> {
  try {
    return fs.create(joinPath(place, CLAIM_NAME), 0o600);
  } catch (error) {
    if (error instanceof StorageError && error.errno === "EEXIST") throw isTaken(place);
    throw error;
  }
}

function isTaken(place: BytePath): StateError {
  return new StateError(`"${displayPath(place)}" was taken by another run of tde just now`, {
    hint: 'Run "tde recover" on the new directory, and choose another place.',
  });
}
