/**
 * `tde wal verify`: whether an archive would restore. Every file is opened to its last tag, every record of the segments
 * is read, and what is missing between segments and timelines is named. That the newest segments are missing nobody can
 * tell from the archive alone, so the report says where each timeline ends.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { archiveFolder, requireArchive } from "./archive-folder.ts";
import { readIdentity } from "./archive-identity.ts";
import { ArchiveFiles, listArchive } from "./archive-files.ts";
import type { ArchiveReport } from "./archive-report.ts";
import { RecordChain } from "./record-chain.ts";
import { reportOf, segmentNamed, type Timeline, TimelineCheck, timelinesOf } from "./timelines.ts";

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

/** @throws {StateError} when there is no archive. @throws {KeyError} {IntegrityError} for the archive's identity. */
export async function verifyArchive(
  { fs, keys, signal }: VerifyArchiveContext,
  { archive, allowPlain }: VerifyArchiveRequest,
): Promise<VerifiedArchive> {
  requireArchive(fs, archive);
  const identity = readIdentity(fs, archive, keys);
  const systemIdentifier = identity?.systemIdentifier;
  const { names, others } = listArchive(fs, archive, archiveFolder(archive));
  const files = new ArchiveFiles(fs, archive, { keys, allowPlain, systemIdentifier });
  const chain = new RecordChain();
  let segmentBytes = 0;
  let previous = "";
  for (const name of names.segment) {
    signal?.throwIfAborted();
    const segment = await files.readSegment(name);
    if (segment === undefined) {
      chain.breakOff();
      continue;
    }
    if (segmentBytes !== 0 && segmentBytes !== segment.head.segmentBytes) {
      files.problem(
        "tag",
        name,
        `it has ${segment.head.segmentBytes} bytes, others ${segmentBytes}`,
      );
      chain.breakOff();
      continue;
    }
    ({ segmentBytes } = segment.head);
    const place = segmentNamed(name, segmentBytes);
    if (!follows(previous, name, segmentBytes)) chain.breakOff();
    const problem = chain.follow(segment, place);
    if (problem !== undefined) files.problem("chain", name, problem);
    previous = name;
  }
  const timelines = segmentBytes === 0 ? [] : timelinesOf(names.segment, segmentBytes);
  await checkOthers(files, names, timelines, segmentBytes, signal);
  const { problems, plain, bytes } = files;
  return {
    ok: problems.length === 0,
    archiveId: identity?.archiveId,
    systemIdentifier: files.systemIdentifier,
    timelines: timelines.map((timeline) => reportOf(timeline, segmentBytes)),
    files: {
      segments: names.segment.length,
      partial: names.partial.length,
      histories: names.history.length,
      backups: names.backup.length,
      plain,
      others,
    },
    records: chain.records,
    bytes,
    keys: files.keys,
    problems,
  };
}

async function checkOthers(
  files: ArchiveFiles,
  names: ReturnType<typeof listArchive>["names"],
  timelines: readonly Timeline[],
  segmentBytes: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const name of names.partial) {
    signal?.throwIfAborted();
    await files.readSegment(name);
  }
  for (const name of names.backup) await files.read(name);
  const check = new TimelineCheck(files, timelines, segmentBytes === 0 ? 1 : segmentBytes);
  for (const name of names.history) {
    const content = await files.read(name);
    if (content !== undefined) check.addHistory(name, content);
  }
  check.check(new Set(names.history));
}

/** Whether a segment is the next one of the same timeline. */
function follows(previous: string, name: BytePath, segmentBytes: number): boolean {
  if (previous === "") return false;
  const before = segmentNamed(previous as BytePath, segmentBytes);
  const now = segmentNamed(name, segmentBytes);
  const distance = (now.high - before.high) * 2 ** 32 + now.low - before.low;
  return now.timeline === before.timeline && distance === segmentBytes;
}
