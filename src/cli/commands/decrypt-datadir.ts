/**
 * `tde decrypt-datadir`: options and help only; decrypt-action.ts does the work.
 */
import { Command } from "commander";
import {
  addAcceptOptions,
  addDataDirectoryOptions,
  addOutputDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addScopeOptions,
  addSecretOptions,
  addWorkOptions,
} from "../options.ts";

export function decryptDatadirCommand(): Command {
  const command = new Command("decrypt-datadir").description(
    "give an encrypted data directory back, byte for byte",
  );
  addDataDirectoryOptions(command);
  addOutputDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addOutputOptions(addWorkOptions(command, { writes: true }));
  addScopeOptions(command, { hidden: true });
  addAcceptOptions(command);
  return command
    .option(
      "--restore-control",
      "put the original global/pg_control back, whatever was changed in it",
    )
    .option(
      "--keep-recovery-settings",
      "keep recovery settings and signal files that were added after encryption",
    )
    .addHelpText(
      "after",
      `
Example:
  tde decrypt-datadir -D /srv/pg/17/main --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) =>
      (await import("../decrypt-action.ts")).decrypt(datadir, flags),
    );
}
