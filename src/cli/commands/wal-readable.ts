/**
 * `tde wal encrypt` and `tde wal decrypt`: options and help only; wal-readable-actions.ts does the work.
 */
import { Command } from "commander";
import type { BytePath } from "../../bytes/byte-path.ts";
import {
  addKeyringOptions,
  addOutputOptions,
  addSecretOptions,
  addWorkOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

const SEGMENTS = "a directory with segments, or some segments of one";

export function encryptWalCommand(): Command {
  const command = new Command("encrypt")
    .description("encrypt segments in place so that stock pg_waldump still reads their structure")
    .argument("<path...>", SEGMENTS, collectArguments);
  addCommonWalOptions(command);
  return command
    .addHelpText(
      "after",
      `
Rows, index keys, full-page images and messages are encrypted; types, sizes and places of records stay
readable. Each segment gets a sidecar, <segment>_tde, that has to stay beside it. No server takes such
WAL: decrypt it first. An interrupted run is taken up by running the command again.

Example:
  tde wal encrypt /srv/wal-copy --keyring app.keyring --key-file kek.key`,
    )
    .action(async (...args: Parameters<typeof import("../wal-readable-actions.ts").encrypt>) =>
      (await import("../wal-readable-actions.ts")).encrypt(...args),
    );
}

export function decryptWalCommand(): Command {
  const command = new Command("decrypt")
    .description("give encrypted segments back as they were, bit for bit, in place")
    .argument("<path...>", SEGMENTS, collectArguments);
  addCommonWalOptions(command);
  return command
    .addHelpText(
      "after",
      `
Also for segments that were copied out of the pg_wal of an encrypted data directory: those in readable mode
with their sidecars, <segment>_tde, and those that are sealed whole. What is plain stays as it is.

Example:
  tde wal decrypt /srv/wal-copy --keyring app.keyring --key-file kek.key`,
    )
    .action(async (...args: Parameters<typeof import("../wal-readable-actions.ts").decrypt>) =>
      (await import("../wal-readable-actions.ts")).decrypt(...args),
    );
}

function addCommonWalOptions(command: Command): void {
  addSecretOptions(addKeyringOptions(command));
  addOutputOptions(addWorkOptions(command, { writes: false }));
}

function collectArguments(value: string, before: readonly BytePath[] = []): readonly BytePath[] {
  return [...before, pathArgument(value)];
}
