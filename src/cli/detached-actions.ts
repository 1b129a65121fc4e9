/**
 * Carries out what `tde verify`, `tde inspect` and `tde decrypt-datadir` do with `--file`: one encrypted file by itself,
 * without its data directory. Each answer says what that leaves unproved.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { decryptDetached } from "../engine/decrypt-detached.ts";
import {
  type DetachedFile,
  type DetachedRelation,
  NOT_PROVED,
  openDetached,
} from "../engine/detached-file.ts";
import { inspectDetachedPage } from "../engine/inspect-page.ts";
import { inspectDetachedSidecar } from "../engine/inspect-sidecar.ts";
import { verifyDetached, type VerifiedDetached } from "../engine/verify-detached.ts";
import { UsageError } from "../errors.ts";
import type { Problem } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DecryptFlags } from "./decrypt-action.ts";
import { engineContext } from "./engine-context.ts";
import { ExitCode } from "./exit-codes.ts";
import type { InspectFlags } from "./inspect-action.ts";
import { sidecarText, sidecarToJson } from "./inspect-text.ts";
import { openKeyringFromOptions, openKeyringIfNamed } from "./open-keyring.ts";
import { type DataDirectoryFlags, scopeFrom, type ScopeFlags } from "./options.ts";
import { selectsEverything } from "../engine/scope-request.ts";
import { createOutput } from "./output.ts";
import { pageText, pageToJson } from "./page-text.ts";
import { formatBytes } from "./progress.ts";
import { countOf } from "./report-lines.ts";
import type { VerifyFlags } from "./verify-action.ts";

/** LSNs print as every major but 19 prints them: the file does not say which one wrote it. */
const MAJOR = 18;

export async function verifyFile(
  path: BytePath,
  positional: BytePath | undefined,
  flags: VerifyFlags,
): Promise<void> {
  assertNoDirectory(positional, flags);
  assertAlone({
    ...scopeOptions(flags),
    "--expect-root": flags.expectRoot,
    "--accept-older": flags.acceptOlder,
    "--accept-changed": flags.acceptChanged,
  });
  const output = createOutput(flags);
  const command = "tde verify";
  const engine = await engineContext(command, flags, output);
  const opened =
    flags.checksumsOnly === true
      ? undefined
      : await openKeyringFromOptions(flags, command, output, engine.fs);
  const report = await verifyDetached(engine, opened?.dataKeys, path);
  if (flags.format === "json") output.json(verifiedToJson(report));
  else output.result(verifiedText(report));
  process.exitCode = exitCodeOf(report.problems);
}

export async function decryptFile(
  path: BytePath,
  positional: BytePath | undefined,
  flags: DecryptFlags,
): Promise<void> {
  assertNoDirectory(positional, flags);
  assertAlone({
    ...scopeOptions(flags),
    "--tablespace-mapping": flags.tablespaceMapping,
    "--damaged": flags.damaged,
    "--preflight and --no-preflight": flags.preflight,
    "--restore-control": flags.restoreControl,
    "--keep-recovery-settings": flags.keepRecoverySettings,
    "--accept-older": flags.acceptOlder,
    "--accept-changed": flags.acceptChanged,
    "--accept-moved": flags.acceptMoved,
  });
  if (flags.output === undefined) {
    throw new UsageError("--file needs --output, the name of the new file", {
      hint: "The encrypted file stays as it is.",
    });
  }
  const output = createOutput(flags);
  const command = "tde decrypt-datadir";
  const engine = await engineContext(command, flags, output);
  const { dataKeys } = await openKeyringFromOptions(flags, command, output, engine.fs);
  const request = { path, output: flags.output, dryRun: flags.dryRun === true };
  const { outcome, file, bytes } = await decryptDetached(engine, dataKeys, request);
  if (flags.format === "json") {
    return output.json({ outcome, ...fileToJson(file), output: displayPath(flags.output), bytes });
  }
  const done =
    outcome === "dry-run"
      ? `would decrypt: ${formatBytes(bytes)}`
      : `decrypted: ${formatBytes(bytes)} into "${displayPath(flags.output)}"; every tag held`;
  output.result([...fileLines(file), done, ...unprovedLines()].join("\n"));
}

export async function inspectFile(
  path: BytePath,
  flags: InspectFlags,
  fs: FileSystem,
): Promise<void> {
  assertAlone({ "--entry": flags.entry, "--fork": flags.fork });
  const output = createOutput(flags);
  const file = openDetached(fs, path);
  const relation = relationOf(file);
  const opened = await openKeyringIfNamed(flags, "tde inspect", output, fs);
  const keys = opened?.dataKeys;
  const print = (text: string, json: unknown): void => {
    if (flags.format === "json") output.json({ ...fileToJson(file), shown: json });
    else output.result([...fileLines(file), text, ...unprovedLines()].join("\n"));
  };
  if (flags.sidecar === true) {
    const found = inspectDetachedSidecar(fs, file, relation, flags.block, keys);
    print(sidecarText(found), sidecarToJson(found));
    if (found.mac === false || found.problems.length > 0) process.exitCode = ExitCode.integrity;
    else if (typeof found.mac === "string") process.exitCode = ExitCode.key;
    return;
  }
  const found = inspectDetachedPage(fs, file, relation, flags.block, keys);
  const options = { major: MAJOR, withData: flags.data === true } as const;
  print(pageText(found, options), pageToJson(found, options));
  process.exitCode = exitCodeOf(found.sealed?.problems ?? []);
}

function relationOf({ path, content, belongsTo }: DetachedFile): DetachedRelation {
  if (content.kind === "relation") return content;
  throw new UsageError(
    `"${displayPath(path)}" is sealed whole, as "${displayPath(belongsTo)}", and has no pages`,
    { hint: 'Give it to "tde verify --file" or "tde decrypt-datadir --file".' },
  );
}

function exitCodeOf(problems: readonly Problem[]): number {
  if (problems.length === 0) return ExitCode.ok;
  return problems.every(({ kind }) => kind === "key") ? ExitCode.key : ExitCode.integrity;
}

function verifiedText(report: VerifiedDetached): string {
  const { file, problems, problemCount, pages, keys, depth, wrongChecksums } = report;
  const lines = fileLines(file);
  for (const { kind, path, block, message } of problems)
    lines.push(`${kind}: ${path}${block === undefined ? "" : ` block ${block}`}: ${message}`);
  if (problemCount > problems.length)
    lines.push(`... and ${problemCount - problems.length} more problems`);
  for (const [keyId, count] of keys) lines.push(`key ${keyId}: ${count} pages`);
  if (wrongChecksums > 0)
    lines.push(`note: ${wrongChecksums} pages had a wrong checksum before they were encrypted`);
  const checked = `${pages} pages, ${formatBytes(file.sizeBytes)}`;
  if (!report.ok) lines.push(`NOT verified: ${countOf(problemCount, "problem")} in ${checked}`);
  else if (depth === "tags") lines.push(`verified: every tag of ${checked}`);
  else lines.push(`checksums are right: ${checked}; without a key nothing more was checked`);
  return [...lines, ...unprovedLines()].join("\n");
}

function fileLines({
  path,
  belongsTo,
  hasOwnName,
  systemIdentifier,
  keyringId,
}: DetachedFile): string[] {
  const name = hasOwnName ? "" : ", though it has another name here";
  return [
    `"${displayPath(path)}" says that it is ${displayPath(belongsTo)} of cluster ${systemIdentifier}${name}`,
    `needs keyring ${keyringId}`,
  ];
}

function unprovedLines(): string[] {
  return NOT_PROVED.map((what) => `NOT PROVED: ${what}`);
}

function verifiedToJson(report: VerifiedDetached): unknown {
  const { file, keys, ...rest } = report;
  return {
    ...rest,
    ...fileToJson(file),
    keys: [...keys].map(([keyId, pages]) => ({ keyId, pages })),
  };
}

function fileToJson({
  path,
  belongsTo,
  hasOwnName,
  systemIdentifier,
  keyringId,
  sizeBytes,
  content,
}: DetachedFile): object {
  return {
    file: displayPath(path),
    belongsTo: displayPath(belongsTo),
    hasOwnName,
    systemIdentifier: String(systemIdentifier),
    keyringId,
    sizeBytes,
    blockSizeBytes: content.kind === "relation" ? content.blockSizeBytes : undefined,
    notProved: NOT_PROVED,
  };
}

function assertNoDirectory(positional: BytePath | undefined, { pgdata }: DataDirectoryFlags): void {
  if (positional === undefined && pgdata === undefined) return;
  throw new UsageError("--file is one file by itself, and a data directory is named", {
    hint: "Of a file in its data directory name the directory, with --relation for one relation.",
  });
}

function scopeOptions(flags: ScopeFlags): Readonly<Record<string, unknown>> {
  return {
    "--relation, --database, --tablespace or --exclude": !selectsEverything(scopeFrom(flags)),
  };
}

/** @throws {UsageError} for an option that is about a whole directory. */
function assertAlone(options: Readonly<Record<string, unknown>>): void {
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined || value === false) continue;
    throw new UsageError(`${option} is about a data directory, and --file about one file`, {
      hint: "Leave it out.",
    });
  }
}
