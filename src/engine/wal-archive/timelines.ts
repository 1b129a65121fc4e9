/**
 * Whether the segments of an archive are complete: no gap in a timeline, and each timeline begins where its history
 * says that it left its parent. What pg_archivecleanup or a retention rule took away at the beginning is no gap.
 */
import { type BytePath } from "../../bytes/byte-path.ts";
import { parseTimelineHistory, type TimelineSwitch } from "../../wal/timeline-history.ts";
import { parseWalFileName, type SegmentName, walFileName } from "../../wal/wal-file-name.ts";
import { FormatError } from "../../errors.ts";
import type { ArchiveFiles } from "./archive-files.ts";
import type { TimelineReport } from "./archive-report.ts";

/** The segments of one timeline by their numbers: LSN / segment size, rising. */
export interface Timeline {
  readonly timeline: number;
  readonly numbers: readonly number[];
}

/** @param names - sorted. */
export function timelinesOf(names: readonly BytePath[], segmentBytes: number): Timeline[] {
  const numbers = new Map<number, number[]>();
  for (const name of names) {
    const { timeline, high, low } = segmentNamed(name, segmentBytes);
    const list = numbers.get(timeline) ?? [];
    const number = (high * 2 ** 32 + low) / segmentBytes;
    // `.partial` stands behind the whole one.
    if (list.at(-1) !== number) list.push(number);
    numbers.set(timeline, list);
  }
  return [...numbers]
    .sort(([a], [b]) => a - b)
    .map(([timeline, list]) => ({ timeline, numbers: list.sort((a, b) => a - b) }));
}

/** The place of a segment whose name `archivedKind` has accepted. */
export function segmentNamed(
  name: BytePath,
  segmentBytes: number,
): NonNullable<ReturnType<typeof parseWalFileName>> {
  const named = parseWalFileName(name, segmentBytes);
  if (named === undefined) throw new Error("an archived segment's name was accepted");
  return named;
}

export function reportOf(
  { timeline, numbers }: Timeline,
  segmentBytes: number,
  recordsTo: string | undefined,
): TimelineReport {
  const name = (number: number | undefined): string =>
    nameOfNumber(timeline, number ?? 0, segmentBytes);
  return {
    timeline,
    first: name(numbers[0]),
    last: name(numbers.at(-1)),
    segments: numbers.length,
    recordsTo,
  };
}

/** Notes what is missing, and histories that are missing or do not fit. */
export class TimelineCheck {
  readonly #files: ArchiveFiles;
  readonly #timelines: ReadonlyMap<number, readonly number[]>;
  readonly #segmentBytes: number;
  readonly #histories = new Map<number, readonly TimelineSwitch[]>();

  constructor(files: ArchiveFiles, timelines: readonly Timeline[], segmentBytes: number) {
    this.#files = files;
    this.#timelines = new Map(timelines.map(({ timeline, numbers }) => [timeline, numbers]));
    this.#segmentBytes = segmentBytes;
  }

  /** @param content - of the file, opened. */
  addHistory(name: BytePath, content: Buffer): void {
    const timeline = Number(`0x${name.slice(0, 8)}`);
    try {
      this.#histories.set(timeline, parseTimelineHistory(content, timeline, "it"));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#files.problem("history", name, error.message);
    }
  }

  /** The timelines that one comes from, oldest first, where it begins in this segment as its history says; else none. */
  parentsIn({ timeline, high, low }: SegmentName): readonly number[] {
    const switches = this.#histories.get(timeline) ?? [];
    const start = (BigInt(high) << 32n) + BigInt(low);
    const offset = (switches.at(-1)?.end ?? -1n) - start;
    const beginsHere = offset >= 0n && offset < this.#segmentBytes;
    return beginsHere ? switches.map((each) => each.timeline) : [];
  }

  /** @param known - histories that are there, also those that did not open. */
  check(known: ReadonlySet<string>): void {
    for (const [timeline, numbers] of this.#timelines) {
      this.#checkGaps(timeline, numbers);
      const name = historyName(timeline);
      if (timeline > 1 && !known.has(name)) {
        this.#files.problem(
          "history",
          name,
          `it is missing, and no server finds its way to timeline ${timeline} without it`,
        );
      }
    }
    for (const [timeline, switches] of this.#histories) this.#checkSwitch(timeline, switches);
  }

  #checkGaps(timeline: number, numbers: readonly number[]): void {
    for (const [i, number] of numbers.entries()) {
      const before = numbers[i - 1];
      if (before !== undefined && number > before + 1) this.#gap(timeline, before + 1, number - 1);
    }
  }

  #checkSwitch(timeline: number, switches: readonly TimelineSwitch[]): void {
    const parent = switches.at(-1);
    if (parent === undefined) return;
    const others = this.#histories.get(parent.timeline) ?? [];
    const inherited = switches.slice(0, -1);
    const differs = inherited.some(
      (one, i) => one.timeline !== others[i]?.timeline || one.end !== others[i].end,
    );
    if (this.#histories.has(parent.timeline) && (differs || others.length !== inherited.length)) {
      this.#files.problem(
        "history",
        historyName(timeline),
        `it contradicts ${historyName(parent.timeline)} on where timeline ${parent.timeline} comes from`,
      );
    }
    const numbers = this.#timelines.get(timeline);
    const first = numbers?.[0];
    if (first === undefined) return;
    const switchNumber = Number(parent.end / BigInt(this.#segmentBytes));
    const oldest = Math.min(...[...this.#timelines.values()].map(([number]) => number ?? Infinity));
    // Of what was cleaned away, everything before the oldest segment is gone on all timelines.
    if (first > switchNumber && oldest < first) {
      this.#gap(timeline, Math.max(switchNumber, oldest), first - 1);
    }
    const last = this.#timelines.get(parent.timeline)?.at(-1);
    if (last !== undefined && last < switchNumber - 1) {
      this.#gap(parent.timeline, last + 1, switchNumber - 1);
    }
  }

  #gap(timeline: number, from: number, to: number): void {
    const first = nameOfNumber(timeline, from, this.#segmentBytes);
    const count = to - from + 1;
    const last = nameOfNumber(timeline, to, this.#segmentBytes);
    this.#files.problem(
      "gap",
      first as BytePath,
      count === 1 ? "it is missing" : `it and all to ${last} are missing: ${count} segments`,
    );
  }
}

function historyName(timeline: number): BytePath {
  return `${timeline.toString(16).toUpperCase().padStart(8, "0")}.history` as BytePath;
}

function nameOfNumber(timeline: number, number: number, segmentBytes: number): string {
  const perLog = 2 ** 32 / segmentBytes;
  const high = Math.floor(number / perLog);
  return walFileName({ timeline, high, low: (number % perLog) * segmentBytes }, segmentBytes);
}
