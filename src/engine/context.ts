/**
 * What every operation of the engine is given: the file system, who does the page work, where progress and notices
 * go, and when to stop. No operation touches a terminal, a clock or a process itself.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyLoads } from "../keyring/key-load.ts";
import type { OpenRun } from "../keyring/state.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { RunContext } from "../workers/perform.ts";
import type { OnBytes, TaskRunner } from "../workers/runner.ts";
import type { ProgressSink } from "./progress-sink.ts";

export interface EngineContext {
  readonly fs: FileSystem;
  /** Starts the workers of one run; the engine closes them. */
  readonly startRunner: (context: RunContext, onBytes: OnBytes) => TaskRunner;
  readonly progress: ProgressSink;
  /** Something the user should know that is no error. */
  readonly notice: (message: string) => void;
  /** Aborted by an interrupt: the step in hand is finished, the run can be resumed. */
  readonly signal: AbortSignal | undefined;
  /** What the user called, for the lock and for messages: `tde encrypt-datadir`. */
  readonly command: string;
}

export type EpochVerdict = "unknown" | "newer" | "same" | "older" | "forked";

/** The state of a directory after a completed command. */
export interface SeenDirectory {
  readonly directoryId: string;
  readonly epoch: bigint;
  /** 64 hex digits. */
  readonly root: string;
  readonly path: string;
  /** What each key protects in it now. */
  readonly load: KeyLoads;
  /** What was written under each key since it was last seen; undefined: what is under it now and was not then. */
  readonly written: KeyLoads | undefined;
}

/** What is remembered beside the keyring once all of a run is in its place. */
export type RunOutcome =
  | { readonly kind: "seen"; readonly seen: SeenDirectory }
  /**
   * The directory at that place (absolute, without a link) was decrypted. Only where it is the one that is remembered, and no
   * copy of it, does no page of it need a key any more.
   */
  | { readonly kind: "released"; readonly directoryId: string; readonly place: BytePath }
  /** Nothing was changed, or all of it undone. */
  | { readonly kind: "nothing" };

/**
 * What is remembered of directories and runs beside the keyring: to know an older copy when it comes back, and a journal
 * whose run is over.
 */
export interface DirectoryMemory {
  /** Why nothing that is not remembered can be told from what never was: the file is missing, or cannot be believed. */
  doubt(): MemoryDoubt | undefined;
  /** The user wants the run although nothing tells whether it is one of this keyring's. */
  readonly isDoubtAccepted: boolean;
  /** How an epoch and root compare with the newest that were seen. */
  judge(
    directoryId: string,
    epoch: bigint,
    root: string,
  ): { verdict: EpochVerdict; lastEpoch: bigint; lastSeen: string };
  /** Where a directory, or copies of it, were when something was written to them; absolute, the newest first. */
  places(directoryId: string): readonly BytePath[];
  /**
   * What was last seen in a place (absolute, without a link) where it is not this directory as it is now, so that this one has
   * taken its place since: another encrypted directory, or this one, decrypted.
   */
  replacedAt(place: BytePath, directoryId: string): Replaced | undefined;
  /** The highest epoch of a run that is open on this directory or on a copy of it; 0 where there is none. */
  highestOpenEpoch(directoryId: string): bigint;
  /** Remembers the newest state of a directory, durably. The same state may come twice, and then counts once. */
  remember(seen: SeenDirectory): void;
  /** A run that has begun and whose journal is not known to be gone. */
  openRun(runId: string): OpenRun | undefined;
  /** Runs that are registered in a place. */
  openRunsAt(place: BytePath): readonly OpenRun[];
  /** Registers a run, durably, before its first write. @throws {StateError} {IntegrityError} {StorageError} */
  beginRun(run: Omit<OpenRun, "time" | "ended">): void;
  /** All of the run is in its place, durably; from here on its journal opens nothing. */
  endRun(runId: string, outcome: RunOutcome): void;
  /** The run's journal is gone, durably. */
  closeRun(runId: string): void;
}

/** What a directory was put in the place of. */
export type Replaced =
  | { readonly kind: "other"; readonly id: string; readonly lastSeen: string }
  | { readonly kind: "decrypted" };

export interface MemoryDoubt {
  readonly kind: "absent" | "unusable" | "newer-keyring";
  /** Of the state file, as messages show it. */
  readonly path: string;
  /** One line. */
  readonly message: string;
}

export interface KeyContext {
  readonly keys: DataKeys;
  readonly memory: DirectoryMemory;
}
