/**
 * `tde encrypt-datadir`: options and help only; encrypt-action.ts does the work.
 */
import { Command, Option } from "commander";
import { addKeyLimitOptions } from "../key-limit.ts";
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

export function encryptDatadirCommand(): Command {
  const command = new Command("encrypt-datadir").description(
    "encrypt the data directory of a stopped cluster, a base backup or a snapshot",
  );
  addDataDirectoryOptions(command);
  addOutputDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addStateConsent(addOutputOptions(addWorkOptions(command, { writes: true })));
  addKeyLimitOptions(command);
  addScopeOptions(command);
  addAcceptMoved(addAcceptOptions(command));
  return command
    .addOption(
      new Option("--wal <mode>", "what becomes of pg_wal")
        .choices(["readable", "sealed", "skip"])
        .default("readable"),
    )
    .option("--seal-config", "seal configuration files that hold passwords, too")
    .option("--assume-stopped", "no server uses this copy, whatever its control file says")
    .addHelpText(
      "after",
      `
Example:
  tde encrypt-datadir -D /srv/pg/17/main --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, flags) =>
      (await import("../encrypt-action.ts")).encrypt(datadir, flags),
    );
}
