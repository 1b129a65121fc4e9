/**
 * `tde decrypt-datadir`: options and help only; decrypt-action.ts does the work.
 */
import { Command, Option } from "commander";
import { DAMAGE_POLICIES } from "../../engine/damage.ts";
import {
  addAcceptMoved,
  addAcceptOptions,
  addDataDirectoryOptions,
  addOutputDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addScopeOptions,
  addSecretOptions,
  addStateConsent,
  addWorkOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

export function decryptDatadirCommand(): Command {
  const command = new Command("decrypt-datadir")
    .alias("decrypt")
    .description("give an encrypted data directory, or one file of one, back, byte for byte");
  addDataDirectoryOptions(command);
  addOutputDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addStateConsent(addOutputOptions(addWorkOptions(command, { writes: true })));
  addScopeOptions(command);
  addAcceptMoved(addAcceptOptions(command));
  return command
    .option("--restore-control", "put the original global/pg_control back, whatever became of it")
    .option(
      "--keep-recovery-settings",
      "keep recovery settings and signal files that were added after encryption",
    )
    .addOption(
      new Option(
        "--damaged <policy>",
        "of damaged files: decrypt nothing at all (fail, the default); put zeros for what is lost and keep the sealed files in tde.damaged (keep), or not (zero); or put the sealed files there and nothing in their places (skip)",
      ).choices(DAMAGE_POLICIES),
    )
    .option(
      "--preflight",
      "read everything to its last tag before anything is written (default in place, and with -n)",
    )
    .option("--no-preflight", "do not: damage then stops the decryption half way")
    .option(
      "--file <path>",
      "one encrypted file by itself, with its sidecar beside it; --output names the new file",
      pathArgument,
    )
    .addHelpText(
      "after",
      `
With --relation and the like, only the plain files of those relations are written, into --output:
to look at them, or to put one back. It is no data directory, and no server starts on it.

Examples:
  tde decrypt-datadir -D /srv/pg/17/main --keyring app.keyring --key-file kek.key
  tde decrypt-datadir -D /srv/pg/17/main --damaged keep --keyring app.keyring --key-file kek.key
  tde decrypt-datadir -D /srv/pg/17/main --relation shop.public.orders --output orders --keyring app.keyring --key-file kek.key
  tde decrypt --file 16397 --output 16397.plain --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) =>
      (await import("../decrypt-action.ts")).decrypt(datadir, flags),
    );
}
