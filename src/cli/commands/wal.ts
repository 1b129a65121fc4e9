/**
 * `tde wal`: write-ahead log outside of a data directory. Options and help only; the files named after each command do
 * the work.
 */
import { Command, Option } from "commander";
import {
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  addUnattendedSecretOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";
import { decryptWalCommand, encryptWalCommand } from "./wal-readable.ts";

export function walCommand(): Command {
  const wal = new Command("wal")
    .description("write-ahead log: encrypted archives and segments")
    .addHelpText(
      "after",
      `
Example, in postgresql.conf:
  archive_command = 'tde wal archive %p /archive/%f --keyring /etc/tde/app.keyring --key-file /etc/tde/kek.key'
  restore_command = 'tde wal restore /archive/%f %p --keyring /etc/tde/app.keyring --key-file /etc/tde/kek.key'`,
    );
  for (const command of [
    archive(),
    restore(),
    verify(),
    encryptWalCommand(),
    decryptWalCommand(),
  ]) {
    wal.addCommand(command);
  }
  return wal;
}

function archive(): Command {
  const command = new Command("archive")
    .description("compress and seal one file into an archive: for archive_command")
    .argument("<path>", "what the server has finished: %p", pathArgument)
    .argument("<archived>", "where it goes, under its own name: ARCHIVE/%f", pathArgument)
    .addOption(
      new Option(
        "--compress <method>",
        "how (default: zstd where Node.js has it, else gzip)",
      ).choices(["zstd", "lz4", "gzip", "none"]),
    );
  addCommonOptions(command);
  return command
    .addHelpText(
      "after",
      `
Ends with 0 only when the file is in the archive, whole and durable, and was read back; the same file
once more is fine, other content under its name is an error. The server calls again after a failure.`,
    )
    .action(async (...args: Parameters<typeof import("../wal-actions.ts").archive>) =>
      (await import("../wal-actions.ts")).archive(...args),
    );
}

function restore(): Command {
  const command = new Command("restore")
    .description("bring one file of an archive back: for restore_command")
    .argument("<archived>", "the file in the archive: ARCHIVE/%f", pathArgument)
    .argument("<path>", "where the server wants it: %p", pathArgument)
    .option("--allow-plain", "take files that are not encrypted, too");
  addCommonOptions(command);
  return command
    .addHelpText(
      "after",
      `
Exit codes are made for restore_command: 1 where the archive has no such file, which ends a recovery in
the ordinary way; 200 and more (200 + tde's usual code, 255 a bug) for trouble, at which the server stops
instead of taking the rest of its WAL for missing.`,
    )
    .action(async (...args: Parameters<typeof import("../wal-actions.ts").restore>) =>
      (await import("../wal-actions.ts")).restore(...args),
    );
}

function verify(): Command {
  const command = new Command("verify")
    .description(
      "check an archive, or a folder of encrypted segments: every tag, every record, every gap",
    )
    .argument("<archive>", "the directory", pathArgument)
    .option("--allow-plain", "files that are not encrypted are no problem");
  addOutputOptions(addSecretOptions(addKeyringOptions(command)));
  return command
    .addHelpText(
      "after",
      `
What no archive can tell: whether its newest files are missing. Compare the ends that are printed with
pg_stat_archiver of the server. Beside segments of "tde wal encrypt" plain histories are no problem.

Example:
  tde wal verify /archive --keyring app.keyring --key-file kek.key --format json`,
    )
    .action(async (...args: Parameters<typeof import("../wal-verify-action.ts").verifyWal>) =>
      (await import("../wal-verify-action.ts")).verifyWal(...args),
    );
}

/** A server has no terminal: nothing is asked. */
function addCommonOptions(command: Command): void {
  addUnattendedSecretOptions(addKeyringOptions(command));
  command
    .option("-q, --quiet", "print warnings and errors only")
    .option("-v, --verbose", "say what was done");
}
