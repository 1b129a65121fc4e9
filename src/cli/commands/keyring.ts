/**
 * `tde keyring`: keys, and who can open them. Options and help only; keyring-actions.ts does the work.
 */
import { Command, InvalidArgumentError } from "commander";
import {
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  collectDescriptors,
  collectPaths,
  parseCount,
} from "../options.ts";

export function keyringCommand(): Command {
  const keyring = new Command("keyring").description("keys, and who can open them").addHelpText(
    "after",
    `
Two things that are easily confused:
  tde keyring rewrap   another secret opens the keyring; data stays as it is (seconds)
  tde rotate           pages are written anew under the current key (hours for much data);
                       "tde keyring new-key" before it, which alone writes no page

Example:
  tde keyring create --keyring app.keyring --key-file kek.key --new-key-file`,
  );
  const commands = [
    create(),
    show(),
    check(),
    newKey(),
    listRecipients(),
    addRecipient(),
    removeRecipient(),
    rewrap(),
    retireKey(),
    destroyKey(),
    forgetDirectory(),
  ];
  for (const command of commands) {
    addOutputOptions(addKeyringOptions(command));
    keyring.addCommand(command);
  }
  return keyring;
}

const NEW_KEY_FILE = "make the key file: 32 random bytes, mode 0600";
const DRY_RUN = "check everything and write nothing";

function create(): Command {
  return addSecretOptions(new Command("create"))
    .description("make a keyring with one key and one recipient")
    .option("--new-key-file", NEW_KEY_FILE)
    .option("--label <text>", "a name for the recipient", "")
    .action(async (flags) => (await import("../keyring-actions.ts")).create(flags));
}

function show(): Command {
  return addSecretOptions(new Command("show"))
    .description("print what a keyring holds; with a key, verify it too")
    .action(async (flags) => (await import("../keyring-actions.ts")).show(flags));
}

function check(): Command {
  return addSecretOptions(new Command("check"))
    .description("tell what must be backed up, who can open a keyring, and who needs which keys")
    .option(
      "-D, --pgdata <directory>",
      "look at this encrypted directory, too (may be repeated)",
      collectPaths,
    )
    .option("--all-recipients", "fail unless the secret of every recipient was given and opens it")
    .addHelpText(
      "after",
      `
Asks nobody anything (but with --passphrase), writes nothing, and ends with 0 only when all is well:
for a monthly job. Recipients are tried with the secrets that are given.

Example:
  tde keyring check --keyring app.keyring --key-file kek.key -D /srv/pg/17/main --format json`,
    )
    .action(async (flags) => (await import("../keyring-check.ts")).check(flags));
}

function newKey(): Command {
  return addSecretOptions(new Command("new-key"))
    .description("add a key and make it current; writes no page")
    .action(async (flags) => (await import("../keyring-actions.ts")).newKey(flags));
}

function listRecipients(): Command {
  return new Command("list-recipients")
    .description("print who can open a keyring")
    .action(async (flags) => (await import("../keyring-actions.ts")).listRecipients(flags));
}

function addRecipient(): Command {
  return addTargetOptions(addSecretOptions(new Command("add-recipient")))
    .description("let another secret open a keyring; data stays as it is")
    .option("--label <text>", "a name for the recipient", "")
    .action(async (flags) => (await import("../keyring-actions.ts")).addRecipient(flags));
}

function removeRecipient(): Command {
  return addSecretOptions(new Command("remove-recipient"))
    .description("take recipients away; needs the secrets of all that stay")
    .argument("<number...>", "their numbers (see list-recipients)", collectCounts)
    .action(async (numbers: number[], flags) =>
      (await import("../keyring-actions.ts")).removeRecipients(numbers, flags),
    );
}

function rewrap(): Command {
  return addTargetOptions(addSecretOptions(new Command("rewrap")))
    .description("another secret for one recipient; data stays as it is")
    .argument("<number>", "the recipient's number (see list-recipients)", parseCount)
    .option("--label <text>", "a new name for the recipient")
    .action(async (number: number, flags) =>
      (await import("../keyring-actions.ts")).rewrap(number, flags),
    );
}

function retireKey(): Command {
  return addSecretOptions(new Command("retire-key"))
    .description("keep a key for reading only, and no longer believe what it authenticates")
    .argument("<key-id>", "the key's id (see show)", parseCount)
    .action(async (keyId: number, flags) =>
      (await import("../keyring-actions.ts")).retireKey(keyId, flags),
    );
}

function destroyKey(): Command {
  return addSecretOptions(new Command("destroy-key"))
    .description("drop a key for ever; needs the secrets of all recipients")
    .argument("<key-id>", "the key's id (see show)", parseCount)
    .option(
      "-D, --pgdata <directory>",
      "ask this encrypted directory or archive of WAL, too, whether it uses the key (may be repeated)",
      collectPaths,
    )
    .option(
      "--without-state",
      "ask only what is named with -D: whatever else is under the key is lost",
    )
    .option("-n, --dry-run", DRY_RUN)
    .action(async (keyId: number, flags) =>
      (await import("../keyring-actions.ts")).destroyKey(keyId, flags),
    );
}

function forgetDirectory(): Command {
  return addSecretOptions(new Command("forget-directory"))
    .description("forget directories that are gone for good, and so need no key any more")
    .argument("<directory-id...>", "their ids (see check)", collectDirectoryIds)
    .action(async (ids: string[], flags) =>
      (await import("../keyring-actions.ts")).forgetDirectories(ids, flags),
    );
}

/** The secret of a recipient that is added or changed, apart from those that open the keyring. */
function addTargetOptions(command: Command): Command {
  return command
    .option("--to-key-file <file>", "the recipient's key file", collectPaths)
    .option("--new-key-file", NEW_KEY_FILE)
    .option("--to-passphrase", "ask for the recipient's passphrase, twice")
    .option("--to-passphrase-file <file>", "read it from this file", collectPaths)
    .option("--to-passphrase-fd <number>", "read it from this file descriptor", collectDescriptors)
    .option("--to-wrap-command <command>", "the recipient's command: key in, wrapped key out")
    .option("--to-unwrap-command <command>", "its reverse");
}

function collectDirectoryIds(text: string, before: readonly string[] | undefined): string[] {
  if (/^[0-9a-f]{32}$/.test(text)) return [...(before ?? []), text];
  throw new InvalidArgumentError("It must be 32 hex digits.");
}

function collectCounts(text: string, before: readonly number[] | undefined): number[] {
  return [...(before ?? []), parseCount(text)];
}
