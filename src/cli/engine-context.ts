/**
 * What the engine is given when it is called from the command line: the real file system, worker threads, the
 * terminal's progress and an interrupt; and the keyring's memory of directories, which it keeps in the state file.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { DirectoryMemory, EngineContext, KeyContext } from "../engine/context.ts";
import { describeMessageCipher } from "../crypto/primitives.ts";
import { formatTime } from "../keyring/keyring-file.ts";
import {
  judgeEpoch,
  releaseDirectory,
  rememberDirectory,
  type StateContent,
  updateState,
} from "../keyring/state.ts";
import { TdeError } from "../errors.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
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
  return {
    fs,
    startRunner: (context, onBytes) =>
      threads === undefined
        ? new InlineRunner(fs, context, onBytes)
        : new ThreadRunner(threads, context, onBytes),
    progress: await openProgress(flags),
    notice: (message) => output.note(message),
    signal: interruptSignal(),
    command,
  };
}

export function keyContext(
  opened: OpenedKeyring,
  engine: EngineContext,
  output: Output,
): KeyContext {
  const { keyring, dataKeys, state, statePath } = opened;
  const update = (change: (content: StateContent) => StateContent): void => {
    const place = { fs: engine.fs, path: statePath, command: engine.command };
    try {
      updateState(place, dataKeys, keyring.file.generation, change);
    } catch (error) {
      // The directory itself is done. A keyring that is mounted read-only has its state elsewhere (--state).
      if (!(error instanceof TdeError)) throw error;
      output.note(`tde: warning: the state file was not updated: ${error.message}`);
    }
  };
  return {
    keys: dataKeys,
    memory: {
      ...rememberedBy(state),
      released(directoryId) {
        update((content) => releaseDirectory(content, directoryId));
      },
      remember({ directoryId: id, epoch, root, path, load, written }) {
        const time = formatTime(new Date());
        const seen = { id, epoch, root, time, path: path as BytePath, load };
        update((content) => rememberDirectory(content, seen, written));
      },
    },
  };
}

/** A state file that is only read. */
export function rememberedBy(state: StateContent): DirectoryMemory {
  return {
    judge(directoryId, epoch, root) {
      const { verdict, remembered } = judgeEpoch(state, directoryId, epoch, root);
      return {
        verdict,
        lastEpoch: remembered?.epoch ?? 0n,
        lastSeen: remembered?.time ?? "",
      };
    },
    released() {},
    remember() {},
  };
}
