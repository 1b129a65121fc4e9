/**
 * Carries out `tde wal verify` and prints what it found.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { ArchiveProblemKind } from "../engine/wal-archive/archive-report.ts";
import { type VerifiedArchive, verifyArchive } from "../engine/wal-archive/verify-archive.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { ExitCode } from "./exit-codes.ts";
import { interruptSignal } from "./interrupt.ts";
import { loadsToJson } from "./key-load-text.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import type { KeyringFlags, OutputFlags, SecretFlags } from "./options.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";
import { countOf } from "./report-lines.ts";
import { rememberArchive } from "./remember-archive.ts";

export interface WalVerifyFlags extends KeyringFlags, SecretFlags, OutputFlags {
  readonly allowPlain?: boolean | undefined;
}

export async function verifyWal(archive: BytePath, flags: WalVerifyFlags): Promise<void> {
  const output = createOutput(flags);
  const command = "tde wal verify";
  const fs = new NodeFileSystem();
  const opened = await openKeyringFromOptions(flags, command, output, fs);
  const report = await verifyArchive(
    { fs, keys: opened.dataKeys, signal: interruptSignal() },
    { archive, allowPlain: flags.allowPlain === true },
  );
  const { archiveId, keys: load } = report;
  // What did not open may need another key.
  if (archiveId !== undefined && report.ok) {
    await rememberArchive(opened, { path: archive, archiveId, command, load }, output);
  }
  if (flags.format === "json") output.json(toJson(report));
  else output.result(toText(report));
  process.exitCode = exitCodeOf(report);
}

/** As of `tde verify`: what is not authentic or missing outweighs a system that refuses, and that a missing key. */
function exitCodeOf({ ok, problems }: VerifiedArchive): number {
  if (ok) return ExitCode.ok;
  const milder: readonly ArchiveProblemKind[] = ["key", "unreadable"];
  if (problems.some(({ kind }) => !milder.includes(kind))) return ExitCode.integrity;
  return problems.some(({ kind }) => kind === "unreadable") ? ExitCode.storage : ExitCode.key;
}

function toText(report: VerifiedArchive): string {
  const { files, timelines, problems } = report;
  const lines = problems.map(({ kind, name, message }) => `${kind}: ${name}: ${message}`);
  for (const { timeline, first, last, segments, recordsTo } of timelines) {
    const end = recordsTo === undefined ? "no records" : `records to ${recordsTo}`;
    lines.push(
      `timeline ${timeline}: ${first} to ${last}, ${segments} ${segments === 1 ? "segment" : "segments"}, ${end}`,
    );
  }
  const { histories, backups, partial, plain, spare, others } = files;
  lines.push(
    `${files.segments} segments, ${partial} partial, ${histories} timeline histories, ${backups} backup histories` +
      `; not encrypted: ${plain}` +
      (spare > 0 ? `; kept to be written to later: ${spare}` : "") +
      (others > 0 ? `; not looked at: ${others} files of other names` : ""),
  );
  for (const { keyId, pages, bytes } of loadsToJson(report.keys)) {
    lines.push(`key ${keyId}: ${pages} files (${formatBytes(bytes)})`);
  }
  const what = `${formatBytes(report.bytes)} of WAL of cluster ${report.systemIdentifier ?? "(unknown)"}, ${report.records} records`;
  if (!report.ok) lines.push(`NOT verified: ${countOf(problems.length, "problem")} in ${what}`);
  else if (plain > 0) lines.push(`verified: every tag of ${what}; NOT of ${plain} plain files`);
  else lines.push(`verified: every tag of ${what}`);
  return lines.join("\n");
}

function toJson(report: VerifiedArchive): unknown {
  return {
    ...report,
    systemIdentifier: report.systemIdentifier?.toString(),
    keys: loadsToJson(report.keys).map(({ keyId, pages, bytes }) => ({
      keyId,
      files: pages,
      bytes,
    })),
  };
}
