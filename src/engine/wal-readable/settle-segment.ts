/**
 * Tells a stored segment from a plain one beside which a run has left a sidecar, where the first page lacks the guard:
 * a plain segment, one that was never written, or one whose beginning is damaged. A sidecar is removed or replaced only
 * where tags prove that nothing is lost with it.
 */
import { isOriginalWalSegment, openWalSegment, type WalFacts } from "../../datadir/wal-segment.ts";
import { displayPath } from "../../bytes/byte-path.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import type { Problem } from "../../format/problem.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { WalSegment } from "./wal-folder.ts";

/** half: plain, beside the sidecar that was made for it or that its stored form had. */
export type SettledState = "plain" | "stored" | "half";

/**
 * @returns "stored" when all of it authenticates; "half" when it is, bit for bit, what the sidecar was made for.
 * @throws {IntegrityError} for what is neither. @throws {KeyError} when the keyring is another one.
 */
export function settleSegment(
  fs: FileSystem,
  facts: WalFacts,
  { state, path, files }: WalSegment,
): SettledState {
  if (state !== "unclear") return state;
  const problems: Problem[] = [];
  const report = (problem: Problem): void => void problems.push(problem);
  openWalSegment(fs, facts, files, "tags", report);
  if (problems.length === 0) return "stored";
  if (isOriginalWalSegment(fs, facts, files, report)) return "half";
  const key = problems.find(({ kind }) => kind === "key");
  if (key !== undefined) throw new KeyError(key.message);
  const why = problems[0] === undefined ? "" : `: ${problems[0].message}`;
  throw new IntegrityError(
    `"${displayPath(path)}" is neither plain nor what its sidecar says${why}`,
    {
      hint: "Restore the segment together with its sidecar (_tde) from a backup. Of a plain segment that a server wrote to after it was decrypted, move the sidecar away.",
    },
  );
}
