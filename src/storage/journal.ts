/**
 * The journal of a run: what a crash must not leave half done. Each entry lists steps that are due (renames and
 * removals, in order) or holds what is to be written in place; it is written and synced before the first of them, and
 * the next entry only after the last of them is durable. So after a crash only the newest entry can be unfinished, only the newest can be torn, and
 * doing its steps again is harmless. What was written of it is read back before any step of it is done.
 * docs/FORMAT.md, "Journal".
 */
import assert from "node:assert/strict";
import { type BytePath, directoryOf, displayPath, joinPath } from "../bytes/byte-path.ts";
import { equalInConstantTime, hmacSha256, type KeyObject } from "../crypto/primitives.ts";
import { FormatError, IntegrityError, StateError, StorageError } from "../errors.ts";
import { readUpTo, withFile, writeAll } from "./file-io.ts";
import type { FileSystem, OpenFile } from "./file-system.ts";
import { holds, notAsWritten } from "./read-back.ts";
import {
  type DueStep,
  type FilePatch,
  parsePatches,
  parseSteps,
  serializePatches,
  serializeSteps,
} from "./journal-entry.ts";
import {
  JOURNAL_HEADER,
  JOURNAL_HEADER_BYTES,
  JOURNAL_MAC_BYTES as MAC_BYTES,
  JOURNAL_NAME,
  type JournalHeader,
  journalHeaderMac,
  parseJournalHeader,
  serializeJournalHeader,
} from "./journal-header.ts";

export {
  JOURNAL_HEADER,
  JOURNAL_HEADER_BYTES,
  JOURNAL_NAME,
  JOURNAL_OPERATION,
  type JournalHeader,
  type JournalOperation,
  readJournalHeader,
} from "./journal-header.ts";
export type { DueStep, FilePatch, PatchPart } from "./journal-entry.ts";

/** The journal while its first entry is being written: without that name there is no run. */
export const NEW_JOURNAL_NAME = "tde_tdenew.journal" as BytePath;

export const RECORD_TYPE = { plan: 1, due: 2, committed: 3, redo: 4 } as const;

const MAX_RECORD_BYTES = 2 ** 24;
/** Only the newest entry counts, so a journal that grew past this is begun anew. */
const COMPACT_BYTES = 2 ** 22;
const ENTRY_TYPES: readonly number[] = [RECORD_TYPE.due, RECORD_TYPE.committed, RECORD_TYPE.redo];
const MAX_JOURNAL_BYTES = COMPACT_BYTES + 2 * MAX_RECORD_BYTES;

export interface JournalContent {
  readonly header: JournalHeader;
  /** What the run was asked to do, as JSON. */
  readonly plan: string;
  /** The steps of the newest entry; they may be done already. */
  readonly due: readonly DueStep[];
  /** What the newest entry says is to be written in place; it may be written already. */
  readonly redo: readonly FilePatch[];
  /** Whether anything was ever made due: until then the directory is as it was. */
  readonly entered: boolean;
  /** All files are done: only finishing is left. */
  readonly committed: boolean;
}

/** A journal that is being written. */
export class Journal {
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly key: KeyObject;
  private readonly header: JournalHeader;
  private readonly plan: string;
  private file: OpenFile | undefined;
  private position: number = 0;
  private lastMac: Buffer = Buffer.alloc(0);
  /** Begins with all that was written, to hold what is read back against it. */
  private written: Buffer = Buffer.alloc(0);

  private constructor(
    fs: FileSystem,
    root: BytePath,
    key: KeyObject,
    header: JournalHeader,
    plan: string,
  ) {
    this.fs = fs;
    this.root = root;
    this.key = key;
    this.header = header;
    this.plan = plan;
  }

  /** Begins a run: afterwards the journal with its plan is durable. */
  static create(
    fs: FileSystem,
    root: BytePath,
    key: KeyObject,
    header: JournalHeader,
    plan: string,
  ): Journal {
    const journal = new Journal(fs, root, key, header, plan);
    try {
      journal.begin([]);
    } catch (error) {
      journal.close();
      throw error;
    }
    return journal;
  }

  /**
   * Goes on with the journal of an interrupted run, behind its last whole record.
   * @param judge - sees what it says before anything is written; what it throws leaves all as it is.
   */
  static resume(
    fs: FileSystem,
    root: BytePath,
    key: KeyObject,
    judge: (content: JournalContent) => void = () => {},
  ): { journal: Journal; content: JournalContent } {
    const path = joinPath(root, JOURNAL_NAME);
    const bytes = withFile(fs, path, readAll);
    const { content, end, lastMac } = parse(bytes, key);
    judge(content);
    // A snapshot made of hard links has it, too: what is written from here on is not that one's.
    const isShared = (fs.stat(path)?.linkCount ?? 1) > 1;
    const newPath = joinPath(root, NEW_JOURNAL_NAME);
    if (isShared) fs.remove(newPath);
    const file = isShared ? fs.create(newPath, 0o600) : fs.openForWriting(path);
    try {
      // Written once more: after a sync that failed, the last record may be in the system's memory alone, and no later
      // sync would write it. In place, because the disk may be full.
      const whole = bytes.subarray(0, end);
      const write = (): boolean => {
        writeAll(file, whole, 0, end, 0);
        file.truncate(end);
        file.sync();
        return holds(fs, isShared ? newPath : path, whole);
      };
      // What stands there now may be worse than what did before: it is not left so without another attempt.
      if (!write() && !write()) throw notAsWritten(JOURNAL_NAME);
      if (isShared) {
        fs.rename(newPath, path);
        fs.syncDirectory(root);
      }
      const journal = new Journal(fs, root, key, content.header, content.plan);
      journal.file = file;
      journal.position = end;
      journal.written = whole;
      journal.lastMac = lastMac;
      return { journal, content };
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Makes steps due, durably. Every step of the entry before must be durable. */
  due(steps: readonly DueStep[]): void {
    this.enter(RECORD_TYPE.due, serializeSteps(steps));
  }

  /** Keeps what is to be written in place, durably. All that the entry before says must be durable. */
  redo(patches: readonly FilePatch[]): void {
    this.enter(RECORD_TYPE.redo, serializePatches(patches));
  }

  /** Makes the last steps due, durably: from here on only finishing is left, and nothing is undone any more. */
  commit(steps: readonly DueStep[]): void {
    this.appendOrBegin(RECORD_TYPE.committed, serializeSteps(steps));
  }

  close(): void {
    const { file } = this;
    this.file = undefined;
    file?.close();
  }

  private enter(type: number, body: Buffer): void {
    if (this.position > COMPACT_BYTES) this.begin([[type, body]]);
    else this.appendOrBegin(type, body);
  }

  /** Where it does not read as it was written, what stands there counts for nothing: another takes its place. */
  private appendOrBegin(type: number, body: Buffer): void {
    this.append(type, body);
    if (!this.isAsWritten(JOURNAL_NAME)) this.begin([[type, body]]);
  }

  private isAsWritten(name: BytePath): boolean {
    const written = this.written.subarray(0, this.position);
    return holds(this.fs, joinPath(this.root, name), written);
  }

  /** Writes behind what was written before. */
  private write(file: OpenFile, bytes: Buffer): void {
    writeAll(file, bytes, 0, bytes.length, this.position);
    const end = this.position + bytes.length;
    if (end > this.written.length) {
      const larger = Buffer.alloc(2 * end);
      this.written.copy(larger, 0, 0, this.position);
      this.written = larger;
    }
    bytes.copy(this.written, this.position);
    this.position = end;
  }

  /** Writes a new journal with header, plan and these records, and puts it in the place of the old one. */
  private begin(records: readonly (readonly [type: number, body: Buffer])[]): void {
    this.close();
    const newPath = joinPath(this.root, NEW_JOURNAL_NAME);
    this.fs.remove(newPath);
    this.file = this.fs.create(newPath, 0o600);
    const bytes = serializeJournalHeader(this.header, this.key);
    this.position = 0;
    this.write(this.file, bytes);
    this.lastMac = bytes.subarray(JOURNAL_HEADER.mac);
    this.append(RECORD_TYPE.plan, Buffer.from(this.plan, "utf8"));
    for (const [type, body] of records) this.append(type, body);
    if (!this.isAsWritten(NEW_JOURNAL_NAME)) throw notAsWritten(JOURNAL_NAME);
    this.fs.rename(newPath, joinPath(this.root, JOURNAL_NAME));
    this.fs.syncDirectory(this.root);
  }

  private append(type: number, body: Buffer): void {
    assert(this.file !== undefined && body.length < MAX_RECORD_BYTES);
    const record = Buffer.alloc(5 + body.length + MAC_BYTES);
    record.writeUInt32LE(1 + body.length, 0);
    record.writeUInt8(type, 4);
    body.copy(record, 5);
    const mac = macOf(this.key, this.lastMac, record.subarray(0, 5 + body.length));
    mac.copy(record, 5 + body.length);
    this.write(this.file, record);
    this.file.sync();
    this.lastMac = mac;
  }
}

/** Removes the journal: the run is over. */
export function removeJournal(fs: FileSystem, root: BytePath): void {
  fs.remove(joinPath(root, JOURNAL_NAME));
  fs.syncDirectory(root);
}

/** Removes what a crash left of a journal that never came to be. */
export function removeUnbornJournal(fs: FileSystem, root: BytePath): void {
  const path = joinPath(root, NEW_JOURNAL_NAME);
  if (fs.stat(path) !== undefined) fs.remove(path);
}

/**
 * Carries out due steps, also when some or all of them are done already, and makes them durable: a rename whose
 * source is gone has happened, and so has the removal of a file that is not there, be its directory gone with it.
 * @throws {StateError} where a directory stands in the way, which no run of tde puts there.
 */
export function carryOut(fs: FileSystem, root: BytePath, steps: readonly DueStep[]): void {
  const directories = new Set<BytePath>();
  for (const step of steps) {
    if (step.action === "rename") {
      const from = joinPath(root, step.from);
      const to = joinPath(root, step.to);
      if (fs.stat(from) !== undefined) orInTheWay(fs, to, () => fs.rename(from, to));
      directories.add(directoryOf(step.to));
    } else {
      const path = joinPath(root, step.path);
      orInTheWay(fs, path, () => fs.remove(path));
      const directory = directoryOf(step.path);
      if (fs.statFollowing(joinPath(root, directory)) !== undefined) directories.add(directory);
    }
  }
  for (const directory of directories) fs.syncDirectory(joinPath(root, directory));
}

function orInTheWay(fs: FileSystem, path: BytePath, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof StorageError) || fs.stat(path)?.kind !== "directory") throw error;
    throw new StateError(
      `a directory stands where a file of tde's should be: "${displayPath(path)}"`,
      {
        cause: error,
        hint: "Somebody put it there. Move it away, and run the same command again.",
      },
    );
  }
}

function parse(
  bytes: Buffer,
  key: KeyObject,
): { content: JournalContent; end: number; lastMac: Buffer } {
  const header = parseJournalHeader(bytes);
  let lastMac = bytes.subarray(JOURNAL_HEADER.mac, JOURNAL_HEADER_BYTES);
  if (!equalInConstantTime(journalHeaderMac(bytes, key), lastMac))
    throw altered(JOURNAL_HEADER.mac);

  let plan: string | undefined;
  let due: DueStep[] = [];
  let redo: FilePatch[] = [];
  let entered = false;
  let committed = false;
  let position = JOURNAL_HEADER_BYTES;
  while (position + 5 + MAC_BYTES <= bytes.length) {
    const length = bytes.readUInt32LE(position);
    const bodyEnd = position + 4 + length;
    // What a torn write left: it is the last record, and nothing can stand behind it.
    if (length < 1 || length > MAX_RECORD_BYTES || bodyEnd + MAC_BYTES > bytes.length) break;
    const mac = bytes.subarray(bodyEnd, bodyEnd + MAC_BYTES);
    if (!equalInConstantTime(macOf(key, lastMac, bytes.subarray(position, bodyEnd)), mac)) {
      if (bodyEnd + MAC_BYTES < bytes.length) throw altered(position);
      break;
    }
    const type = bytes.readUInt8(position + 4);
    const body = bytes.subarray(position + 5, bodyEnd);
    if (committed) {
      throw new FormatError(`"tde.journal" goes on behind its last entry, at offset ${position}`);
    }
    if (type === RECORD_TYPE.plan && plan === undefined) {
      plan = body.toString("utf8");
    } else if (plan !== undefined && ENTRY_TYPES.includes(type)) {
      // Only the newest entry counts: all that the ones before it say is done.
      due = type === RECORD_TYPE.redo ? [] : parseSteps(body);
      redo = type === RECORD_TYPE.redo ? parsePatches(body) : [];
      committed = type === RECORD_TYPE.committed;
      entered = true;
    } else {
      throw new FormatError(
        `"tde.journal" has an unknown record of type ${type} at offset ${position}`,
      );
    }
    position = bodyEnd + MAC_BYTES;
    lastMac = mac;
  }
  if (plan === undefined || endsInRecord(bytes, position, key)) throw altered(position);
  return {
    content: { header, plan, due, redo, entered, committed },
    end: position,
    lastMac: Buffer.from(lastMac),
  };
}

/**
 * Whether the file ends in a record that authenticates, somewhere behind the broken one at `start`: then that one
 * was whole once, for no record is begun before the one before it is durable, and it was no torn write that broke
 * its length.
 */
function endsInRecord(bytes: Buffer, start: number, key: KeyObject): boolean {
  // What was made up to keep us busy is no torn write either.
  let hashedBytes = 0;
  for (let at = start + 1; at + 5 + MAC_BYTES <= bytes.length; at++) {
    const bodyEnd = bytes.length - MAC_BYTES;
    if (at + 4 + bytes.readUInt32LE(at) !== bodyEnd) continue;
    hashedBytes += bodyEnd - at;
    if (hashedBytes > 2 * MAX_JOURNAL_BYTES) return true;
    const previousMac = bytes.subarray(at - MAC_BYTES, at);
    const mac = macOf(key, previousMac, bytes.subarray(at, bodyEnd));
    if (equalInConstantTime(mac, bytes.subarray(bodyEnd))) return true;
  }
  return false;
}

function altered(offset: number): IntegrityError {
  return new IntegrityError(`"tde.journal" was altered or damaged at offset ${offset}`, {
    hint: "Restore the directory from a backup; do not remove the journal, which says what is half done.",
  });
}

function macOf(key: KeyObject, previousMac: Buffer, bytes: Buffer): Buffer {
  return hmacSha256(key, previousMac, bytes).subarray(0, MAC_BYTES);
}

function readAll(file: OpenFile): Buffer {
  const { sizeBytes } = file.stat();
  if (sizeBytes > MAX_JOURNAL_BYTES)
    throw new FormatError(`"tde.journal" is too large (${sizeBytes} bytes)`);
  const bytes = Buffer.alloc(sizeBytes);
  return bytes.subarray(0, readUpTo(file, bytes, 0, sizeBytes, 0));
}
