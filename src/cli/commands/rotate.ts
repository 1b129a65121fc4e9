/**
 * `tde rotate`: options and help only; rotate-action.ts does the work.
 */
import { Command } from "commander";
import { addKeyLimitOptions } from "../key-limit.ts";
import {
  addAcceptMoved,
  addDataDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addScopeOptions,
  addSecretOptions,
  addStateConsent,
  addWorkOptions,
  parseCount,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

export function rotateCommand(): Command {
  const command = new Command("rotate").description(
    "write an encrypted directory, or parts of it, anew under the current key",
  );
  addDataDirectoryOptions(command);
  command
    .option("--all", "everything that is encrypted")
    .option("--from-key <key-id>", "every file that still has anything under this key", parseCount);
  command.option(
    "--wal <archive>",
    "an archive of WAL or a folder of segments; what is not under the current key",
    pathArgument,
  );
  addScopeOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addAcceptMoved(command);
  addStateConsent(addKeyLimitOptions(addOutputOptions(addWorkOptions(command, { writes: true }))));
  return command
    .option("--accept-older", "go on although the directory is older than one seen before")
    .addHelpText(
      "after",
      `
The manifest is written under the current key in any case. Archives of WAL have none; each is named by
--wal, with --from-key for one key only.

Example, after "tde keyring new-key":
  tde rotate --from-key 1 -D /srv/pg/17/main --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) => (await import("../rotate-action.ts")).rotate(datadir, flags));
}
