/**
 * Carries out `tde verify` and prints what it found.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { verifyDatadir } from "../engine/verify-datadir.ts";
import type { NamedProblem, VerifyReport } from "../engine/verify-report.ts";
import { serializeScope } from "../format/scope.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { ExitCode } from "./exit-codes.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import {
  type AcceptFlags,
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputFlags,
  scopeFrom,
  type ScopeFlags,
  type SecretFlags,
  type WorkFlags,
} from "./options.ts";
import { acceptedLines, countOf, outOfScopeLine, outOfScopeLines } from "./report-lines.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";

export interface VerifyFlags
  extends
    AcceptFlags,
    DataDirectoryFlags,
    KeyringFlags,
    ScopeFlags,
    SecretFlags,
    OutputFlags,
    WorkFlags {
  readonly file?: BytePath | undefined;
  readonly checksumsOnly?: boolean | undefined;
  readonly expectRoot?: string | undefined;
}

export async function verify(positional: BytePath | undefined, flags: VerifyFlags): Promise<void> {
  if (flags.file !== undefined) {
    return await (await import("./detached-actions.ts")).verifyFile(flags.file, positional, flags);
  }
  const output = createOutput(flags);
  const root = dataDirectoryFrom(flags, positional);
  const command = "tde verify";
  const engine = await engineContext(command, flags, output);
  const opened =
    flags.checksumsOnly === true
      ? undefined
      : await openKeyringFromOptions(flags, command, output, engine.fs);
  const keys = opened === undefined ? undefined : keyContext(opened, engine, output);
  const options = {
    root,
    scope: scopeFrom(flags),
    expectRoot: flags.expectRoot,
    acceptOlder: flags.acceptOlder === true,
    acceptChanged: flags.acceptChanged ?? [],
  };
  const report = await namingRelations(engine, keys?.keys, root, () =>
    verifyDatadir(engine, keys, options),
  );
  if (flags.format === "json") output.json(toJson(report));
  else output.result(toText(report));
  process.exitCode = exitCodeOf(report);
}

/** What is not authentic outweighs what could not be looked at, and a system that refuses outweighs a missing key. */
function exitCodeOf({ ok, kinds }: VerifyReport): number {
  if (ok) return ExitCode.ok;
  if (kinds.some((kind) => kind !== "key" && kind !== "unreadable")) return ExitCode.integrity;
  return kinds.includes("unreadable") ? ExitCode.storage : ExitCode.key;
}

function toText(report: VerifyReport): string {
  const lines = scopeLines(report);
  lines.push(...report.problems.map(problemLine), ...acceptedLines(report.accepted));
  if (report.problemCount > report.problems.length) {
    lines.push(`... and ${report.problemCount - report.problems.length} more problems`);
  }
  lines.push(...report.notices.map((notice) => `note: ${notice}`));
  if (report.missingExpendable.length > 0) {
    const [first] = report.missingExpendable;
    lines.push(
      `note: ${report.missingExpendable.length} files that backup tools leave out are not there: ${first} ...`,
    );
  }
  for (const { happened, advice } of report.traces) {
    lines.push(`what happened: ${happened}`, `what to do: ${advice}`);
  }
  for (const { keyId, pages } of report.keys) lines.push(`key ${keyId}: ${pages} pages and files`);
  const { selected, outOfScope } = report;
  const tagged = `${report.files - outOfScope.files} files, ${report.pages} pages, ${formatBytes(report.bytes - outOfScope.bytes)}`;
  const checked = selected === undefined ? tagged : `${tagged} of what was named`;
  if (report.epoch !== undefined) lines.push(`epoch ${report.epoch}, root ${report.root}`);
  const besides = [
    ...(outOfScope.files > 0
      ? [`; ${outOfScope.files} plain files out of scope have the content that the manifest says`]
      : []),
    ...(report.accepted.length > 0
      ? [`; NOT of ${report.accepted.length} that were accepted as changed`]
      : []),
  ].join("");
  if (!report.ok)
    lines.push(`NOT verified: ${countOf(report.problemCount, "problem")} in ${checked}`);
  else if (report.depth === "tags") lines.push(`verified: every tag of ${checked}${besides}`);
  else
    lines.push(`checksums are right: ${checked}; without a key nothing more was checked${besides}`);
  return lines.join("\n");
}

/** What is not encrypted, and what was not looked at, before anything that was found. */
function scopeLines({ scope, selected, outOfScope }: VerifyReport): string[] {
  if (selected === undefined) return scope === undefined ? [] : outOfScopeLines(scope, outOfScope);
  const only = `checked only relations (${serializeScope(selected)}): nothing else was looked at`;
  return outOfScope.files === 0 ? [only] : [only, outOfScopeLine(outOfScope)];
}

function problemLine({ kind, path, relation, block, lsn, message }: NamedProblem): string {
  const what = relation === undefined ? path : `${relation} (${path})`;
  const where =
    block === undefined ? "" : ` block ${block}${lsn === undefined ? "" : ` (LSN ${lsn})`}`;
  return `${kind}: ${what}${where}: ${message}`;
}

function toJson(report: VerifyReport): unknown {
  const { epoch, scope, selected } = report;
  return {
    ...report,
    epoch: epoch === undefined ? undefined : Number(epoch),
    scope: scope === undefined ? undefined : serializeScope(scope),
    selected: selected === undefined ? undefined : serializeScope(selected),
  };
}
