/**
 * What the engine is given when it is called from the command line: the real file system, worker threads, the
 * terminal's progress and an interrupt; and the keyring's memory of directories, which it keeps in the state file.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { describeMessageCipher } from "../crypto/primitives.ts";
import type {
  DirectoryMemory,
  EngineContext,
  KeyContext,
  MemoryDoubt,
  RunOutcome,
  SeenDirectory,
} from "../engine/context.ts";
import { directoryIdAt } from "../engine/remembered-place.ts";
import { formatTime } from "../keyring/keyring-file.ts";
import type { DirectoryMemory as RememberedDirectory } from "../keyring/state-file.ts";
import {
  ARCHIVE_ROOT,
  closeRun,
  endRun,
  highestOpenEpoch,
  judgeEpoch,
  loadState,
  type OpenRun,
  registerRun,
  releaseDirectory,
  rememberDirectory,
  type State,
  type StateContent,
  updateState,
} from "../keyring/state.ts";
import { StorageError, TdeError } from "../errors.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { TellingRunner } from "../engine/not-kept.ts";
import { InlineRunner } from "../workers/inline-runner.ts";
import { ThreadRunner } from "../workers/thread-runner.ts";
import { WorkerThreads } from "../workers/worker-threads.ts";
import { interruptSignal } from "./interrupt.ts";
import type { OpenedKeyring } from "./open-keyring.ts";
import type { OutputFlags, WorkFlags } from "./options.ts";
import type { Output } from "./output.ts";
import { openProgress } from "./progress.ts";

export async function engineContext(
  command: string,
  flags: WorkFlags & OutputFlags,
  output: Output,
): Promise<EngineContext> {
  const fs = new NodeFileSystem();
  if (flags.verbose === true) output.detail(`AES-256-GCM: ${describeMessageCipher()}`);
  const threads = flags.jobs === 1 ? undefined : new WorkerThreads(flags.jobs);
  const notice = (message: string): void => output.note(message);
  return {
    fs,
    startRunner: (context, onBytes) =>
      new TellingRunner(
        threads === undefined
          ? new InlineRunner(fs, context, onBytes)
          : new ThreadRunner(threads, context, onBytes),
        notice,
      ),
    progress: await openProgress(flags),
    notice,
    signal: interruptSignal(),
    command,
  };
}

export interface Consent {
  /** Do without the state file where it is missing or cannot be believed. */
  readonly withoutState?: boolean | undefined;
}

export function keyContext(
  opened: OpenedKeyring,
  engine: EngineContext,
  output: Output,
  consent: Consent = {},
): KeyContext {
  return { keys: opened.dataKeys, memory: new StateFileMemory(opened, engine, output, consent) };
}

/** The keyring's memory, kept in its state file. */
class StateFileMemory implements DirectoryMemory {
  readonly isDoubtAccepted: boolean;
  private readonly opened: OpenedKeyring;
  private readonly engine: EngineContext;
  private readonly output: Output;
  private latest: State;

  constructor(opened: OpenedKeyring, engine: EngineContext, output: Output, consent: Consent) {
    this.opened = opened;
    this.engine = engine;
    this.output = output;
    this.isDoubtAccepted = consent.withoutState === true;
    this.latest = opened.state;
  }

  doubt(): MemoryDoubt | undefined {
    return doubtOf(this.reload(), this.opened.statePath);
  }

  judge(directoryId: string, epoch: bigint, root: string): ReturnType<DirectoryMemory["judge"]> {
    return judgement(this.latest, directoryId, epoch, root);
  }

  places(directoryId: string): readonly BytePath[] {
    return placesOf(this.latest, directoryId);
  }

  replacedAt(place: BytePath, directoryId: string): ReturnType<DirectoryMemory["replacedAt"]> {
    return replaced(this.latest, place, directoryId);
  }

  highestOpenEpoch(directoryId: string): bigint {
    return highestOpenEpoch(this.latest, directoryId);
  }

  openRun(runId: string): OpenRun | undefined {
    return this.reload().runs.get(runId);
  }

  openRunsAt(place: BytePath): OpenRun[] {
    return runsAt(this.reload(), place);
  }

  remember(seen: SeenDirectory): void {
    // The directory itself is done. A keyring that is mounted read-only has its state elsewhere (--state).
    this.updateIfPossible((content) => withSeen(content, this.withoutCopysPlace(content, seen)));
  }

  /** A copy that is only looked at does not take its original's place. */
  private withoutCopysPlace({ directories }: StateContent, seen: SeenDirectory): SeenDirectory {
    const path = directories.get(seen.directoryId)?.path;
    const isThere = path !== undefined && directoryIdAt(this.engine.fs, path) === seen.directoryId;
    return isThere ? { ...seen, path } : seen;
  }

  beginRun(run: Parameters<DirectoryMemory["beginRun"]>[0]): void {
    const registered = { ...run, time: now(), ended: false };
    this.updateOrRefuse((content) => registerRun(content, registered));
  }

  endRun(runId: string, outcome: RunOutcome): void {
    this.updateOrRefuse((content) => endRun(withOutcome(content, outcome), runId));
  }

  closeRun(runId: string): void {
    // It has ended, which is all that matters; the next run here, or "tde recover", forgets it.
    this.updateIfPossible((content) => closeRun(content, runId));
  }

  /** Other processes write it, too. */
  private reload(): State {
    const { statePath, dataKeys } = this.opened;
    this.latest = loadState(this.engine.fs, statePath, dataKeys);
    return this.latest;
  }

  /** A run needs it: unless the user does without, a file that cannot be written ends the command. */
  private updateOrRefuse(change: (content: StateContent) => StateContent): void {
    if (this.isDoubtAccepted) return this.updateIfPossible(change);
    try {
      this.update(change);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      throw new StorageError(`the state file cannot be written: ${error.message}`, {
        cause: error,
        errno: error.errno,
        file: error.file,
        hint: "A run is registered there, so that no old journal passes for it. Give --state with a path that can be written.",
      });
    }
  }

  private updateIfPossible(change: (content: StateContent) => StateContent): void {
    try {
      this.update(change);
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      this.output.note(`tde: warning: the state file was not updated: ${error.message}`);
    }
  }

  private update(change: (content: StateContent) => StateContent): void {
    const { keyring, dataKeys, statePath: path } = this.opened;
    const { fs, command } = this.engine;
    const place = { fs, path, command, replaceUnusable: this.isDoubtAccepted };
    this.latest = updateState(place, dataKeys, keyring.file.generation, change);
  }
}

/** A state file that is only read. */
export function rememberedBy(state: State, statePath: BytePath): DirectoryMemory {
  return {
    isDoubtAccepted: false,
    doubt: () => doubtOf(state, statePath),
    judge: (directoryId, epoch, root) => judgement(state, directoryId, epoch, root),
    places: (directoryId) => placesOf(state, directoryId),
    replacedAt: (place, directoryId) => replaced(state, place, directoryId),
    highestOpenEpoch: (directoryId) => highestOpenEpoch(state, directoryId),
    openRun: (runId) => state.runs.get(runId),
    openRunsAt: (place) => runsAt(state, place),
    remember() {},
    beginRun: () => assert.fail("what only reads begins no run"),
    endRun: () => assert.fail("what only reads ends no run"),
    closeRun() {},
  };
}

function placesOf({ directories }: StateContent, directoryId: string): readonly BytePath[] {
  const seen = directories.get(directoryId);
  return seen === undefined ? [] : [seen.path, ...seen.others];
}

/** A directory that was decrypted has no key under which anything in it is. */
function isDecrypted({ load, root }: Pick<RememberedDirectory, "load" | "root">): boolean {
  return load.size === 0 && root !== ARCHIVE_ROOT;
}

function replaced(
  { directories }: StateContent,
  place: BytePath,
  directoryId: string,
): ReturnType<DirectoryMemory["replacedAt"]> {
  const own = directories.get(directoryId);
  if (own?.path === place && isDecrypted(own)) return { kind: "decrypted" };
  // What was seen of this one elsewhere says nothing of this place.
  const since = own?.path === place ? own.time : "";
  const others = [...directories.values()]
    .filter(({ id, path, load }) => id !== directoryId && path === place && load.size > 0)
    .filter(({ root, time }) => root !== ARCHIVE_ROOT && time > since)
    .sort((a, b) => (a.time < b.time ? 1 : -1));
  const [newest] = others;
  return newest && { kind: "other", id: newest.id, lastSeen: newest.time };
}

function runsAt({ runs }: StateContent, place: BytePath): OpenRun[] {
  return [...runs.values()].filter((run) => run.place === place);
}

function doubtOf({ status, warning }: State, path: BytePath): MemoryDoubt | undefined {
  if (status === "verified") return undefined;
  return {
    kind: status,
    path: displayPath(path),
    message: warning ?? `there is no state file "${displayPath(path)}"`,
  };
}

function judgement(
  state: StateContent,
  directoryId: string,
  epoch: bigint,
  root: string,
): ReturnType<DirectoryMemory["judge"]> {
  const { verdict, remembered } = judgeEpoch(state, directoryId, epoch, root);
  return { verdict, lastEpoch: remembered?.epoch ?? 0n, lastSeen: remembered?.time ?? "" };
}

function withOutcome(content: StateContent, outcome: RunOutcome): StateContent {
  switch (outcome.kind) {
    case "seen":
      return withSeen(content, outcome.seen);
    case "released":
      return releaseDirectory(content, outcome.directoryId, outcome.place);
    case "nothing":
      return content;
  }
}

function withSeen(content: StateContent, seen: SeenDirectory): StateContent {
  const { directoryId: id, epoch, root, path, load, written } = seen;
  const memory = { id, epoch, root, time: now(), path: path as BytePath, others: [], load };
  return rememberDirectory(content, memory, written);
}

function now(): string {
  return formatTime(new Date());
}
