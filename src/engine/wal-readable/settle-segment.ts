/**
 * Tells a stored segment from a plain one beside which a run has left a sidecar, where the first page does not tell:
 * a segment that was never written, or whose beginning is damaged. The tags do.
 */
import { openWalSegment, type WalFacts } from "../../datadir/wal-segment.ts";
import { displayPath } from "../../bytes/byte-path.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import type { FileIdentity } from "../../format/identity.ts";
import type { Problem } from "../../format/problem.ts";
import { storedSystemIdentifier } from "../../format/wal/wal-page.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import type { WalSegment } from "./wal-folder.ts";

/** half: plain, with a sidecar that does not count. */
export type SettledState = "plain" | "stored" | "half";

/**
 * @returns "stored" when all of it authenticates; "half" when nothing does.
 * @throws {IntegrityError} for what is neither. @throws {KeyError} when the keyring is another one.
 */
export function settleSegment(
  fs: FileSystem,
  facts: WalFacts,
  { state, path, files }: WalSegment,
): SettledState {
  if (state !== "unclear") return state;
  const problems: Problem[] = [];
  const { map } = openWalSegment(fs, facts, files, "tags", (problem) => problems.push(problem));
  if (problems.length === 0) return "stored";
  const key = problems.find(({ kind }) => kind === "key");
  if (key !== undefined) throw new KeyError(key.message);
  const failed = new Set(problems.map(({ block }) => block));
  const isPlain =
    map !== undefined &&
    hasTrueIdentifier(map.segment, files.identity) &&
    !failed.has(undefined) &&
    failed.size === contentBlocks(map.segment);
  if (isPlain) return "half";
  throw new IntegrityError(`"${displayPath(path)}" is neither plain nor what its sidecar says`, {
    hint: "Restore the segment together with its sidecar (_tde) from a backup.",
  });
}

/** A first page that has neither the guard nor what was there before it is damaged: its sidecar counts. */
function hasTrueIdentifier(segment: Buffer, { systemIdentifier }: FileIdentity): boolean {
  const found = storedSystemIdentifier(segment);
  return found === undefined || found === systemIdentifier;
}

const ZERO_BLOCK = Buffer.alloc(WAL_PAGE_BYTES);

function contentBlocks(segment: Buffer): number {
  let count = 0;
  for (let at = 0; at < segment.length; at += WAL_PAGE_BYTES) {
    if (!ZERO_BLOCK.equals(segment.subarray(at, at + WAL_PAGE_BYTES))) count++;
  }
  return count;
}
