/**
 * Ends what a crash left between the two renames that put a stored segment in its place: the sidecar has its name, and
 * the segment that it is of still stands under its working name. Of a segment that was sealed anew that is the only one
 * which the sidecar opens, and so it is never taken for litter without proof.
 */
import { displayPath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import { isOriginalWalSegment, openWalSegment, type WalFacts } from "../../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import type { Problem } from "../../format/problem.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { WalFolder, WalSegment } from "./wal-folder.ts";

/**
 * @returns whether there was anything to end. What is left under working names of these segments is nobody's then.
 * @throws {KeyError} {IntegrityError} where that cannot be told; nothing is changed.
 */
export function finishReplacements(fs: FileSystem, facts: WalFacts, folder: WalFolder): boolean {
  const due = folder.segments.filter((segment) => isDue(fs, facts, segment));
  if (due.length === 0) return false;
  // A run that was killed may not have come to that: the name of the sidecar must not be lost after the segment's.
  fs.syncDirectory(folder.path);
  for (const { path } of due) fs.rename(workingName(path), path);
  fs.syncDirectory(folder.path);
  return true;
}

function isDue(fs: FileSystem, facts: WalFacts, { path, files }: WalSegment): boolean {
  const segment = workingName(path);
  const exists = (at: typeof path): boolean => fs.stat(at)?.kind === "file";
  if (!exists(segment) || exists(workingName(files.sidecar)) || !exists(files.sidecar))
    return false;
  const problems: Problem[] = [];
  const report = (problem: Problem): void => void problems.push(problem);
  const opens = (one: typeof files): boolean => {
    const before = problems.length;
    openWalSegment(fs, facts, one, "tags", report);
    return problems.length === before;
  };
  const isWhole = fs.stat(segment)?.sizeBytes === files.identity.relationSegment;
  if (isWhole && opens({ ...files, segment })) return true;
  // It was not written to its end, or holds the original: then the one in place is what the sidecar is of.
  if (opens(files) || isOriginalWalSegment(fs, facts, files, report)) return false;
  const key = problems.find(({ kind }) => kind === "key");
  if (key !== undefined) throw new KeyError(key.message);
  throw new IntegrityError(
    `neither "${displayPath(path)}" nor "${displayPath(segment)}", which was to replace it, opens with its sidecar`,
    {
      hint: "Keep all three files. Restore the segment together with its sidecar (_tde) from a backup.",
    },
  );
}
