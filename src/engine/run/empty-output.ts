/**
 * Empties a new directory whose run did not come to its end, but for its journal and lock. Until the journal goes, emptying
 * can be taken up again. Of the places of its tablespaces only those are emptied that this run has claimed.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { AUTO_CONF, CLAIM_NAME, OWN_FILES } from "../../datadir/classify.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { JOURNAL_NAME } from "../../storage/journal.ts";
import type { EngineContext } from "../context.ts";
import { emptyDirectory, placesIn } from "../output-directory.ts";
import { claimOf, isRealDirectory } from "../place-claims.ts";

/**
 * @param places - of tablespaces, absolute, as the run has planned them without a link in them.
 * @returns those that are left as they are: what the run has written there may still be in them.
 */
export function emptyOutput(
  { fs, notice }: Pick<EngineContext, "fs" | "notice">,
  output: BytePath,
  places: readonly BytePath[],
  runId: Buffer,
): BytePath[] {
  const tablespaceRoot = joinPath(output, "pg_tblspc");
  if (fs.stat(tablespaceRoot)?.kind === "directory") {
    for (const { name, kind } of fs.readDirectory(tablespaceRoot)) {
      if (kind === "link") fs.remove(joinPath(tablespaceRoot, name));
    }
  }
  const left = places.filter((place) => !emptyPlace(fs, place, placesIn(place, places), runId));
  for (const place of left)
    notice(`"${displayPath(place)}" is left as it is: it has no claim of the run that is undone`);
  emptyDirectory(fs, output, [JOURNAL_NAME, OWN_FILES.lock, AUTO_CONF]);
  fs.syncDirectory(output);
  // The guard goes when there is nothing left that a server could start on.
  fs.remove(joinPath(output, AUTO_CONF));
  fs.syncDirectory(output);
  return left;
}

/**
 * @param others - names in it that lead to other places of the run, which are emptied by themselves.
 * @returns whether nothing of this run is in it.
 */
function emptyPlace(
  fs: FileSystem,
  place: BytePath,
  others: readonly BytePath[],
  runId: Buffer,
): boolean {
  if (fs.stat(place) === undefined) return true;
  if (!isRealDirectory(fs, place)) return false;
  const claim = claimOf(fs, place, runId);
  const count = fs.readDirectory(place).filter(({ name }) => !others.includes(name)).length;
  if (claim === "none") return count === 0;
  if (claim === "other" || (claim === "torn" && count > 1)) return false;
  emptyDirectory(fs, place, [CLAIM_NAME, ...others]);
  fs.syncDirectory(place);
  fs.remove(joinPath(place, CLAIM_NAME));
  fs.syncDirectory(place);
  return true;
}
