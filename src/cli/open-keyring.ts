/**
 * Opens the keyring that the options name, and what is remembered beside it: what every command does that needs
 * a key.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyProvider } from "../keyring/key-provider.ts";
import { type Keyring, openKeyring, readKeyringFile } from "../keyring/keyring.ts";
import type { Recipient } from "../keyring/keyring-file.ts";
import { absentStateWarning, loadState, oldKeyringWarning, type State } from "../keyring/state.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import {
  type KeyringFlags,
  keyringPathFrom,
  namesKeyring,
  type SecretFlags,
  secretsFrom,
  statePathFrom,
} from "./keyring-flags.ts";
import type { Output } from "./output.ts";
import { type ProgressOptions, withSpinner } from "./progress.ts";
import { providersFrom } from "./secrets.ts";

/**
 * Commands that say nothing of a missing state file here: verify has a notice of it in its report, and what a server calls
 * for each segment asks nothing of it but, once, to remember the archive.
 */
const WITHOUT_WARNING: ReadonlySet<string> = new Set([
  "tde verify",
  "tde wal archive",
  "tde wal restore",
]);

export type OpenKeyringFlags = KeyringFlags & SecretFlags & ProgressOptions;

export interface OpenedKeyring {
  readonly keyring: Keyring;
  readonly dataKeys: DataKeys;
  /** What earlier runs remember; empty where there is no state file or it cannot be believed. */
  readonly state: State;
  readonly statePath: BytePath;
}

/**
 * @param command - for a lock's message to others: `tde verify`.
 * @throws {KeyError | FormatError | IntegrityError} as `openKeyring` does; {UsageError} when none is named.
 */
export async function openKeyringFromOptions(
  flags: OpenKeyringFlags,
  command: string,
  output: Output,
  fs: FileSystem = new NodeFileSystem(),
): Promise<OpenedKeyring> {
  const action = async (opened: OpenedKeyring): Promise<OpenedKeyring> => opened;
  return await withOpenKeyring(flags, command, output, fs, () => undefined, action);
}

/** As openKeyringFromOptions, for a command that a server calls: nobody is asked, whatever terminal there is. */
export async function openKeyringUnattended(
  flags: KeyringFlags & SecretFlags,
  command: string,
  output: Output,
  fs: FileSystem,
): Promise<OpenedKeyring> {
  const action = async (opened: OpenedKeyring): Promise<OpenedKeyring> => opened;
  const noSpinner = { ...flags, quiet: true };
  const askedFor = (): readonly Recipient[] => [];
  return await withOpenKeyring(noSpinner, command, output, fs, askedFor, action);
}

/** As above, for commands that do without: undefined where neither options nor environment name a keyring. */
export async function openKeyringIfNamed(
  flags: OpenKeyringFlags,
  command: string,
  output: Output,
  fs: FileSystem,
): Promise<OpenedKeyring | undefined> {
  return namesKeyring(flags) ? await openKeyringFromOptions(flags, command, output, fs) : undefined;
}

/**
 * As openKeyringFromOptions, for operations that wrap for recipients and so need the secrets themselves, which are wiped at the end.
 * @param needed - the recipients whose secrets are all needed; undefined: any one that opens the keyring.
 */
export async function withOpenKeyring<T>(
  flags: OpenKeyringFlags,
  command: string,
  output: Output,
  fs: FileSystem,
  needed: (recipients: readonly Recipient[]) => readonly Recipient[] | undefined,
  action: (opened: OpenedKeyring, providers: readonly KeyProvider[]) => Promise<T>,
): Promise<T> {
  const path = keyringPathFrom(flags);
  const { recipients } = readKeyringFile(fs, path);
  const all = needed(recipients);
  const mode = all === undefined ? "any" : "all";
  const providers = await providersFrom(fs, secretsFrom(flags), all ?? recipients, mode);
  try {
    const keyring = await withSpinner("opening the keyring", flags, () =>
      openKeyring({ fs, path, command }, providers),
    );
    const dataKeys = keyring.dataKeys();
    const statePath = statePathFrom(flags);
    const state = loadState(fs, statePath, dataKeys);
    if (state.warning !== undefined) await output.warn(state.warning);
    const old = oldKeyringWarning(keyring.file.generation, state, keyring.name);
    if (old !== undefined && state.warning === undefined) await output.warn(old);
    if (state.status === "absent" && !WITHOUT_WARNING.has(command)) {
      await output.warn(absentStateWarning(statePath));
      output.note("tde: hint: Bring it back, or name it with --state (or TDE_STATE).");
    }
    return await action({ keyring, dataKeys, state, statePath }, providers);
  } finally {
    for (const provider of providers) provider.dispose();
  }
}
