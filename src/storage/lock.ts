/**
 * A lock file: one tde at a time works on a keyring or a data directory. The file is made with O_EXCL and says
 * in one JSON line who made it. No lock of a running process is ever taken away, and of several processes that
 * find the lock of a dead one exactly one gets it.
 *
 * Taking over a dead lock. Removing it by name alone could hit the fresh lock of someone who was faster. So
 * whoever wants to remove a dead lock first takes a second lock, the claim, whose name is derived from the dead
 * lock's content, and then looks again. While the claim is held nobody else may remove that content, and its
 * owner is dead: if it still stands there, it is safe to remove. The claim is a lock like any other, so the
 * claim of a process that died in between is taken over in the same way.
 *
 * A file without a complete line comes from a process that stopped between creating and writing it, from a full
 * disk or a power cut; or its maker is about to write. It counts as dead once it has stayed the same for a
 * second. A maker that was held up for longer finds out, because it reads its lock back after writing.
 */
import assert from "node:assert/strict";
import { isMainThread } from "node:worker_threads";
import { type BytePath, directoryOf, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { randomBytes, sha256 } from "../crypto/primitives.ts";
import { StateError, StorageError } from "../errors.ts";
import { readUpTo, writeAll } from "./file-io.ts";
import type { DirectoryEntry, FileSystem, OpenFile } from "./file-system.ts";
import { type ProcessIdentity, type ProcessTable, realProcesses } from "./process-table.ts";
import { notAsWritten } from "./read-back.ts";

export interface LockPurpose {
  /** What is locked, for the message to others: `keyring "app.keyring"`. */
  readonly what: string;
  /** What this process does: `tde keyring new-key`. */
  readonly command: string;
}

export interface Lock {
  readonly path: BytePath;
  /** Removes the lock file. Releasing twice is no error. */
  release(): void;
}

interface LockRecord extends ProcessIdentity {
  readonly token: string;
  readonly command: string;
  readonly since: string;
}

const LOCK_FILE_LIMIT_BYTES = 4096;
const UNREADABLE_IS_DEAD_AFTER_MS = 1000;
const POLL_MS = 50;
/** Each level of claims is one process that died while it took over the level above. */
const MAX_CLAIM_DEPTH = 4;
const MAX_ATTEMPTS = 100;
const CLAIM_NAME_BYTES = 8;

/** Locks of this process, by token: one that is not here was left by an earlier life of a simulated disk. */
const heldTokens = new Set<string>();

/**
 * Takes the lock at `path`, or fails at once when someone else has it.
 * @throws {StateError} when a running process, or one on another host, holds it.
 * @throws {StorageError} when the file cannot be made.
 */
export function acquireLock(
  fs: FileSystem,
  path: BytePath,
  purpose: LockPurpose,
  processes: ProcessTable = realProcesses,
): Lock {
  assert.ok(
    isMainThread,
    "a worker has a list of held locks of its own and would take over the main one's",
  );
  const lock = acquire(fs, path, purpose, processes, 0);
  removeOldClaims(fs, path);
  return lock;
}

function acquire(
  fs: FileSystem,
  path: BytePath,
  purpose: LockPurpose,
  processes: ProcessTable,
  depth: number,
): Lock {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const lock = tryToCreate(fs, path, purpose, processes, depth);
    if (lock !== undefined) return lock;
    const isClaim = depth > 0;
    const content = settledContent(fs, path, isClaim ? isReadable : isComplete);
    if (content === undefined) continue;
    // No version of tde leaves a claim for long: one that stays unreadable was written badly.
    const isUnreadableClaim = isClaim && !isReadable(content);
    const holder = isUnreadableClaim ? "dead" : judgeHolder(content, path, purpose, processes);
    if (holder !== "dead") {
      // Whoever holds a claim is done in a moment; whoever holds the lock itself is not waited for.
      if (!isClaim || attempt === MAX_ATTEMPTS - 1) throw holder;
      sleep(POLL_MS);
      continue;
    }
    if (depth === MAX_CLAIM_DEPTH) throw tooManyDead(path, purpose);
    removeDead(fs, path, content, purpose, processes, depth);
  }
  throw new StateError(`could not lock ${purpose.what}: its lock file keeps changing`, {
    hint: `Others are using "${displayPath(path)}". Try again in a moment.`,
  });
}

/** The new lock, or undefined when the name is taken. */
function tryToCreate(
  fs: FileSystem,
  path: BytePath,
  purpose: LockPurpose,
  processes: ProcessTable,
  depth: number,
): Lock | undefined {
  const token = randomBytes(16).toString("hex");
  const record: LockRecord = {
    ...processes.self(),
    token,
    command: purpose.command,
    since: new Date().toISOString(),
  };
  const content = Buffer.from(`${JSON.stringify(record)}\n`);
  let file: OpenFile;
  try {
    file = fs.create(path, 0o600);
  } catch (error) {
    if (error instanceof StorageError && error.errno === "EEXIST") return undefined;
    throw error;
  }
  heldTokens.add(token);
  let isOurs: boolean;
  let found: Buffer | undefined;
  try {
    try {
      writeAll(file, content, 0, content.length, 0);
      // While it is open no other file can have its number.
      isOurs = fs.stat(path)?.inode === file.stat().inode;
    } finally {
      file.close();
    }
    found = readLock(fs, path);
  } catch (error) {
    heldTokens.delete(token);
    attemptRemoval(fs, path);
    throw error;
  }
  if (found?.equals(content) !== true) {
    heldTokens.delete(token);
    // Taken for dead while it was held up: the name belongs to someone else now.
    if (!isOurs || found === undefined || !isComplete(found) || depth === MAX_CLAIM_DEPTH)
      return undefined;
    // It does not read as it was written: no other tde would know it for a dead one, and so it would stay for ever.
    removeDead(fs, path, found, purpose, processes, depth);
    throw notAsWritten(path);
  }
  return {
    path,
    release(): void {
      if (!heldTokens.delete(token)) return;
      if (readLock(fs, path)?.equals(content) === true) fs.remove(path);
    },
  };
}

/** Removes a lock that was judged dead, if it is still the same one. */
function removeDead(
  fs: FileSystem,
  path: BytePath,
  content: Buffer,
  purpose: LockPurpose,
  processes: ProcessTable,
  depth: number,
): void {
  const base = depth === 0 ? path : path.slice(0, path.lastIndexOf("."));
  // The path is part of it: an incomplete lock and its incomplete claim have the same content, which is none.
  const digest = sha256(Buffer.from(`${path}\n`, "latin1"), content);
  const claimPath = `${base}.${digest.toString("hex", 0, CLAIM_NAME_BYTES)}` as BytePath;
  const claim = acquire(fs, claimPath, purpose, processes, depth + 1);
  try {
    if (readLock(fs, path)?.equals(content) === true) fs.remove(path);
  } finally {
    claim.release();
  }
}

/**
 * Claims left by processes that died just after a takeover. While we hold the lock no claim can have an effect:
 * the content that it names no longer stands at `path`.
 */
function removeOldClaims(fs: FileSystem, path: BytePath): void {
  const prefix = `${nameOf(path)}.`;
  for (const { name } of listQuietly(fs, directoryOf(path))) {
    if (!name.startsWith(prefix)) continue;
    const suffix = name.slice(prefix.length);
    if (suffix.length === 2 * CLAIM_NAME_BYTES && /^[0-9a-f]+$/.test(suffix)) {
      attemptRemoval(fs, joinPath(directoryOf(path), name));
    }
  }
}

/** For tidying up only: a lock that is held must not be lost because of it. */
function listQuietly(fs: FileSystem, directory: BytePath): readonly DirectoryEntry[] {
  try {
    return fs.readDirectory(directory);
  } catch (error) {
    if (error instanceof StorageError) return [];
    throw error;
  }
}

/** Removes what is only litter, or what an error that matters more left behind. */
function attemptRemoval(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // A lock without its process is dead, a claim without its lock has no effect.
  }
}

/** "dead", or the error that says who holds the lock. */
function judgeHolder(
  content: Buffer,
  path: BytePath,
  purpose: LockPurpose,
  processes: ProcessTable,
): "dead" | StateError {
  if (!isComplete(content)) return "dead";
  const record = parseRecord(content);
  if (record === undefined) {
    return new StateError(
      `${purpose.what} is locked by a file that this version does not understand`,
      { hint: `If no tde is running on any host that sees it, remove "${displayPath(path)}".` },
    );
  }
  const holder = `pid ${record.pid}, ${record.command}, since ${record.since}`;
  switch (processes.judge(record)) {
    case "dead":
      return "dead";
    case "self":
      if (!heldTokens.has(record.token)) return "dead";
      return new StateError(`this process is already working on ${purpose.what}`);
    case "alive":
      return new StateError(`another tde (${holder}) is working on ${purpose.what}`, {
        hint: "Wait until it has finished, then run the command again.",
      });
    case "foreign":
      return new StateError(
        `a tde on host ${record.host} (${holder}) is working on ${purpose.what}`,
        {
          hint: `Whether it still runs cannot be seen from here. If it does not, remove "${displayPath(path)}" and run the command again.`,
        },
      );
  }
}

/** The lock's content once it is whole, or has stayed as it is for a second; undefined when it is gone. */
function settledContent(
  fs: FileSystem,
  path: BytePath,
  isWhole: (content: Buffer) => boolean,
): Buffer | undefined {
  let content = readLock(fs, path);
  let unchangedMs = 0;
  while (content !== undefined && !isWhole(content)) {
    if (unchangedMs >= UNREADABLE_IS_DEAD_AFTER_MS) return content;
    sleep(POLL_MS);
    const again = readLock(fs, path);
    unchangedMs = again?.equals(content) === true ? unchangedMs + POLL_MS : 0;
    content = again;
  }
  return content;
}

function readLock(fs: FileSystem, path: BytePath): Buffer | undefined {
  const stat = fs.stat(path);
  if (stat === undefined) return undefined;
  if (stat.kind !== "file") {
    throw new StateError(`"${displayPath(path)}" stands where a lock file should be`, {
      hint: "Move it away and run the command again.",
    });
  }
  let file: OpenFile;
  try {
    file = fs.open(path);
  } catch (error) {
    if (error instanceof StorageError && error.errno === "ENOENT") return undefined;
    throw error;
  }
  try {
    const buffer = Buffer.alloc(LOCK_FILE_LIMIT_BYTES);
    return buffer.subarray(0, readUpTo(file, buffer, 0, buffer.length, 0));
  } finally {
    file.close();
  }
}

/** One line, ended; anything at the limit is not ours but counts as complete, so that it is never removed. */
function isComplete(content: Buffer): boolean {
  return content.at(-1) === 0x0a || content.length === LOCK_FILE_LIMIT_BYTES;
}

function isReadable(content: Buffer): boolean {
  return isComplete(content) && parseRecord(content) !== undefined;
}

function parseRecord(content: Buffer): LockRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(content.toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const text = (name: string): string | undefined => {
    const field = fields[name];
    // What comes from a file is shown in a message: nothing in it may move the cursor.
    return typeof field === "string" && /^[\x20-\x7e]{0,256}$/.test(field) ? field : undefined;
  };
  const { pid } = fields;
  const [start, boot, namespace, host] = [
    text("start"),
    text("boot"),
    text("namespace"),
    text("host"),
  ];
  const [token, command, since] = [text("token"), text("command"), text("since")];
  if (typeof pid !== "number" || !Number.isInteger(pid) || pid <= 0 || pid > 0x7fffffff)
    return undefined;
  if (start === undefined || boot === undefined || namespace === undefined) return undefined;
  if (host === undefined || token === undefined || command === undefined || since === undefined) {
    return undefined;
  }
  return { pid, start, boot, namespace, host, token, command, since };
}

function tooManyDead(path: BytePath, purpose: LockPurpose): StateError {
  return new StateError(`could not lock ${purpose.what}: too many unfinished attempts to do so`, {
    hint: `If no tde is running, remove "${displayPath(path)}" and the files whose names begin like it.`,
  });
}

/** Sleeps without returning to the event loop: the file-system interface is synchronous. */
function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
