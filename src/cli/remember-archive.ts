/**
 * Archives of WAL in the state file: `tde keyring check` names them, and a key that one needs is not destroyed.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { TdeError } from "../errors.ts";
import { type KeyLoads, sumOfLoads } from "../keyring/key-load.ts";
import { formatTime } from "../keyring/keyring-file.ts";
import { ARCHIVE_ROOT, rememberDirectory, updateState } from "../keyring/state.ts";
import type { OpenedKeyring } from "./open-keyring.ts";
import type { Output } from "./output.ts";

export interface SeenArchive {
  readonly path: BytePath;
  /** 32 hex digits. */
  readonly archiveId: string;
  /** For the lock's message to others. */
  readonly command: string;
  /** All that is under each key; undefined: the current key is in use from now on beside those that were. */
  readonly load?: KeyLoads | undefined;
}

/** Warns where that is not possible: the archive itself is not to wait for it. */
export async function rememberArchive(
  { keyring, dataKeys, statePath }: OpenedKeyring,
  { path, archiveId, command, load }: SeenArchive,
  output: Output,
): Promise<void> {
  const { fs } = keyring.place;
  try {
    const place = { fs, path: statePath, command };
    updateState(place, dataKeys, keyring.file.generation, (content) => {
      const before = content.directories.get(archiveId);
      const current = new Map([[dataKeys.currentKeyId, NOTHING]]);
      const joined = sumOfLoads([before?.load ?? new Map(), current]);
      return rememberDirectory(content, {
        id: archiveId,
        epoch: (before?.epoch ?? 0n) + 1n,
        root: ARCHIVE_ROOT,
        time: formatTime(new Date()),
        path: fs.realPath(path),
        others: [],
        load: load ?? joined,
      });
    });
  } catch (error) {
    if (!(error instanceof TdeError)) throw error;
    await output.warn(
      `the state file does not know what keys this archive needs: ${error.message}`,
    );
  }
}

const NOTHING = { pages: 0, bytes: 0 };
