/**
 * `tde inspect`: options and help only; inspect-action.ts does the work.
 */
import { Command, InvalidArgumentError, Option } from "commander";
import { addKeyringOptions, addOutputOptions, addSecretOptions } from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

export function inspectCommand(): Command {
  const command = new Command("inspect")
    .description("show one page of a relation file, one sidecar page or one line of the manifest")
    .argument("[datadir]", "the data directory", pathArgument)
    .argument("[relation]", "a relation's name, or its file's path in the directory", pathArgument)
    .option("-D, --pgdata <directory>", "the data directory (or PGDATA)", pathArgument)
    .option("--block <number>", "which block of the fork (default: the file's first)", parseBlock)
    .addOption(
      new Option("--fork <fork>", "of a relation that is named (default: main)").choices([
        "main",
        "fsm",
        "vm",
        "init",
      ]),
    )
    .option(
      "--file <path>",
      "one encrypted file by itself, with its sidecar beside it and no data directory",
      pathArgument,
    )
    .option("--data", "print the bytes of rows, too: users' data")
    .option("--sidecar", "show the sidecar page that has the block's slot, not the page")
    .option("--entry", "show the line of the manifest that names the path; any file has one");
  addSecretOptions(addKeyringOptions(command));
  return addOutputOptions(command)
    .addHelpText(
      "after",
      `
A sealed page is decrypted when a keyring is given, and shown only if its tag holds. Without one
its header and its slot are shown, which are readable.

A name is [database.][schema.]name as in psql; it takes the keyring where the catalog is sealed.

Examples:
  tde inspect /srv/pg/17/main shop.public.orders --block 3 --keyring app.keyring --key-file kek.key
  tde inspect /srv/pg/17/main base/16384/16397 --block 3 --keyring app.keyring --key-file kek.key
  tde inspect /srv/pg/17/main global/1260 --sidecar
  tde inspect /srv/pg/17/main postgresql.conf --entry
  tde inspect --file 16397 --block 3 --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, path, flags) =>
      (await import("../inspect-action.ts")).inspect([datadir, path], flags),
    );
}

function parseBlock(text: string): number {
  const block = Number(text);
  if (/^[0-9]{1,10}$/.test(text) && block < 2 ** 32 - 1) return block;
  throw new InvalidArgumentError("It must be a block number, from 0 on.");
}
