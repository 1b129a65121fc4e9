/**
 * Carries out `tde wal archive` and `tde wal restore`, which a server calls for each file of its WAL: they ask nobody
 * and load no more than they need.
 */
import { type BytePath, displayPath, nameOf } from "../bytes/byte-path.ts";
import { bestMethod } from "../compression/stream.ts";
import { archiveWal } from "../engine/wal-archive/archive-wal.ts";
import { restoreWal } from "../engine/wal-archive/restore-wal.ts";
import type { Compression } from "../format/container.ts";
import { absentStateWarning } from "../keyring/state.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { NOT_IN_THE_ARCHIVE } from "./exit-codes.ts";
import { openKeyringUnattended } from "./open-keyring.ts";
import type { KeyringFlags, SecretFlags } from "./keyring-flags.ts";
import { createOutput, type OutputOptions } from "./output.ts";
import { rememberArchive } from "./remember-archive.ts";

export interface ArchiveFlags extends KeyringFlags, SecretFlags, OutputOptions {
  readonly compress?: Compression | undefined;
}

export async function archive(
  source: BytePath,
  destination: BytePath,
  flags: ArchiveFlags,
): Promise<void> {
  const output = createOutput(flags);
  const fs = new NodeFileSystem();
  const command = "tde wal archive";
  const opened = await openKeyringUnattended(flags, command, output, fs);
  const { outcome, contentBytes } = await archiveWal(
    {
      fs,
      keys: opened.dataKeys,
      async joins(path, archiveId) {
        const { state, statePath } = opened;
        if (state.status === "absent") await output.warn(absentStateWarning(statePath));
        await rememberArchive(opened, { path, archiveId, command }, output);
      },
    },
    { source, destination, compression: flags.compress ?? bestMethod() },
  );
  const how = outcome === "archived" ? "archived" : "archived already, with the same content";
  output.detail(`${displayPath(nameOf(source))}: ${how} (${contentBytes} bytes)`);
}

export interface RestoreFlags extends KeyringFlags, SecretFlags, OutputOptions {
  readonly allowPlain?: boolean | undefined;
}

export async function restore(
  source: BytePath,
  target: BytePath,
  flags: RestoreFlags,
): Promise<void> {
  const output = createOutput(flags);
  const fs = new NodeFileSystem();
  const { dataKeys } = await openKeyringUnattended(flags, "tde wal restore", output, fs);
  const request = { source, target, allowPlain: flags.allowPlain === true };
  const outcome = await restoreWal(fs, dataKeys, request);
  const name = displayPath(nameOf(source));
  if (outcome === "missing") {
    output.note(`tde: ${name} is not in the archive`);
    process.exitCode = NOT_IN_THE_ARCHIVE;
  } else {
    output.detail(
      `${name}: ${outcome === "restored" ? "restored" : "copied, it was not encrypted"}`,
    );
  }
}
