/**
 * The segments of an archive, read one after the other: each is whole and genuine, and its records follow those of the
 * one before, in a timeline and from the timeline that it comes from. WAL ends midway in the last one of a timeline only.
 */
import type { BytePath } from "../../bytes/byte-path.ts";
import { type SegmentName, walFileName } from "../../wal/wal-file-name.ts";
import { type ArchiveFiles, SPARE, type WholeSegment } from "./archive-files.ts";
import { RecordChain } from "./record-chain.ts";
import { segmentNamed } from "./timelines.ts";

export class SegmentCheck {
  segmentBytes = 0;
  readonly spare: Set<BytePath> = new Set();
  /** Of each timeline the LSN behind its last record. */
  readonly ends: Map<number, string> = new Map();
  readonly #files: ArchiveFiles;
  readonly #opener: () => ArchiveFiles;
  readonly #chain = new RecordChain();
  /** Of each timeline the first segment, and where its records end. */
  readonly #firsts: {
    readonly name: BytePath;
    readonly place: SegmentName;
    readonly recordsTo: string | undefined;
  }[] = [];
  #present: ReadonlySet<BytePath> = new Set();
  /** WAL ends in this one, if it is the last of its timeline. */
  #ended:
    { readonly name: BytePath; readonly timeline: number; readonly problem: string } | undefined;

  /** @param opener - gives what opens files without taking account of them. */
  constructor(files: ArchiveFiles, opener: () => ArchiveFiles) {
    this.#files = files;
    this.#opener = opener;
  }

  get records(): number {
    return this.#chain.records;
  }

  /** @param names - sorted. */
  async check(names: readonly BytePath[], signal: AbortSignal | undefined): Promise<void> {
    this.#present = new Set(names);
    let previous: SegmentName | undefined;
    for (const name of names) {
      signal?.throwIfAborted();
      const segment = await this.#files.readSegment(name);
      if (segment === SPARE) this.spare.add(name);
      // Beside a whole segment a partial one is what there was of it before.
      if (segment === SPARE || this.#present.has(wholeName(name))) continue;
      if (segment === undefined || !this.#hasSize(segment, name)) {
        this.#chain.breakOff();
        continue;
      }
      const place = segmentNamed(name, this.segmentBytes);
      this.#follow(name, segment, { place, previous });
      previous = place;
    }
  }

  #hasSize({ head: { segmentBytes } }: WholeSegment, name: BytePath): boolean {
    if (this.segmentBytes === 0) this.segmentBytes = segmentBytes;
    if (this.segmentBytes === segmentBytes) return true;
    const message = `it has ${segmentBytes} bytes, others ${this.segmentBytes}`;
    this.#files.problem("tag", name, message);
    return false;
  }

  #follow(name: BytePath, segment: WholeSegment, { place, previous }: Surroundings): void {
    const { timeline } = place;
    if (this.#ended?.timeline === timeline) {
      this.#files.problem("chain", this.#ended.name, this.#ended.problem);
    }
    this.#ended = undefined;
    const isFirst = previous?.timeline !== timeline;
    if (isFirst || !follows(previous, place, this.segmentBytes)) this.#chain.breakOff();
    const end = this.#chain.follow(segment, place);
    const recordsTo = this.#chain.end;
    if (recordsTo !== undefined) this.ends.set(timeline, recordsTo);
    if (isFirst) this.#firsts.push({ name, place, recordsTo });
    if (end?.isEndOfWal === true) this.#ended = { name, timeline, problem: end.problem };
    else if (end !== undefined) this.#files.problem("chain", name, end.problem);
  }

  /**
   * A timeline goes on where it left the one that it comes from: its first segment follows the one before.
   * @param parentsIn - the timelines that a segment's comes from, oldest first, where it begins in this segment.
   */
  async checkJoins(parentsIn: (segment: SegmentName) => readonly number[]): Promise<void> {
    for (const { name, place, recordsTo } of this.#firsts) {
      const before = segmentBefore(place, this.segmentBytes);
      const parents = parentsIn(place).map((timeline) => ({ ...before, timeline }));
      const parent = parents.findLast((each) => this.#present.has(this.#nameOf(each)));
      if (parent === undefined) continue;
      const again = this.#opener();
      const segments = [
        await again.readSegment(this.#nameOf(parent)),
        await again.readSegment(name),
      ];
      const chain = new RecordChain();
      const ends = segments.map((segment, i) =>
        segment === undefined || segment === SPARE
          ? undefined
          : chain.follow(segment, i === 0 ? parent : place),
      );
      if (again.problems.length > 0 || ends[0] !== undefined || chain.end === recordsTo) continue;
      const why = ends[1]?.problem ?? "its records are others";
      this.#files.problem("chain", name, `it does not follow ${this.#nameOf(parent)}: ${why}`);
    }
  }

  #nameOf(segment: SegmentName): BytePath {
    return walFileName(segment, this.segmentBytes) as BytePath;
  }
}

interface Surroundings {
  readonly place: SegmentName;
  /** The one that was read before. */
  readonly previous: SegmentName | undefined;
}

/** Of a partial segment; any other name gives none that is there. */
function wholeName(name: BytePath): BytePath {
  return (name.endsWith(PARTIAL) ? name.slice(0, -PARTIAL.length) : "") as BytePath;
}

const PARTIAL = ".partial";

/** Whether a segment is the next one of the same timeline. */
function follows(before: SegmentName, now: SegmentName, segmentBytes: number): boolean {
  return (now.high - before.high) * 2 ** 32 + now.low - before.low === segmentBytes;
}

function segmentBefore(
  { high, low }: SegmentName,
  segmentBytes: number,
): Omit<SegmentName, "timeline"> {
  return low === 0
    ? { high: high - 1, low: 2 ** 32 - segmentBytes }
    : { high, low: low - segmentBytes };
}
