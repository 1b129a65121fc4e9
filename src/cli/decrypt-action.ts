/**
 * Carries out `tde decrypt-datadir` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import {
  DAMAGE_REPORT,
  type DamageDone,
  damageLines,
  type DamagePolicy,
} from "../engine/damage.ts";
import { decryptDatadir, type DecryptReport } from "../engine/decrypt-datadir.ts";
import { decryptIntoOutput } from "../engine/decrypt-output.ts";
import { decryptRelationsInto, type DecryptRelationsReport } from "../engine/decrypt-relations.ts";
import type { OutputOptions } from "../engine/output-directory.ts";
import { selectsEverything } from "../engine/scope-request.ts";
import { UsageError } from "../errors.ts";
import { serializeScope } from "../format/scope.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { ExitCode } from "./exit-codes.ts";
import { assertKeysApart } from "./key-places.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import {
  type AcceptFlags,
  type AcceptMovedFlags,
  assertMovesMatter,
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
  type StateConsentFlags,
} from "./options.ts";
import { acceptedLines } from "./report-lines.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";

export interface DecryptFlags
  extends
    AcceptFlags,
    AcceptMovedFlags,
    DataDirectoryFlags,
    OutputDirectoryFlags,
    KeyringFlags,
    ScopeFlags,
    SecretFlags,
    StateConsentFlags,
    OutputFlags,
    WorkFlags {
  readonly file?: BytePath | undefined;
  readonly restoreControl?: boolean | undefined;
  readonly keepRecoverySettings?: boolean | undefined;
  readonly damaged?: DamagePolicy | undefined;
  readonly preflight?: boolean | undefined;
}

export async function decrypt(
  positional: BytePath | undefined,
  flags: DecryptFlags,
): Promise<void> {
  if (flags.file !== undefined) {
    return await (await import("./detached-actions.ts")).decryptFile(flags.file, positional, flags);
  }
  const output = createOutput(flags);
  const named = scopeFrom(flags);
  const into = outputFrom(flags);
  if (!selectsEverything(named)) assertOnlyRelations(flags, into);
  assertMovesMatter(flags, into === undefined ? undefined : "--output");
  const root = dataDirectoryFrom(flags, positional);
  const command = "tde decrypt-datadir";
  const engine = await engineContext(command, flags, output);
  assertKeysApart(engine.fs, flags, root);
  const opened = await openKeyringFromOptions(flags, command, output, engine.fs);
  const options = {
    root,
    acceptOlder: flags.acceptOlder === true,
    acceptChanged: flags.acceptChanged ?? [],
    restoreControl: flags.restoreControl === true,
    acceptMoved: flags.acceptMoved === true,
    keepRecoverySettings: flags.keepRecoverySettings === true,
    damaged: flags.damaged,
    preflight: flags.preflight,
    dryRun: flags.dryRun === true,
  };
  const context = keyContext(opened, engine, output, flags);
  if (!selectsEverything(named) && into !== undefined) {
    const only = { ...options, named, output: into.output };
    const part = await namingRelations(engine, opened.dataKeys, root, () =>
      decryptRelationsInto(engine, context, only),
    );
    if (flags.format === "json") output.json({ ...part, selected: serializeScope(part.selected) });
    else output.result(relationsText(part));
    return;
  }
  const report = await namingRelations(engine, opened.dataKeys, root, () =>
    into === undefined
      ? decryptDatadir(engine, context, options)
      : decryptIntoOutput(engine, context, options, into),
  );
  if (flags.format === "json") output.json(report);
  else output.result(decryptedText(report, into !== undefined));
  if (report.unchecked !== 0 || report.damaged.length > 0) process.exitCode = ExitCode.integrity;
}

/** Of a decryption that was interrupted while it took away what its files could have been checked against. */
export function unprovedText(unchecked: DecryptReport["unchecked"]): string {
  const files = unchecked === "all" ? "files" : `${unchecked} files`;
  return `NOT PROVED: ${files} were checked when they were decrypted, but nothing is left that would tell whether they are the same now. If anybody else could write to the directory since then, compare it with a backup.`;
}

/** @throws {UsageError} for relations in place, and for options that are about a whole data directory. */
function assertOnlyRelations(flags: DecryptFlags, into: OutputOptions | undefined): void {
  if (into === undefined) {
    throw new UsageError(
      "decrypt-datadir gives the whole directory back in place, not parts of it",
      {
        hint: "With --output NEW the plain files of what is named go into a new directory. To have less encrypted, decrypt the whole, then encrypt it with the scope that you want.",
      },
    );
  }
  const given = [
    flags.restoreControl === true ? "--restore-control" : undefined,
    flags.keepRecoverySettings === true ? "--keep-recovery-settings" : undefined,
    flags.damaged === undefined ? undefined : "--damaged",
    flags.preflight === undefined ? undefined : "--preflight and --no-preflight",
    (flags.acceptChanged ?? []).length > 0 ? "--accept-changed" : undefined,
    (flags.tablespaceMapping?.size ?? 0) > 0 ? "--tablespace-mapping" : undefined,
  ].find((option) => option !== undefined);
  if (given === undefined) return;
  throw new UsageError(`${given}: this is about a whole data directory, and relations are named`, {
    hint: "Leave it out: of relations that are named only their own files are written.",
  });
}

function relationsText({ outcome, files, bytes, selected }: DecryptRelationsReport): string {
  const done = `${files} files, ${formatBytes(bytes)}`;
  return [
    `only relations (${serializeScope(selected)}): everything else is left out, and no server starts on it`,
    outcome === "dry-run"
      ? `would write: ${done}`
      : `written: ${done}; of each every tag held, or the digest of what is out of scope`,
  ].join("\n");
}

/** All of them are in the report file; a terminal gets no more than it can show. */
function damagedLines(damaged: readonly DamageDone[], what: string): string[] {
  if (damaged.length === 0) return [];
  const lines = damageLines(damaged);
  const more = lines.length - MAX_DAMAGE_LINES;
  return [
    `${damaged.length} ${damaged.length === 1 ? "file" : "files"} ${what}:`,
    ...lines.slice(0, MAX_DAMAGE_LINES).map((line) => `  ${line}`),
    ...(more > 0 ? [`  and ${more} more lines`] : []),
  ];
}

const MAX_DAMAGE_LINES = 100;

/** @param isOutput - into a new directory: its source has all of it still. */
export function decryptedText(report: DecryptReport, isOutput: boolean): string {
  const done = `${report.files} files, ${formatBytes(report.bytes)}`;
  const ofThese = report.damaged.length === 0 ? "" : "of these ";
  if (report.outcome === "dry-run")
    return [
      `would decrypt: ${done}; ${ofThese}every tag holds`,
      ...(report.controlRestored ? ["global/pg_control would be put back"] : []),
      ...damagedLines(report.damaged, "would not be decrypted as it was"),
      ...acceptedLines(report.accepted),
    ].join("\n");
  const lines = [
    report.outcome === "ended-before"
      ? "decrypted by a run that was interrupted when all files were done: what was left of it is removed"
      : `decrypted: ${done}; ${ofThese}every tag held`,
    ...damagedLines(report.damaged, `DAMAGED; the list is in "${DAMAGE_REPORT}", too`),
  ];
  if (report.unchecked !== 0) {
    lines.push(unprovedText(report.unchecked));
    if (isOutput)
      lines.push(
        "To have it proved, delete the new directory and its tablespaces, and run the same command again",
      );
  }
  if (report.checkedAgain > 0)
    lines.push(
      `${report.checkedAgain} files had been decrypted before: their tags were checked again`,
    );
  if (report.controlRestored) lines.push("global/pg_control was put back as it was");
  if (report.recoverySettings.length > 0) {
    const verb = report.recoverySettingsKept ? "kept" : "left out";
    lines.push(`${verb}, added after encryption: ${report.recoverySettings.join(", ")}`);
  }
  lines.push(...acceptedLines(report.accepted));
  return lines.join("\n");
}
