/**
 * Where the keyring is and what opens it, by flags or by the environment: apart from the options themselves, because
 * what a server calls for each file of its WAL does without the package that reads those.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { UsageError } from "../errors.ts";
import { pathArgument, rawEnvironment } from "./raw-arguments.ts";

/** Where a keyring is, and its state. */
export interface KeyringFlags {
  readonly keyring?: BytePath | undefined;
  readonly state?: BytePath | undefined;
}

/** Secrets that open a keyring; each may be given several times where several are needed. */
export interface SecretFlags {
  readonly keyFile?: readonly BytePath[] | undefined;
  readonly passphrase?: boolean | undefined;
  readonly passphraseFile?: readonly BytePath[] | undefined;
  readonly passphraseFd?: readonly number[] | undefined;
  readonly wrapCommand?: string | undefined;
  readonly unwrapCommand?: string | undefined;
}

/** @throws {UsageError} when no keyring is named. */
export function keyringPathFrom(flags: KeyringFlags): BytePath {
  const path = flags.keyring ?? pathFromEnvironment("TDE_KEYRING");
  if (path !== undefined) return path;
  throw new UsageError("no keyring is named", { hint: "Give --keyring or set TDE_KEYRING." });
}

/** Whether anything on the command line or in the environment says that a keyring is to be opened. */
export function namesKeyring(flags: KeyringFlags & SecretFlags): boolean {
  const { keyFile, passphrase, passphraseFile, passphraseFd, wrapCommand, unwrapCommand } = flags;
  const keyring = flags.keyring ?? pathFromEnvironment("TDE_KEYRING");
  const secrets = [keyFile, passphrase, passphraseFile, passphraseFd, wrapCommand, unwrapCommand];
  return [keyring, ...secrets].some((value) => value !== undefined);
}

export function statePathFrom(flags: KeyringFlags): BytePath {
  return (
    flags.state ??
    pathFromEnvironment("TDE_STATE") ??
    (`${keyringPathFrom(flags)}.state` as BytePath)
  );
}

/** The secrets on the command line or, if there is none at all, those that the environment names. */
export function secretsFrom(flags: SecretFlags): SecretFlags {
  const commands = {
    wrapCommand: flags.wrapCommand ?? rawEnvironment("TDE_WRAP_COMMAND"),
    unwrapCommand: flags.unwrapCommand ?? rawEnvironment("TDE_UNWRAP_COMMAND"),
  };
  // A command that is given takes its other half from the environment.
  if ((flags.wrapCommand ?? flags.unwrapCommand) !== undefined) return { ...flags, ...commands };
  const others = [flags.keyFile, flags.passphrase, flags.passphraseFile, flags.passphraseFd];
  if (others.some((value) => value !== undefined)) return flags;
  const keyFile = pathFromEnvironment("TDE_KEY_FILE");
  const passphraseFile = pathFromEnvironment("TDE_PASSPHRASE_FILE");
  return {
    keyFile: keyFile && [keyFile],
    passphraseFile: passphraseFile && [passphraseFile],
    ...commands,
  };
}

export function pathFromEnvironment(name: string): BytePath | undefined {
  const text = rawEnvironment(name);
  return text === undefined ? undefined : pathArgument(text);
}
