/**
 * `tde recover`: options and help only; recover-action.ts does the work.
 */
import { Command } from "commander";
import {
  addDataDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  addStateConsent,
  addWorkOptions,
} from "../options.ts";

export function recoverCommand(): Command {
  const command = new Command("recover").description("finish or undo what a crash interrupted");
  addDataDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addStateConsent(addOutputOptions(addWorkOptions(command, { writes: false })));
  return command
    .addHelpText(
      "after",
      `
An encryption, decryption or rotation in place is finished; a directory that
--output was filling is emptied again. A sync that was interrupted while it wrote
needs its source: what was half written is made whole, and tde sync must be run
again.

Example:
  tde recover -D /srv/pg/17/main --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) =>
      (await import("../recover-action.ts")).recover(datadir, flags),
    );
}
