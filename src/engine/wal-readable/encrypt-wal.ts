/**
 * `tde wal encrypt`: segments of a folder into readable mode, in place. The last segment comes first, because the CRC
 * of a record that crosses into the next segment counts what is stored there: so what is encrypted never changes
 * again.
 *
 * Order for each segment: new segment and sidecar under working names, written and synced; the CRC of the record that
 * goes on in the next segment; sidecar renamed; sync of the folder, which makes the segment after it durable, too;
 * segment renamed. After the first one, which comes last, the folder is synced once more. A crash leaves a segment
 * plain, or plain beside a sidecar that does not count, or stored with its sidecar and all segments after it.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { workingName } from "../../datadir/relation-path.ts";
import { openWalSegment, type WalFacts, type WalSurroundings } from "../../datadir/wal-segment.ts";
import { IntegrityError } from "../../errors.ts";
import { closeCrc, type OpenCrc } from "../../format/wal/record-checksum.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { withFile, writeAll } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { runInOrder } from "../../workers/runner.ts";
import type { Task } from "../../workers/tasks.ts";
import type { EngineContext } from "../context.ts";
import { lockWalFolder, removeWorkingFiles } from "./folder-lock.ts";
import { continuation, goesThrough, leadBytes, readFirstPage, readLead } from "./segment-lead.ts";
import { settleSegment } from "./settle-segment.ts";
import {
  gapsIn,
  neighbourOf,
  readWalFolder,
  type WalFolder,
  type WalSegment,
} from "./wal-folder.ts";
import { walRunContext } from "./wal-run.ts";

export interface EncryptWalRequest {
  readonly folder: BytePath;
  /** Only these; undefined: all segments of the folder. */
  readonly names?: ReadonlySet<BytePath> | undefined;
}

export interface EncryptWalReport {
  readonly encrypted: number;
  /** That were encrypted before. */
  readonly already: number;
  readonly bytes: number;
  /** Segments that lack the one before them. */
  readonly gaps: readonly BytePath[];
  /** Sealed as containers: left as they are. */
  readonly sealed: readonly BytePath[];
}

/**
 * @throws {StateError} {FormatError} {IntegrityError} before anything is written, for a folder in use and for segments
 *   that are not whole or not of one cluster.
 */
export async function encryptWal(
  engine: EngineContext,
  keys: DataKeys,
  { folder: path, names }: EncryptWalRequest,
): Promise<EncryptWalReport> {
  const { fs } = engine;
  const lock = lockWalFolder(fs, path, engine.command);
  try {
    removeWorkingFiles(fs, path);
    const folder = readWalFolder(fs, path, names);
    const context = walRunContext(keys, folder.systemIdentifier);
    const todo = folder.segments.filter((each) => settleSegment(fs, context, each) !== "stored");
    const run = new EncryptionRun(fs, context, folder, new Set(todo));
    const bytes = todo.length * folder.segmentBytes;
    engine.progress.begin("encrypting", bytes);
    const runner = engine.startRunner(context, (done) => engine.progress.advance(done));
    try {
      await runInOrder(runner, run.tasks(engine.signal), async ([result], segment) => {
        assert(result !== undefined, "a task gives a result for each segment");
        await run.publish(segment, result.openCrc);
      });
      fs.syncDirectory(path);
    } finally {
      await runner.close();
      engine.progress.end();
    }
    return {
      encrypted: todo.length,
      already: folder.segments.length - todo.length,
      bytes,
      gaps: gapsIn(folder.segments).map(({ name }) => name),
      sealed: folder.sealed,
    };
  } finally {
    lock.release();
  }
}

class EncryptionRun {
  readonly #fs: FileSystem;
  readonly #facts: WalFacts;
  readonly #folder: WalFolder;
  /** Plain when the run began. */
  readonly #todo: ReadonlySet<WalSegment>;
  /** What each segment begins with: plain, and as stored. */
  readonly #plainLeads = new Map<WalSegment, Buffer>();
  readonly #storedLeads = new Map<WalSegment, Buffer>();

  constructor(fs: FileSystem, facts: WalFacts, folder: WalFolder, todo: ReadonlySet<WalSegment>) {
    this.#fs = fs;
    this.#facts = facts;
    this.#folder = folder;
    this.#todo = todo;
  }

  /** The last one first. A task begins while those before it are still plain. */
  *tasks(signal: AbortSignal | undefined): Generator<{ task: Task; context: WalSegment }> {
    for (const segment of [...this.#todo].toReversed()) {
      signal?.throwIfAborted();
      const surroundings = this.#surroundings(segment);
      this.#plainLeads.set(segment, this.#readLead(segment.path));
      const target = workingPaths(segment);
      const item = { files: segment.files, surroundings, target };
      yield { task: { kind: "sealWal", items: [item] }, context: segment };
    }
  }

  /** Its segments are there under their working names, synced. */
  async publish(segment: WalSegment, openCrc: OpenCrc | undefined): Promise<void> {
    const working = workingPaths(segment);
    if (openCrc !== undefined) await this.#close(segment, working.segment, openCrc);
    this.#storedLeads.set(segment, this.#readLead(working.segment));
    const { path } = this.#folder;
    this.#fs.rename(working.sidecar, segment.files.sidecar);
    this.#fs.syncDirectory(path);
    this.#fs.rename(working.segment, segment.path);
    this.#forgetBehind(segment);
  }

  #surroundings(segment: WalSegment): WalSurroundings {
    const before: BytePath[] = [];
    for (let at = this.#before(segment); at !== undefined; at = this.#before(at)) {
      before.push(at.path);
      if (!goesThrough(withFile(this.#fs, at.path, readFirstPage), this.#folder.segmentBytes))
        break;
    }
    return { before, after: this.#leadsAfter(segment, (next) => this.#plainLead(next)) };
  }

  /** The segment before, if it is plain: in one that is stored the record was left as it was then. */
  #before(segment: WalSegment): WalSegment | undefined {
    const before = neighbourOf(this.#folder.segments, segment, -1);
    return before !== undefined && this.#todo.has(before) ? before : undefined;
  }

  /** Leads of the segments that follow, as far as a record that crosses into them goes. */
  #leadsAfter(segment: WalSegment, leadOf: (next: WalSegment) => Buffer | undefined): Buffer[] {
    const leads: Buffer[] = [];
    for (let at = segment; ;) {
      const next = neighbourOf(this.#folder.segments, at, 1);
      const lead = next && leadOf(next);
      if (next === undefined || lead === undefined) return leads;
      leads.push(lead);
      if (!goesThrough(lead, this.#folder.segmentBytes)) return leads;
      at = next;
    }
  }

  /** Of a segment that an earlier run has stored: only where that took the record apart that crosses into it. */
  #plainLead(segment: WalSegment): Buffer | undefined {
    const known = this.#plainLeads.get(segment);
    if (known !== undefined) return known;
    if (this.#todo.has(segment)) return undefined;
    const { segment: bytes, map } = openWalSegment(
      this.#fs,
      this.#facts,
      segment.files,
      true,
      stop,
    );
    const lead = Buffer.from(bytes.subarray(0, leadBytes(bytes, bytes.length)));
    if (map?.leading === undefined && lead.length > 0 && crossesInto(lead)) return undefined;
    this.#plainLeads.set(segment, lead);
    return lead;
  }

  /** Writes the CRC of a record that goes on behind its segment, over what is stored of it there. */
  async #close(segment: WalSegment, path: BytePath, openCrc: OpenCrc): Promise<void> {
    const leads = this.#leadsAfter(segment, (next) => this.#storedLead(next));
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(closeCrc(openCrc, continuation(leads)));
    const file = this.#fs.openForWriting(path);
    try {
      const attributes = file.stat();
      writeAll(file, crc, 0, crc.length, openCrc.crcAt);
      file.setAttributes(attributes);
      await this.#fs.syncFiles([file]);
    } finally {
      file.close();
    }
  }

  #storedLead(segment: WalSegment): Buffer {
    return this.#storedLeads.get(segment) ?? this.#readLead(segment.path);
  }

  #readLead(path: BytePath): Buffer {
    return withFile(this.#fs, path, (file) => readLead(file, this.#folder.segmentBytes));
  }

  /** Leads of segments that no segment still to come crosses into. */
  #forgetBehind({ number }: WalSegment): void {
    for (const leads of [this.#plainLeads, this.#storedLeads]) {
      for (const [segment, lead] of leads) {
        const isLong = goesThrough(lead, this.#folder.segmentBytes);
        if (!isLong && segment.number > number + 1n) leads.delete(segment);
      }
    }
  }
}

function crossesInto(lead: Buffer): boolean {
  return [...continuation([lead])].length > 0;
}

/** As a stored segment is made whose own tags do not hold, its neighbour would be made of what nobody wrote. */
function stop({ path, message }: { readonly path: string; readonly message: string }): never {
  throw new IntegrityError(`${path}: ${message}`, {
    hint: `Restore "${displayPath(path)}" together with its sidecar (_tde) from a backup.`,
  });
}

function workingPaths({ files }: WalSegment): { segment: BytePath; sidecar: BytePath } {
  return { segment: workingName(files.segment), sidecar: workingName(files.sidecar) };
}
