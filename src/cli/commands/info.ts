/**
 * `tde info`: options and help only; info-action.ts does the work.
 */
import { Command } from "commander";
import { addDataDirectoryOptions, addOutputOptions } from "../options.ts";

export function infoCommand(): Command {
  const command = new Command("info").description(
    "say what a data directory is and which keys it needs; needs none itself",
  );
  addOutputOptions(addDataDirectoryOptions(command));
  return command
    .addHelpText(
      "after",
      `
Nothing of it is authenticated: what the manifest says is proved by "tde verify".

Example:
  tde info /srv/pg/17/main`,
    )
    .action(async (datadir, flags) => (await import("../info-action.ts")).info(datadir, flags));
}
