/**
 * How much may be written under one key: --key-limit and --auto-rotate of the commands that seal, and what the state
 * file remembers of them. The limit is the user's own policy; what keeps GCM safe is a derived key for each file.
 */
import { type Command, InvalidArgumentError } from "commander";
import { UsageError } from "../errors.ts";
import { loadOf } from "../keyring/key-load.ts";
import { loadState, updateState } from "../keyring/state.ts";
import { loadText } from "./key-load-text.ts";
import type { OpenedKeyring } from "./open-keyring.ts";
import type { Output } from "./output.ts";

export interface KeyLimitFlags {
  /** 0: none from now on. */
  readonly keyLimit?: number | undefined;
  readonly autoRotate?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

export function addKeyLimitOptions(command: Command): Command {
  return command
    .option(
      "--key-limit <pages>",
      "warn once that many pages were written under one key; remembered, 0 for no limit",
      parseLimit,
    )
    .option("--auto-rotate", "past that limit make a new key and write under it");
}

/**
 * Remembers the limit and, where it is reached, makes a new key or warns. To be called before anything is written.
 * @returns the keyring to write with.
 * @throws {UsageError} when there is no limit to go by. @throws {StateError} {StorageError} when no key can be made.
 */
export async function underKeyLimit(
  opened: OpenedKeyring,
  flags: KeyLimitFlags,
  command: string,
  output: Output,
): Promise<OpenedKeyring> {
  const { keyring, dataKeys, state } = opened;
  const limit = flags.keyLimit ?? state.keyLimitPages ?? 0;
  if (flags.autoRotate === true && limit === 0) {
    throw new UsageError("--auto-rotate needs a limit", { hint: "Give --key-limit as well." });
  }
  if (flags.dryRun === true) return opened;
  const isNew = flags.keyLimit !== undefined && limit !== (state.keyLimitPages ?? 0);
  if (isNew) remember(opened, limit, command);
  const written = loadOf(state.keyLoad, dataKeys.currentKeyId);
  if (flags.autoRotate !== true || written.pages < limit) return opened;
  const next = keyring.newKey(state);
  const nextKeys = next.dataKeys();
  const place = {
    fs: keyring.place.fs,
    path: opened.statePath,
    command,
    keyring: "changed",
  } as const;
  const nextState = updateState(place, nextKeys, next.file.generation, (content) => content);
  output.note(
    `${loadText(written)} were written under key ${dataKeys.currentKeyId}, past the limit of ${limit}: ` +
      `key ${next.currentKeyId} is the current key now. Back up the keyring.`,
  );
  return { ...opened, keyring: next, dataKeys: nextKeys, state: nextState };
}

/** To be called when a command that seals is done. */
export async function warnPastKeyLimit(
  { keyring, dataKeys, statePath }: OpenedKeyring,
  output: Output,
): Promise<void> {
  const state = loadState(keyring.place.fs, statePath, dataKeys);
  const { currentKeyId } = dataKeys;
  const written = loadOf(state.keyLoad, currentKeyId);
  const limit = state.keyLimitPages;
  if (limit === undefined || written.pages < limit) return;
  await output.warn(
    `${loadText(written)} were written under key ${currentKeyId}, past the limit of ${limit}: ` +
      'make a new key with "tde keyring new-key", or give --auto-rotate',
  );
}

function remember(
  { keyring, dataKeys, statePath }: OpenedKeyring,
  limit: number,
  command: string,
): void {
  const place = { fs: keyring.place.fs, path: statePath, command };
  const keyLimitPages = limit === 0 ? undefined : limit;
  updateState(place, dataKeys, keyring.file.generation, (content) => ({
    ...content,
    keyLimitPages,
  }));
}

function parseLimit(text: string): number {
  const pages = Number(text);
  if (/^[0-9]{1,16}$/.test(text) && Number.isSafeInteger(pages)) return pages;
  throw new InvalidArgumentError("It must be a number of pages, or 0.");
}
