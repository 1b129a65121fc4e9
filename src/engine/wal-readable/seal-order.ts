/**
 * Seals segments of WAL in readable mode, or seals them anew, the last one first, because the CRC of a record that
 * crosses into the next segment counts what is stored there: so what has been stored never changes again.
 *
 * Whoever runs this lets the new files of each segment take their places after it was closed, in that order, the
 * sidecar before the segment: ciphertext without one must never exist.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import {
  openWalSegment,
  type WalFacts,
  type WalSegmentFiles,
  type WalSurroundings,
} from "../../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import type { Problem } from "../../format/problem.ts";
import { closeCrc, type OpenCrc } from "../../format/wal/record-checksum.ts";
import { trailingCrc } from "../../format/wal/seal-segment.ts";
import { readUpTo, withFile, writeAll } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { notAsWritten, readingBack } from "../../storage/read-back.ts";
import { runWriting, type TaskRunner, type Writing } from "../../workers/runner.ts";
import type { WalItem, WalTarget } from "../../workers/tasks.ts";
import { crossingDefect } from "./crossing-record.ts";
import { continuation, goesThrough, leadBytes, readFirstPage, readLead } from "./segment-lead.ts";
import { neighbourOf, type NumberedSegment } from "./wal-folder.ts";

export interface OrderedSegment extends NumberedSegment {
  /** The plain one; undefined where it is stored already, and nothing else is at hand. */
  readonly plain?: BytePath | undefined;
  /** Where it is stored, or will be. */
  readonly files: WalSegmentFiles;
  /** Where its new files are written; undefined: it stays as it is stored. */
  readonly target?: WalTarget | undefined;
}

export class SealOrder<Segment extends OrderedSegment> {
  readonly #fs: FileSystem;
  readonly #facts: WalFacts;
  readonly #segmentBytes: number;
  readonly #segments: readonly Segment[];
  /** What each segment begins with: plain, and as stored. */
  readonly #plainLeads = new Map<OrderedSegment, Buffer>();
  readonly #storedLeads = new Map<OrderedSegment, Buffer>();

  /** @param segments - by number, then timeline: those to be sealed and all that follow or precede one. */
  constructor(fs: FileSystem, facts: WalFacts, segmentBytes: number, segments: readonly Segment[]) {
    this.#fs = fs;
    this.#facts = facts;
    this.#segmentBytes = segmentBytes;
    this.#segments = segments;
  }

  /**
   * Seals what has a target. @param publish - lets a segment's new files, which are synced and have been read back,
   *   take their places; called in the order of the work.
   */
  async run(
    runner: TaskRunner,
    signal: AbortSignal | undefined,
    publish: (segment: Segment) => void,
  ): Promise<void> {
    await runWriting(runner, this.#tasks(signal), {
      complete: async ([result], segment) => {
        assert(result !== undefined, "a task gives a result for each segment");
        await this.#close(segment, result.openCrc);
      },
      take: (_results, segment) => {
        this.requireCrossing(segment, segment.target);
        publish(segment);
      },
    });
  }

  /**
   * Reads back, from the segments themselves, what no message covers: the CRC of the record that goes on behind a segment.
   * @param target - where its files are, if they have not taken their places; those of the segments behind it have.
   * @throws {StorageError} when it is not that of the record.
   */
  requireCrossing(segment: Segment, target?: WalTarget): void {
    const files = { ...segment.files, ...target };
    const defect = readingBack(segment.files.path, () =>
      crossingDefect(
        this.#fs,
        this.#segments,
        { ...segment, files },
        ({ files: { sidecar } }) => this.#fs.stat(sidecar) !== undefined,
      ),
    );
    if (defect !== undefined) throw notAsWritten(segment.files.path);
  }

  /**
   * Of a segment that stays stored while the next one was stored anew: the CRC of the record that goes on there, and
   * where it stands. undefined: it is right, or no such record was taken apart.
   * @throws {IntegrityError} when the segment's form or MACs are wrong.
   */
  crossingCrc(segment: Segment): { readonly position: number; readonly bytes: Buffer } | undefined {
    const opened = openWalSegment(this.#fs, this.#facts, segment.files, "macs", stop);
    const openCrc = opened.map && trailingCrc(opened.map);
    if (openCrc === undefined) return undefined;
    const bytes = this.#closed(segment, openCrc);
    const position = openCrc.crcAt;
    const isRight = bytes.equals(opened.segment.subarray(position, position + bytes.length));
    return isRight ? undefined : { position, bytes };
  }

  /** The last one first. A task begins before those drawn earlier are closed. */
  *#tasks(signal: AbortSignal | undefined): Generator<Writing<Segment>> {
    for (const segment of this.#segments.toReversed()) {
      if (segment.target === undefined) continue;
      signal?.throwIfAborted();
      const { plain, target } = segment;
      yield {
        task:
          plain === undefined
            ? { kind: "reseal", items: [this.#resealItem(segment, target)] }
            : { kind: "seal", items: [this.#sealItem(segment, plain, target)] },
        context: segment,
      };
    }
  }

  #sealItem(segment: Segment, plain: BytePath, target: WalTarget): WalItem {
    const surroundings = this.#surroundings(segment);
    this.#plainLeads.set(segment, this.#readLead(plain));
    const files = { ...segment.files, segment: plain };
    return { kind: "wal", files, sizeBytes: this.#segmentBytes, surroundings, target };
  }

  #resealItem(segment: Segment, target: WalTarget): WalItem {
    const before = neighbourOf(this.#segments, segment, -1)?.files.segment;
    return { kind: "wal", files: segment.files, sizeBytes: this.#segmentBytes, before, target };
  }

  /** Its new files are written and synced. */
  async #close(segment: Segment, openCrc: OpenCrc | undefined): Promise<void> {
    const { target } = segment;
    assert(target !== undefined, "what was sealed has new files");
    if (openCrc !== undefined) await this.#writeCrc(segment, target.segment, openCrc);
    this.#storedLeads.set(segment, this.#readLead(target.segment));
    this.#forgetBehind(segment);
  }

  #surroundings(segment: Segment): WalSurroundings {
    const before: BytePath[] = [];
    for (let at = this.#plainBefore(segment); at !== undefined; at = this.#plainBefore(at)) {
      before.push(at.plain);
      if (!goesThrough(withFile(this.#fs, at.plain, readFirstPage), this.#segmentBytes)) break;
    }
    return { before, after: this.#leadsAfter(segment, (next) => this.#plainLead(next)) };
  }

  /** The segment before, if it is plain: in one that is stored the record was left as it was then. */
  #plainBefore(segment: Segment): (Segment & { readonly plain: BytePath }) | undefined {
    const before = neighbourOf(this.#segments, segment, -1);
    const { plain } = before ?? {};
    return before === undefined || plain === undefined ? undefined : { ...before, plain };
  }

  /** Leads of the segments that follow, as far as a record that crosses into them goes. */
  #leadsAfter(segment: Segment, leadOf: (next: Segment) => Buffer | undefined): Buffer[] {
    const leads: Buffer[] = [];
    for (let at = segment; ;) {
      const next = neighbourOf(this.#segments, at, 1);
      const lead = next && leadOf(next);
      if (next === undefined || lead === undefined) return leads;
      leads.push(lead);
      if (!goesThrough(lead, this.#segmentBytes)) return leads;
      at = next;
    }
  }

  /** Of a segment that an earlier run has stored: only where that took the record apart that crosses into it. */
  #plainLead(segment: Segment): Buffer | undefined {
    const known = this.#plainLeads.get(segment);
    if (known !== undefined) return known;
    const lead =
      segment.plain === undefined ? this.#openedLead(segment) : this.#readLead(segment.plain);
    if (lead !== undefined) this.#plainLeads.set(segment, lead);
    return lead;
  }

  #openedLead({ files }: Segment): Buffer | undefined {
    const { segment, map } = openWalSegment(this.#fs, this.#facts, files, "decrypt", stop);
    const lead = Buffer.from(segment.subarray(0, leadBytes(segment, segment.length)));
    return map?.leading === undefined && crossesInto(lead) ? undefined : lead;
  }

  /** Writes the CRC of a record that goes on behind its segment, over what is stored of it there. */
  async #writeCrc(segment: Segment, path: BytePath, openCrc: OpenCrc): Promise<void> {
    const crc = this.#closed(segment, openCrc);
    const file = this.#fs.openForWriting(path);
    try {
      const attributes = file.stat();
      writeAll(file, crc, 0, crc.length, openCrc.crcAt);
      file.setAttributes(attributes);
      await this.#fs.syncFiles([file]);
    } finally {
      file.close();
    }
    // The CRC is in no message: when the segment is read back, nothing would tell that it is another.
    const written = Buffer.alloc(crc.length);
    withFile(this.#fs, path, (anew) => readUpTo(anew, written, 0, crc.length, openCrc.crcAt));
    if (!written.equals(crc)) throw notAsWritten(segment.files.path);
  }

  /** With what is stored of the record in the segments that follow. */
  #closed(segment: Segment, openCrc: OpenCrc): Buffer {
    const leads = this.#leadsAfter(segment, (next) => this.#storedLead(next));
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(closeCrc(openCrc, continuation(leads)));
    return crc;
  }

  #storedLead(segment: Segment): Buffer {
    return this.#storedLeads.get(segment) ?? this.#readLead(segment.files.segment);
  }

  #readLead(path: BytePath): Buffer {
    return withFile(this.#fs, path, (file) => readLead(file, this.#segmentBytes));
  }

  /** Leads of segments that no segment still to come crosses into. */
  #forgetBehind({ number }: Segment): void {
    for (const leads of [this.#plainLeads, this.#storedLeads]) {
      for (const [segment, lead] of leads) {
        const isLong = goesThrough(lead, this.#segmentBytes);
        if (!isLong && segment.number > number + 1n) leads.delete(segment);
      }
    }
  }
}

function crossesInto(lead: Buffer): boolean {
  return [...continuation([lead])].length > 0;
}

/** As a stored segment is made whose own tags do not hold, its neighbour would be made of what nobody wrote. */
function stop({ kind, path, message }: Problem): never {
  if (kind === "key") throw new KeyError(message, { file: path });
  throw new IntegrityError(`${path}: ${message}`, {
    file: path,
    hint: `Restore "${displayPath(path)}" together with its sidecar (_tde) from a backup.`,
  });
}
