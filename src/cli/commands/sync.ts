/**
 * `tde sync`: options and help only; sync-action.ts does the work.
 */
import { Command } from "commander";
import { addKeyLimitOptions } from "../key-limit.ts";
import {
  addAcceptMoved,
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  addStateConsent,
  addTablespaceMapping,
  addWorkOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

export function syncCommand(): Command {
  const command = new Command("sync")
    .description("bring an encrypted copy up to date with its newer plain original")
    .argument("<source>", "the plain data directory, which is only read", pathArgument)
    .argument("<encrypted>", "its encrypted copy", pathArgument);
  addTablespaceMapping(command, "where a tablespace goes that the copy does not have yet");
  addSecretOptions(addKeyringOptions(command));
  addAcceptMoved(command);
  addStateConsent(addKeyLimitOptions(addOutputOptions(addWorkOptions(command, { writes: true }))));
  return command
    .option("--assume-stopped", "no server uses the source, whatever its control file says")
    .option("--accept-older", "the copy may be older than one seen before: a restored backup")
    .addHelpText(
      "after",
      `
Every page of the copy is decrypted and compared with the source's, byte by byte:
a page is unchanged only if all of it is. Only what differs is written, under the
current key. A copy that fails verification is left as it is. Interrupted, the
same command goes on; until then no other command takes the copy.

Example:
  tde sync /srv/pg/17/main /backup/main.tde --keyring app.keyring --key-file kek.key`,
    )
    .action(async (source, encrypted, flags) =>
      (await import("../sync-action.ts")).sync(source, encrypted, flags),
    );
}
