/**
 * The options that open a keyring, for the commands that do without commander.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { UsageError } from "../errors.ts";
import type { GetoptEvent } from "./getopt.ts";
import type { KeyringFlags, SecretFlags } from "./keyring-flags.ts";
import { pathArgument } from "./raw-arguments.ts";

/** The values of one option, in their order. */
export function valuesOf(events: readonly GetoptEvent[], name: string): string[] {
  return events.flatMap((event) =>
    event.kind === "option" && event.name === name ? [event.value ?? ""] : [],
  );
}

/** All other options are left alone. @throws {UsageError} for a value that is none. */
export function keyringFlagsOf(events: readonly GetoptEvent[]): KeyringFlags & SecretFlags {
  const paths = (name: string): BytePath[] | undefined => {
    const named = valuesOf(events, name);
    return named.length === 0 ? undefined : named.map(pathArgument);
  };
  const descriptors = valuesOf(events, "passphrase-fd");
  const wrong = descriptors.find((text) => !/^[0-9]{1,6}$/.test(text));
  if (wrong !== undefined) throw new UsageError(`invalid file descriptor: "${wrong}"`);
  return {
    keyring: paths("keyring")?.at(-1),
    state: paths("state")?.at(-1),
    keyFile: paths("key-file"),
    passphrase: valuesOf(events, "passphrase").length > 0 ? true : undefined,
    passphraseFile: paths("passphrase-file"),
    passphraseFd: descriptors.length === 0 ? undefined : descriptors.map(Number),
    unwrapCommand: valuesOf(events, "unwrap-command").at(-1),
    wrapCommand: valuesOf(events, "wrap-command").at(-1),
  };
}
