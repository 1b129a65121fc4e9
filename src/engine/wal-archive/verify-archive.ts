/**
 * `tde wal verify`: whether an archive would restore. Every file is opened to its last tag, every record of the segments
 * is read, and what is missing between segments and timelines is named. That the newest segments are missing nobody can
 * tell from the archive alone, so the report says where each timeline ends.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { StateError } from "../../errors.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { archiveFolder, requireArchive } from "./archive-folder.ts";
import { readIdentity } from "./archive-identity.ts";
import { crossingDefect } from "../wal-readable/crossing-record.ts";
import { ArchiveFiles, isCopyOfPgWal, listArchive, type ListedArchive } from "./archive-files.ts";
import type { ArchiveReport, TimelineReport } from "./archive-report.ts";
import { SegmentCheck } from "./segment-check.ts";
import { reportOf, type Timeline, TimelineCheck, timelinesOf } from "./timelines.ts";

export interface VerifyArchiveRequest {
  readonly archive: BytePath;
  /** Files that are not encrypted are no problem. */
  readonly allowPlain: boolean;
}

export interface VerifyArchiveContext {
  readonly fs: FileSystem;
  readonly keys: DataKeys;
  readonly signal: AbortSignal | undefined;
}

export interface VerifiedArchive extends ArchiveReport {
  /** 32 hex digits; undefined where the archive has none. */
  readonly archiveId: string | undefined;
}

/** @throws {StateError} when there is no archive, or nothing in it. @throws {KeyError} {IntegrityError} for the archive's identity. */
export async function verifyArchive(
  { fs, keys, signal }: VerifyArchiveContext,
  { archive, allowPlain }: VerifyArchiveRequest,
): Promise<VerifiedArchive> {
  requireArchive(fs, archive);
  const identity = readIdentity(fs, archive, keys);
  const systemIdentifier = identity?.systemIdentifier;
  const { names, lost, others } = listArchive(fs, archive, archiveFolder(archive));
  requireSome(archive, names);
  const isCopy = systemIdentifier === undefined && isCopyOfPgWal(fs, archive, { names });
  const options = { keys, allowPlain, systemIdentifier, isCopyOfPgWal: isCopy };
  const opener = (): ArchiveFiles => new ArchiveFiles(fs, archive, options);
  const files = opener();
  const segments = new SegmentCheck(files, opener);
  await segments.check([...names.segment, ...names.partial].sort(), signal);
  for (const name of lost) {
    files.problem("gap", name, "it is missing, and its sidecar is there");
  }
  checkCrossings(fs, files);
  const { segmentBytes } = segments;
  const used = (list: readonly BytePath[]): readonly Timeline[] =>
    segmentBytes === 0
      ? []
      : timelinesOf(
          list.filter((name) => !segments.spare.has(name)),
          segmentBytes,
        );
  const all = used([...names.segment, ...names.partial].sort());
  const timelines = await checkOthers(files, names, all, segmentBytes);
  await segments.checkJoins((segment) => timelines.parentsIn(segment));
  const { problems, plain, spare, bytes } = files;
  return {
    ok: problems.length === 0,
    archiveId: identity?.archiveId,
    systemIdentifier: files.systemIdentifier,
    timelines: reportsOf({ all, whole: used(names.segment) }, segments),
    files: {
      segments: names.segment.length,
      partial: names.partial.length,
      histories: names.history.length,
      backups: names.backup.length,
      plain,
      spare,
      others,
    },
    records: segments.records,
    bytes,
    keys: files.keys,
    problems,
  };
}

/** A timeline of which there is nothing but a partial segment has 0 segments. */
function reportsOf(
  timelines: { readonly all: readonly Timeline[]; readonly whole: readonly Timeline[] },
  { segmentBytes, ends }: SegmentCheck,
): TimelineReport[] {
  const whole = new Map(timelines.whole.map((each) => [each.timeline, each]));
  return timelines.all.map((each) => {
    const { timeline } = each;
    const report = reportOf(whole.get(timeline) ?? each, segmentBytes, ends.get(timeline));
    if (whole.has(timeline)) return report;
    const { first, last } = report;
    return { ...report, first: `${first}.partial`, last: `${last}.partial`, segments: 0 };
  });
}

/** Of nothing nothing is verified: a mount that is missing must not pass for an archive that is whole. */
function requireSome(archive: BytePath, { segment, partial }: ListedArchive["names"]): void {
  if (segment.length + partial.length > 0) return;
  throw new StateError(`"${displayPath(archive)}" holds no segment of WAL`, {
    hint: "See that the directory is mounted, and that segments are archived.",
  });
}

/** The stored CRCs of records that cross from one segment in readable mode into the next. */
function checkCrossings(fs: FileSystem, files: ArchiveFiles): void {
  const segments = files.stored.map((each) => ({
    files: each,
    place: each.place,
    number: each.identity.relfilenumber,
  }));
  for (const segment of segments) {
    const { path } = segment.files;
    const defect = files.look(path, () => crossingDefect(fs, segments, segment, () => true));
    if (defect !== undefined) files.problem("tag", path, defect);
  }
}

async function checkOthers(
  files: ArchiveFiles,
  names: ReturnType<typeof listArchive>["names"],
  timelines: readonly Timeline[],
  segmentBytes: number,
): Promise<TimelineCheck> {
  for (const name of names.backup) await files.read(name);
  const check = new TimelineCheck(files, timelines, segmentBytes === 0 ? 1 : segmentBytes);
  for (const name of names.history) {
    const content = await files.read(name);
    if (content !== undefined) check.addHistory(name, content);
  }
  check.check(new Set(names.history));
  return check;
}
