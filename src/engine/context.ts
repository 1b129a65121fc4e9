/**
 * What every operation of the engine is given: the file system, who does the page work, where progress and notices
 * go, and when to stop. No operation touches a terminal, a clock or a process itself.
 */
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyLoads } from "../keyring/key-load.ts";
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

/** What is remembered of a directory beside the keyring, to know an older copy when it comes back. */
export interface DirectoryMemory {
  /** How an epoch and root compare with the newest that were seen. */
  judge(
    directoryId: string,
    epoch: bigint,
    root: string,
  ): { verdict: EpochVerdict; lastEpoch: bigint; lastSeen: string };
  /** The directory was decrypted: no page of it is under a key any more. */
  released(directoryId: string): void;
  /**
   * Remembers the newest state of a directory, durably. The same state may come twice, and then counts once.
   */
  remember(seen: {
    directoryId: string;
    epoch: bigint;
    root: string;
    path: string;
    /** What each key protects in it now. */
    load: KeyLoads;
    /** What was written under each key since it was last seen; undefined: what is under it now and was not then. */
    written: KeyLoads | undefined;
  }): void;
}

export interface KeyContext {
  readonly keys: DataKeys;
  readonly memory: DirectoryMemory;
}
