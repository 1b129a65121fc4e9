/**
 * Carries out `tde sync` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { syncDatadir, type SyncReport } from "../engine/sync-datadir.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { pagesByKey } from "./key-load-text.ts";
import { type KeyLimitFlags, underKeyLimit, warnPastKeyLimit } from "./key-limit.ts";
import { assertKeysApart } from "./key-places.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import type {
  AcceptMovedFlags,
  KeyringFlags,
  OutputDirectoryFlags,
  OutputFlags,
  SecretFlags,
  StateConsentFlags,
  WorkFlags,
} from "./options.ts";
import { createOutput } from "./output.ts";
import { outOfScopeLine } from "./report-lines.ts";
import { formatBytes } from "./progress.ts";

export interface SyncFlags
  extends
    AcceptMovedFlags,
    Pick<OutputDirectoryFlags, "tablespaceMapping">,
    KeyringFlags,
    SecretFlags,
    StateConsentFlags,
    OutputFlags,
    WorkFlags,
    KeyLimitFlags {
  readonly assumeStopped?: boolean | undefined;
  readonly acceptOlder?: boolean | undefined;
}

export async function sync(source: BytePath, root: BytePath, flags: SyncFlags): Promise<void> {
  const output = createOutput(flags);
  const command = "tde sync";
  const engine = await engineContext(command, flags, output);
  assertKeysApart(engine.fs, flags, source, root);
  const found = await openKeyringFromOptions(flags, command, output, engine.fs);
  const opened = await underKeyLimit(found, flags, command, output);
  const options = {
    source,
    root,
    tablespaceMapping: flags.tablespaceMapping ?? new Map<BytePath, BytePath>(),
    assumeStopped: flags.assumeStopped === true,
    acceptMoved: flags.acceptMoved,
    acceptOlder: flags.acceptOlder === true,
    dryRun: flags.dryRun === true,
  };
  const report = await namingRelations(engine, opened.dataKeys, root, () =>
    syncDatadir(engine, keyContext(opened, engine, output, flags), options),
  );
  if (flags.format === "json") output.json(toJson(report));
  else output.result(toText(report));
  await warnPastKeyLimit(opened, output);
}

function toText(report: SyncReport): string {
  const { figures, proof } = report;
  const compared = `${figures.comparedPages} pages of ${figures.comparedFiles} files compared; every tag held`;
  if (report.outcome === "up-to-date") return `up to date: ${compared}`;
  const share = percent(figures.changedPages, figures.comparedPages);
  const changes = `${figures.changedPages} pages (${share}) changed: ${figures.patchedFiles} files patched, ${figures.wholeFiles} written whole (${figures.newFiles} new), ${figures.removedFiles} removed`;
  if (report.outcome === "dry-run") {
    return `${compared}\nwould write: ${changes}, about ${formatBytes(figures.bytesToWrite)}`;
  }
  const outOfScope = proof?.outOfScope.files ?? 0;
  const lines = [
    ...(proof !== undefined && outOfScope > 0 ? [outOfScopeLine(proof.outOfScope)] : []),
    compared,
    `synced: ${changes}`,
    `written: ${formatBytes(report.bytesWritten)}, ${percent(report.bytesWritten, figures.copyBytes)} of the copy, under key ${report.keyId}; what is patched counts twice, for the journal`,
  ];
  for (const { path, setting, line } of proof?.secrets ?? []) {
    lines.push(`may hold a password: ${setting} in ${path} line ${line}`);
  }
  lines.push(`epoch ${report.epoch}, root ${proof?.root}`);
  return lines.join("\n");
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "all" : `${((100 * part) / whole).toFixed(1)} %`;
}

function toJson(report: SyncReport): unknown {
  const { figures, proof } = report;
  return {
    outcome: report.outcome,
    ...figures,
    bytesWritten: report.bytesWritten,
    epoch: report.epoch === undefined ? undefined : Number(report.epoch),
    keyId: report.keyId,
    root: proof?.root,
    outOfScope: proof?.outOfScope,
    pagesByKey: proof === undefined ? undefined : pagesByKey(proof.load),
    wrongChecksums: proof?.wrongChecksums,
    secrets: proof?.secrets,
  };
}
