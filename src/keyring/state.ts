/**
 * What earlier runs remember about the directories under a keyring: the newest epoch of each, so that an older
 * copy is told from the newest one, and the newest generation of the keyring itself.
 *
 * It also knows the runs that are open: a journal is acted on only where the state says that its run has begun, at this
 * place, and not ended. So journals of runs that are over open nothing.
 *
 * Memory only grows: an epoch never falls, a root is never replaced at the same epoch, and a state that cannot be
 * believed is put aside only where the user says so.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { equalInConstantTime } from "../crypto/primitives.ts";
import { FormatError, IntegrityError, StateError, StorageError, type TdeError } from "../errors.ts";
import { replaceFileDurably, resolveFile } from "../storage/durable-replace.ts";
import { readWholeFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { acquireLock, type Lock, type LockPurpose } from "../storage/lock.ts";
import type { DataKeys } from "./data-keys.ts";
import { type KeyLoads, loadGained, sumOfLoads } from "./key-load.ts";
import { stateMac } from "./key-wrap.ts";
import { formatTime } from "./keyring-file.ts";
import {
  type DirectoryMemory,
  type OpenRun,
  OTHER_PLACES,
  parseStateFile,
  serializeStateFile,
  STATE_LIMIT_BYTES,
  STATE_VERSION,
  stateBytes,
  type StateContent,
  type StateFile,
} from "./state-file.ts";

export type { DirectoryMemory, OpenRun, StateContent } from "./state-file.ts";

/**
 * absent: there is no file. verified: its MAC holds. unusable: damaged, altered, or of another keyring.
 * newer-keyring: made under a key that this keyring lacks, so the keyring is an old copy.
 */
export type StateStatus = "absent" | "verified" | "unusable" | "newer-keyring";

export interface State extends StateContent {
  readonly status: StateStatus;
  /** One line for the user, where the file is there but cannot be used. */
  readonly warning: string | undefined;
}

export interface StatePlace {
  readonly fs: FileSystem;
  readonly path: BytePath;
  /** For the lock's message to others: `tde encrypt-datadir`. */
  readonly command: string;
  /** Put a file that cannot be believed aside as `.damaged`, and begin a new one. */
  readonly replaceUnusable?: boolean | undefined;
  /** What was just done to the keyring; the state may be one generation behind, or none yet where it is new. */
  readonly keyring?: "created" | "changed" | undefined;
}

/** A copy of a directory, held against what is remembered of it. */
export type EpochVerdict = "unknown" | "newer" | "same" | "older" | "forked";

export interface EpochJudgement {
  /** forked: the same epoch with another root, made by a second copy that went its own way. */
  readonly verdict: EpochVerdict;
  readonly epoch: bigint;
  readonly remembered: DirectoryMemory | undefined;
}

/**
 * Reads and authenticates the state file.
 * @returns an empty state where there is none, or it cannot be read or believed; `warning` says so.
 */
export function loadState(fs: FileSystem, path: BytePath, keys: DataKeys): State {
  if (fs.statFollowing(path) === undefined) return emptyState(keys, "absent");
  const name = `state file "${displayPath(path)}"`;
  const unusable = (why: string): State =>
    emptyState(keys, "unusable", `${name} is not used: ${why}; rollback cannot be noticed`);
  let file: StateFile;
  try {
    file = parseStateFile(readWholeFile(fs, fs.realPath(path), STATE_LIMIT_BYTES));
  } catch (error) {
    // Whoever may not read it is told so; what needs no state file, such as archiving WAL, goes on.
    if (error instanceof FormatError || error instanceof StorageError)
      return unusable(error.message);
    throw error;
  }
  const { keyId, content } = file;
  if (content.keyringId !== keys.keyringId) {
    return unusable(`it belongs to keyring ${content.keyringId}`);
  }
  const key = keys.keys.get(keyId);
  if (key === undefined) {
    // Not authenticated, but it can only forbid: an attacker who writes this could as well remove the file.
    const warning = `${name} was written with key ${keyId}, which this keyring lacks: the keyring is an old copy`;
    return emptyState(keys, "newer-keyring", warning);
  }
  if (key.dek === undefined || key.state === "retired") {
    return unusable(`key ${keyId}, under which it was written, is ${key.state}`);
  }
  const mac = stateMac(key.dek, keys.keyringId, stateBytes(keyId, content, file.version));
  if (!equalInConstantTime(mac, file.mac)) return unusable("it was altered");
  return { ...content, status: "verified", warning: undefined };
}

/** How long an update waits for another process to write the file, which takes it a moment. */
const PATIENCE_MS = 10_000;
const POLL_MS = 20;

/**
 * Reads the state again under its lock, changes it and writes it under the current key. What other processes
 * remembered meanwhile is kept. One that was written with a newer keyring is left as it is.
 * @param generation - of the keyring in hand.
 * @throws {StateError} when another process keeps the lock, the keyring is an old copy, or the file would grow too large.
 * @throws {IntegrityError} when the file is there but cannot be believed, without `replaceUnusable`.
 */
export function updateState(
  place: StatePlace,
  keys: DataKeys,
  generation: number,
  change: (content: StateContent) => StateContent,
): State {
  const { fs, path, command } = place;
  const target = resolveFile(fs, path);
  const what = `state file "${displayPath(path)}"`;
  const lock = lockPatiently(fs, `${target}.lock` as BytePath, { what, command });
  try {
    const before = loadState(fs, target, keys);
    if (
      before.status === "newer-keyring" ||
      (before.status === "unusable" && place.replaceUnusable !== true)
    )
      throw unusableState(before);
    const hasGap = isBehind(before, place.keyring === undefined ? generation : generation - 1);
    const knowsAll =
      before.status === "verified"
        ? !hasGap
        : before.status === "absent" && place.keyring === "created";
    const changed = change(knowsAll ? before : { ...before, since: formatTime(new Date()) });
    const highestGeneration = Math.max(changed.highestGeneration, generation);
    const content = { ...changed, highestGeneration };
    const bytes = sealState(keys, content);
    if (bytes.length > STATE_LIMIT_BYTES) {
      throw new StateError(`${what} would grow over ${STATE_LIMIT_BYTES} bytes`, {
        hint: 'Forget what is gone for good with "tde keyring forget-directory". It remembers one directory for each run with --output.',
      });
    }
    if (before.status === "unusable") fs.rename(target, `${target}.damaged` as BytePath);
    replaceFileDurably(fs, target, bytes, 0o600);
    return { ...content, status: "verified", warning: undefined };
  } finally {
    lock.release();
  }
}

/** Whether the keyring was changed and the state does not know: it is an older one, brought back. */
function isBehind(state: StateContent, generation: number): boolean {
  return state.highestGeneration < generation;
}

/**
 * Why a state may not know all that is under a keyring, so that "nobody uses this key" could be wrong.
 * @returns one line; undefined where it knows everything that this keyring's runs told it since it was made.
 */
export function whyIncomplete(state: State, generation: number, name: string): string | undefined {
  if (state.status === "absent") return "there is no state file";
  if (state.status !== "verified") return state.warning ?? "the state file cannot be used";
  if (isBehind(state, generation))
    return `the state file is older than ${name}: it knows generation ${state.highestGeneration} of ${generation}`;
  if (state.since !== undefined)
    return `the state file was begun on ${state.since}, after ${name} had been in use`;
  return undefined;
}

/** Of a state that is there but cannot be believed. */
export function unusableState({ status, warning }: State): TdeError {
  const message = warning ?? "the state file cannot be used";
  if (status === "newer-keyring") {
    return new StateError(message, {
      hint: "Give the newest copy of the keyring; nothing is written with an old one.",
    });
  }
  return new IntegrityError(message, {
    hint: "Restore the state file from a backup. Without it nobody can tell which copies are the newest and which runs are open.",
  });
}

function lockPatiently(fs: FileSystem, path: BytePath, purpose: LockPurpose): Lock {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return acquireLock(fs, path, purpose);
    } catch (error) {
      if (!(error instanceof StateError) || Date.now() >= deadline) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
    }
  }
}

/**
 * A change for `updateState`: the directory as it is after a completed command, and what that command wrote.
 * @param written - undefined: what is under each key now and was not when it was last seen.
 */
export function rememberDirectory(
  content: StateContent,
  memory: DirectoryMemory,
  written?: KeyLoads,
): StateContent {
  if (memory.epoch > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FormatError(`directory ${memory.id} has an epoch that is too high: ${memory.epoch}`);
  }
  const before = content.directories.get(memory.id);
  const isSame = before?.epoch === memory.epoch && before.root === memory.root;
  // Another copy of the directory has gone on meanwhile: what is remembered of that one stays.
  const isNewest = before === undefined || isSame || memory.epoch > before.epoch;
  const others = otherPlaces(memory, before);
  const directories = isNewest
    ? new Map([...content.directories, [memory.id, { ...memory, others }]])
    : content.directories;
  // A run that was taken up after it had told tells it again.
  if (isSame) return { ...content, directories };
  const more = written ?? loadGained(memory.load, before?.load ?? new Map());
  return { ...content, directories, keyLoad: sumOfLoads([content.keyLoad, more]) };
}

/** Where the directory was before: its copies there may share tablespaces with it. */
function otherPlaces(
  { path, others }: DirectoryMemory,
  before: DirectoryMemory | undefined,
): readonly BytePath[] {
  const known = [...others, ...(before === undefined ? [] : [before.path, ...before.others])];
  return [...new Set(known)].filter((place) => place !== path).slice(0, OTHER_PLACES);
}

/**
 * Stands where a directory has its manifest's root. An archive of WAL has no manifest: its epoch only counts how often it
 * was remembered.
 */
export const ARCHIVE_ROOT: string = "0".repeat(64);

/**
 * A change for `updateState`: the directory at `place` was decrypted. If it is the one that is remembered, no key protects
 * anything in it any more; if it was a copy, which a restore is tried with, the keys are needed as before.
 */
export function releaseDirectory(
  content: StateContent,
  directoryId: string,
  place: BytePath,
): StateContent {
  const seen = content.directories.get(directoryId);
  if (seen === undefined || seen.path !== place) return content;
  const released = { ...seen, load: new Map() };
  return { ...content, directories: new Map([...content.directories, [directoryId, released]]) };
}

/** A change for `updateState`: the directory is gone for good, and nothing is remembered of it or its runs. */
export function forgetDirectory(content: StateContent, directoryId: string): StateContent {
  const directories = new Map(content.directories);
  directories.delete(directoryId);
  return { ...withoutRuns(content, (run) => run.directoryId === directoryId), directories };
}

/**
 * A change for `updateState`: a run is about to begin. Whoever begins one at a place has its lock and found no journal
 * there: what was registered at that place before is over, and its journal, should it come back, opens nothing.
 */
export function registerRun(content: StateContent, run: OpenRun): StateContent {
  const others = withoutRuns(content, ({ place }) => place === run.place);
  return { ...others, runs: new Map([...others.runs, [run.runId, run]]) };
}

/** A change for `updateState`: all of the run is in its place. Nothing is done any more for the sake of its journal. */
export function endRun(content: StateContent, runId: string): StateContent {
  const run = content.runs.get(runId);
  if (run === undefined) return content;
  return { ...content, runs: new Map([...content.runs, [runId, { ...run, ended: true }]]) };
}

/** A change for `updateState`: the run's journal is gone. */
export function closeRun(content: StateContent, runId: string): StateContent {
  return withoutRuns(content, (run) => run.runId === runId);
}

function withoutRuns(content: StateContent, isOver: (run: OpenRun) => boolean): StateContent {
  return { ...content, runs: new Map([...content.runs].filter(([, run]) => !isOver(run))) };
}

/** The highest epoch of a run that is open on a directory, or on a copy of it; 0 where there is none. */
export function highestOpenEpoch(content: StateContent, directoryId: string): bigint {
  let highest = 0n;
  for (const run of content.runs.values()) {
    if (run.directoryId === directoryId && run.epoch > highest) highest = run.epoch;
  }
  return highest;
}

/** Is this the newest state of the directory that this user has seen? @param root - 64 hex digits. */
export function judgeEpoch(
  state: StateContent,
  directoryId: string,
  epoch: bigint,
  root: string,
): EpochJudgement {
  const remembered = state.directories.get(directoryId);
  const judged = (verdict: EpochVerdict): EpochJudgement => ({ verdict, epoch, remembered });
  if (remembered === undefined) return judged("unknown");
  if (epoch > remembered.epoch) return judged("newer");
  if (epoch < remembered.epoch) return judged("older");
  return judged(root === remembered.root ? "same" : "forked");
}

/** @throws {IntegrityError} when the copy is older than, or forked from, what is remembered. */
export function requireNotRolledBack(judgement: EpochJudgement, where: string): void {
  const { verdict, epoch, remembered } = judgement;
  if (remembered === undefined || (verdict !== "older" && verdict !== "forked")) return;
  const newest = `epoch ${remembered.epoch} of ${remembered.time}, last seen at "${displayPath(remembered.path)}"`;
  const message =
    verdict === "older"
      ? `${where} is at epoch ${epoch}, older than ${newest}`
      : `${where} is another copy with the same epoch as the newest one: ${newest}`;
  throw new IntegrityError(message, {
    hint: "If you restored this directory from a backup on purpose, give --accept-older.",
  });
}

/** The directories in which a key is in use, as far as the state knows. */
export function directoriesUsing(state: StateContent, keyId: number): DirectoryMemory[] {
  return [...state.directories.values()].filter(({ load }) => load.has(keyId));
}

/** @throws {StateError} when the keyring is an old copy: what is made with it would clash with what exists. */
export function requireNewestKeyring(generation: number, state: State, name: string): void {
  const warning = oldKeyringWarning(generation, state, name);
  if (warning === undefined) return;
  throw new StateError(warning, {
    hint: "Give the newest copy of the keyring. With an old one a second key of the same id would come to be.",
  });
}

/** Says that the keyring is an old copy, for commands that go on all the same; else undefined. */
export function oldKeyringWarning(
  generation: number,
  state: State,
  name: string,
): string | undefined {
  if (state.status === "newer-keyring") {
    return `${name} is older than its state file, which was written with a key that it lacks`;
  }
  if (generation >= state.highestGeneration) return undefined;
  return `${name} has generation ${generation}, but generation ${state.highestGeneration} has been in use`;
}

function emptyState(keys: DataKeys, status: StateStatus, warning?: string): State {
  return {
    keyringId: keys.keyringId,
    highestGeneration: 0,
    since: undefined,
    directories: new Map(),
    runs: new Map(),
    keyLoad: new Map(),
    keyLimitPages: undefined,
    status,
    warning,
  };
}

function sealState(keys: DataKeys, content: StateContent): Buffer {
  const keyId = keys.currentKeyId;
  const dek = keys.keys.get(keyId)?.dek;
  if (dek === undefined) throw new Error("the current key has a DEK");
  const mac = stateMac(dek, keys.keyringId, stateBytes(keyId, content));
  return serializeStateFile({ version: STATE_VERSION, keyId, content, mac });
}
