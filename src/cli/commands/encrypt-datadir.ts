/**
 * `tde encrypt-datadir`: options and help only; encrypt-action.ts does the work.
 */
import { Command, Option } from "commander";
import { addKeyLimitOptions } from "../key-limit.ts";
import {
  addDataDirectoryOptions,
  addOutputDirectoryOptions,
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  addWorkOptions,
} from "../options.ts";

export function encryptDatadirCommand(): Command {
  const command = new Command("encrypt-datadir").description(
    "encrypt the data directory of a stopped cluster, a base backup or a snapshot",
  );
  addDataDirectoryOptions(command);
  addOutputDirectoryOptions(command);
  addSecretOptions(addKeyringOptions(command));
  addKeyLimitOptions(addOutputOptions(addWorkOptions(command, { writes: true })));
  return command
    .addOption(
      new Option("--wal <mode>", "what becomes of pg_wal")
        .choices(["sealed", "skip"])
        .default("sealed"),
    )
    .option("--seal-config", "seal configuration files that hold passwords, too")
    .option("--assume-stopped", "no server uses this copy, whatever its control file says")
    .option("--accept-older", "go on although the directory is older than one seen before")
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
