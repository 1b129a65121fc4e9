/**
 * Carries out `tde rotate --wal` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { rotateArchive, type RotateArchiveReport } from "../engine/wal-archive/rotate-archive.ts";
import { hasReadableSegments, rotateWal } from "../engine/wal-readable/rotate-wal.ts";
import { requireNewestKeyring } from "../keyring/state.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { engineContext } from "./engine-context.ts";
import { interruptSignal } from "./interrupt.ts";
import { type KeyLimitFlags, underKeyLimit, warnPastKeyLimit } from "./key-limit.ts";
import { loadsToJson } from "./key-load-text.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import type { KeyringFlags, OutputFlags, SecretFlags, WorkFlags } from "./options.ts";
import type { Output } from "./output.ts";
import { formatBytes } from "./progress.ts";
import { rememberArchive } from "./remember-archive.ts";

export interface RotateWalFlags
  extends KeyringFlags, SecretFlags, OutputFlags, WorkFlags, KeyLimitFlags {
  readonly fromKey?: number | undefined;
}

export async function rotateWalArchive(
  archive: BytePath,
  flags: RotateWalFlags,
  output: Output,
): Promise<void> {
  const command = "tde rotate --wal";
  const fs = new NodeFileSystem();
  const found = await openKeyringFromOptions(flags, command, output, fs);
  requireNewestKeyring(found.keyring.file.generation, found.state, found.keyring.name);
  const opened = await underKeyLimit(found, flags, command, output);
  const { dataKeys: keys } = opened;
  const request = { archive, fromKey: flags.fromKey, dryRun: flags.dryRun === true };
  const report = hasReadableSegments(fs, archive)
    ? await rotateWal(await engineContext(command, flags, output), keys, request)
    : await rotateArchive({ fs, keys, signal: interruptSignal() }, request);
  const { archiveId, load, outcome } = report;
  if (archiveId !== undefined && outcome !== "dry-run") {
    await rememberArchive(opened, { path: archive, archiveId, command, load }, output);
  }
  if (flags.format === "json") output.json({ ...report, load: loadsToJson(load) });
  else output.result(toText(report));
  await warnPastKeyLimit(opened, output);
}

function toText({ outcome, files, bytes, keyId, plain, load }: RotateArchiveReport): string {
  const what = `${files} files, ${formatBytes(bytes)}`;
  const first = {
    rotated: `rotated: ${what}, are under key ${keyId} now`,
    "nothing-to-do": "nothing to do: no file of that kind is there",
    "dry-run": `would rotate: ${what}, to key ${keyId}`,
  }[outcome];
  const lines = loadsToJson(load).map(
    (one) => `key ${one.keyId}: ${one.pages} files (${formatBytes(one.bytes)})`,
  );
  return [first, ...lines, ...(plain > 0 ? [`not encrypted: ${plain}`] : [])].join("\n");
}
