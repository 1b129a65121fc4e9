/**
 * `tde verify`: options and help only; verify-action.ts does the work.
 */
import { Command, InvalidArgumentError } from "commander";
import {
  addAcceptOptions,
  addDataDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addScopeOptions,
  addSecretOptions,
  addWorkOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

export function verifyCommand(): Command {
  const command = new Command("verify").description(
    "check every tag, checksum and file of an encrypted data directory",
  );
  addDataDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addOutputOptions(addWorkOptions(command, { writes: false }));
  addScopeOptions(command);
  addAcceptOptions(command);
  return command
    .option(
      "--file <path>",
      "one encrypted file by itself, with its sidecar beside it and no data directory",
      pathArgument,
    )
    .option("--checksums-only", "checksums and form only: needs no key, finds damage but no forger")
    .option("--expect-root <root>", "the manifest's root must be this one", parseRoot)
    .addHelpText(
      "after",
      `
Examples:
  tde verify -D /srv/pg/17/main --keyring app.keyring --key-file kek.key --format json
  tde verify --file 16397 --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) => (await import("../verify-action.ts")).verify(datadir, flags));
}

function parseRoot(text: string): string {
  if (/^[0-9a-f]{16,64}$/.test(text)) return text;
  throw new InvalidArgumentError("It must be 16 to 64 hex digits, as tde prints them.");
}
