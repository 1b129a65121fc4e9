/**
 * The records of pg_wal that cross from one segment in readable mode into the next: their stored CRCs, which no
 * worker can check that has one segment at a time.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { Problem } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { segmentsOf } from "./seal-wal.ts";
import { crossingDefect } from "./wal-readable/crossing-record.ts";

/** @param paths - of stored segments that have no problem of their own. */
export function* crossingProblems(
  fs: FileSystem,
  datadir: Datadir,
  paths: readonly BytePath[],
): Generator<Problem> {
  const segments = segmentsOf(datadir, paths).map((each) => ({ ...each, files: each.stored }));
  for (const segment of segments) {
    const defect = crossingDefect(fs, segments, segment, () => true);
    if (defect === undefined) continue;
    const message = `the record that goes on in the next segment: ${defect}`;
    yield { kind: "checksum", path: displayPath(segment.path), message };
  }
}
