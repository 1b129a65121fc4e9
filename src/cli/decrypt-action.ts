/**
 * Carries out `tde decrypt-datadir` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { decryptDatadir, type DecryptReport } from "../engine/decrypt-datadir.ts";
import { decryptIntoOutput } from "../engine/decrypt-output.ts";
import { type ScopeSelection, selectsEverything } from "../engine/scope-request.ts";
import { UsageError } from "../errors.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import {
  type AcceptFlags,
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputDirectoryFlags,
  outputFrom,
  type OutputFlags,
  scopeFrom,
  type ScopeFlags,
  type SecretFlags,
  type WorkFlags,
} from "./options.ts";
import { acceptedLines } from "./report-lines.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";

export interface DecryptFlags
  extends
    AcceptFlags,
    DataDirectoryFlags,
    OutputDirectoryFlags,
    KeyringFlags,
    ScopeFlags,
    SecretFlags,
    OutputFlags,
    WorkFlags {
  readonly restoreControl?: boolean | undefined;
  readonly keepRecoverySettings?: boolean | undefined;
}

export async function decrypt(
  positional: BytePath | undefined,
  flags: DecryptFlags,
): Promise<void> {
  const output = createOutput(flags);
  refuseScope(scopeFrom(flags));
  const root = dataDirectoryFrom(flags, positional);
  const command = "tde decrypt-datadir";
  const engine = await engineContext(command, flags, output);
  const opened = await openKeyringFromOptions(flags, command, output, engine.fs);
  const options = {
    root,
    acceptOlder: flags.acceptOlder === true,
    acceptChanged: flags.acceptChanged ?? [],
    restoreControl: flags.restoreControl === true,
    keepRecoverySettings: flags.keepRecoverySettings === true,
    dryRun: flags.dryRun === true,
  };
  const into = outputFrom(flags);
  const context = keyContext(opened, engine, output);
  const report = await namingRelations(engine, opened.dataKeys, root, () =>
    into === undefined
      ? decryptDatadir(engine, context, options)
      : decryptIntoOutput(engine, context, options, into),
  );
  if (flags.format === "json") output.json(report);
  else output.result(decryptedText(report));
}

function refuseScope(selection: ScopeSelection): void {
  if (selectsEverything(selection)) return;
  throw new UsageError("decrypt-datadir gives the whole directory back, not parts of it", {
    hint: "Leave the scope options out. To have less encrypted, decrypt it, then encrypt it with the scope that you want.",
  });
}

export function decryptedText(report: DecryptReport): string {
  const done = `${report.files} files, ${formatBytes(report.bytes)}`;
  if (report.outcome === "dry-run")
    return [`would decrypt: ${done}`, ...acceptedLines(report.accepted)].join("\n");
  const lines = [`decrypted: ${done}; every tag held`];
  if (report.controlRestored) lines.push("global/pg_control was put back as it was");
  if (report.recoverySettings.length > 0) {
    const verb = report.recoverySettingsKept ? "kept" : "left out";
    lines.push(`${verb}, added after encryption: ${report.recoverySettings.join(", ")}`);
  }
  lines.push(...acceptedLines(report.accepted));
  return lines.join("\n");
}
