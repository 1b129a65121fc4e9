/**
 * From options to key providers: reads key files and passphrases, asks where the user wants to be asked. Secrets
 * come by file, descriptor, prompt or command, never as an argument.
 */
import { fstatSync, readSync } from "node:fs";
import { isatty } from "node:tty";
import { displayPath } from "../bytes/byte-path.ts";
import type { BytePath } from "../bytes/byte-path.ts";
import { KeyError, StateError, UsageError } from "../errors.ts";
import type { KeyProvider } from "../keyring/key-provider.ts";
import { describeRecipient } from "../keyring/keyring.ts";
import type { Recipient } from "../keyring/keyring-file.ts";
import { readPrivateFile } from "../keyring/private-file.ts";
import { CommandProvider } from "../keyring/providers/command.ts";
import { createKeyFile, KeyFileProvider } from "../keyring/providers/key-file.ts";
import {
  MAX_PASSPHRASE_BYTES,
  PassphraseProvider,
  withoutLineEnd,
} from "../keyring/providers/passphrase.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { uninterrupted } from "../storage/interrupted.ts";
import type { SecretFlags } from "./keyring-flags.ts";
import { assertNotInDatadir } from "./key-places.ts";
import { askPassphrase, openTerminal } from "./passphrase-prompt.ts";

/** A passphrase and its line end. */
const PASSPHRASE_FILE_LIMIT_BYTES: number = MAX_PASSPHRASE_BYTES + 2;
const DESCRIPTOR_WAIT_MS = 60_000;

/**
 * Providers for everything that the flags name.
 * @param askedFor - the recipients that may have to be opened: with --passphrase the user is asked once for any of
 * them, or once for each where all are needed.
 * @throws {KeyError} when a file cannot be used or nothing is typed.
 */
export async function providersFrom(
  fs: FileSystem,
  flags: SecretFlags,
  askedFor: readonly Recipient[],
  needed: "any" | "all",
): Promise<KeyProvider[]> {
  const providers: KeyProvider[] = (flags.keyFile ?? []).map(
    (path) => new KeyFileProvider(fs, path),
  );
  for (const path of flags.passphraseFile ?? []) providers.push(passphraseFromFile(fs, path));
  for (const descriptor of flags.passphraseFd ?? []) {
    providers.push(passphraseFromDescriptor(descriptor));
  }
  const { wrapCommand, unwrapCommand } = flags;
  if (wrapCommand !== undefined || unwrapCommand !== undefined) {
    providers.push(new CommandProvider(fs, { wrapCommand, unwrapCommand }));
  }
  const byPassphrase = askedFor.filter(({ typeName }) => typeName === "scrypt");
  const asks = flags.passphrase === true || (providers.length === 0 && mayAsk(byPassphrase));
  if (!asks) return providers;
  if (needed === "any") return [...providers, await passphraseFromPrompt("passphrase", false)];
  for (const recipient of byPassphrase) {
    const label = `passphrase of ${describeRecipient(recipient)}`;
    providers.push(await passphraseFromPrompt(label, false));
  }
  return providers;
}

/** What a new recipient is to be: exactly one secret. */
export interface NewRecipientFlags extends SecretFlags {
  /** The key file is made, too. */
  readonly newKeyFile?: boolean | undefined;
}

/** The provider of a new recipient, and how to undo what was made for it. */
export interface NewProvider {
  readonly provider: KeyProvider;
  /** Removes a key file that was made for a recipient that did not come to be. */
  undo(): void;
}

/**
 * @param names - how the options are called, for the message: `--to-key-file` instead of `--key-file`.
 * @throws {UsageError} when not exactly one kind of secret is named.
 */
export async function newProviderFrom(
  fs: FileSystem,
  flags: NewRecipientFlags,
  prefix: "--" | "--to-",
): Promise<NewProvider> {
  const { keyFile = [], passphraseFile = [], passphraseFd = [] } = flags;
  const { wrapCommand, unwrapCommand } = flags;
  const commands = wrapCommand !== undefined || unwrapCommand !== undefined;
  const count = keyFile.length + passphraseFile.length + passphraseFd.length + Number(commands);
  if (count + Number(flags.passphrase === true) !== 1) {
    const names = ["key-file", "passphrase", "passphrase-file", "passphrase-fd"];
    const list = names.map((name) => `${prefix}${name}`).join(", ");
    throw new UsageError("exactly one secret is needed for the new recipient", {
      hint: `Give one of ${list}, or both ${prefix}wrap-command and ${prefix}unwrap-command.`,
    });
  }
  const undo = (): void => undefined;
  const [file] = keyFile;
  if (flags.newKeyFile === true && file === undefined) {
    throw new UsageError(`--new-key-file needs ${prefix}key-file`, {
      hint: "It says that the key file does not exist yet and is to be made.",
    });
  }
  if (file !== undefined) return keyFileForNew(fs, file, flags.newKeyFile === true);
  if (commands) {
    if (wrapCommand === undefined || unwrapCommand === undefined) {
      throw new UsageError(`${prefix}wrap-command and ${prefix}unwrap-command go together`);
    }
    return { provider: new CommandProvider(fs, { wrapCommand, unwrapCommand }), undo };
  }
  const [path] = passphraseFile;
  if (path !== undefined) return { provider: passphraseFromFile(fs, path), undo };
  const [descriptor] = passphraseFd;
  if (descriptor !== undefined) return { provider: passphraseFromDescriptor(descriptor), undo };
  return { provider: await passphraseFromPrompt("new passphrase", true), undo };
}

function keyFileForNew(fs: FileSystem, path: BytePath, create: boolean): NewProvider {
  if (create) {
    if (fs.stat(path) !== undefined) throw keyFileExists(fs, path);
    assertNotInDatadir(fs, "key file", path);
    createKeyFile(fs, path);
    return { provider: new KeyFileProvider(fs, path), undo: () => fs.remove(path) };
  }
  if (fs.statFollowing(path) === undefined) {
    throw new KeyError(`key file "${displayPath(path)}" does not exist`, {
      hint: "Give --new-key-file as well to have it made.",
    });
  }
  return { provider: new KeyFileProvider(fs, path), undo: () => undefined };
}

/** A crash between the key file and its keyring leaves the key file alone: says what there is, and how to go on. */
function keyFileExists(fs: FileSystem, path: BytePath): StateError {
  const name = `key file "${displayPath(path)}"`;
  try {
    new KeyFileProvider(fs, path).dispose();
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    return new StateError(`${name} exists already, and cannot be used: ${error.message}`, {
      hint: "If an interrupted command left it, nothing depends on it: remove it and run the command again. Otherwise choose another name.",
    });
  }
  return new StateError(`${name} exists already, and holds a key`, {
    hint: "If an interrupted command left it, run the command without --new-key-file: it then uses this key. Otherwise choose another name; another keyring may depend on it.",
  });
}

/** Without an option nobody is asked but a person who sits at a terminal. */
function mayAsk(byPassphrase: readonly Recipient[]): boolean {
  return byPassphrase.length > 0 && process.stderr.isTTY && process.stdin.isTTY;
}

async function passphraseFromPrompt(label: string, twice: boolean): Promise<KeyProvider> {
  const bytes = await askPassphrase(openTerminal(), label, twice);
  return passphraseProvider(bytes, "the passphrase");
}

function passphraseFromFile(fs: FileSystem, path: BytePath): KeyProvider {
  const bytes = readPrivateFile(fs, path, "passphrase file", PASSPHRASE_FILE_LIMIT_BYTES);
  const what = `the passphrase in "${displayPath(path)}"`;
  return passphraseProvider(bytes, what, () => passphraseFromFile(fs, path));
}

function passphraseFromDescriptor(descriptor: number): KeyProvider {
  const what = `the passphrase from file descriptor ${descriptor}`;
  return passphraseProvider(readDescriptor(descriptor), what);
}

/** Wipes the bytes that it gets. */
function passphraseProvider(
  bytes: Buffer,
  description: string,
  reread?: () => KeyProvider,
): KeyProvider {
  try {
    return new PassphraseProvider(withoutLineEnd(bytes), description, undefined, reread);
  } finally {
    bytes.fill(0);
  }
}

function readDescriptor(descriptor: number): Buffer {
  const name = `file descriptor ${descriptor}`;
  let stat;
  try {
    stat = fstatSync(descriptor);
  } catch (error) {
    throw notReadable(name, error);
  }
  // Node has descriptors of its own; to read one of them could wait for ever.
  if (!stat.isFIFO() && !stat.isFile() && !stat.isSocket()) throw notReadable(name, undefined);
  if (isatty(descriptor)) {
    throw new KeyError(`${name} is a terminal, which would show the passphrase`, {
      hint: "Give --passphrase to be asked for it.",
    });
  }
  const buffer = Buffer.alloc(PASSPHRASE_FILE_LIMIT_BYTES + 1);
  const deadline = Date.now() + DESCRIPTOR_WAIT_MS;
  let length = 0;
  while (length < buffer.length) {
    try {
      const room = buffer.length - length;
      const count = uninterrupted(() => readSync(descriptor, buffer, length, room, null));
      if (count === 0) break;
      length += count;
    } catch (error) {
      const waits = error instanceof Error && "code" in error && error.code === "EAGAIN";
      if (!waits || Date.now() > deadline) {
        buffer.fill(0);
        throw notReadable(name, error);
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
  return buffer.subarray(0, length);
}

function notReadable(name: string, cause: unknown): KeyError {
  return new KeyError(`${name} cannot be read`, {
    cause,
    hint: "Open it in the shell, for example: --passphrase-fd 3 3< passphrase.txt",
  });
}
