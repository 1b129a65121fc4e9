/**
 * Carries out `tde encrypt-datadir` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { encryptDatadir } from "../engine/encrypt-datadir.ts";
import type { EncryptReport } from "../engine/encrypt-report.ts";
import { encryptIntoOutput } from "../engine/encrypt-output.ts";
import type { WalMode } from "../format/manifest-header.ts";
import { serializeScope } from "../format/scope.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { pagesByKey } from "./key-load-text.ts";
import { type KeyLimitFlags, underKeyLimit, warnPastKeyLimit } from "./key-limit.ts";
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
import { acceptedLines, outOfScopeLines } from "./report-lines.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";

export interface EncryptFlags
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
    WorkFlags,
    KeyLimitFlags {
  readonly wal: WalMode;
  readonly sealConfig?: boolean | undefined;
  readonly assumeStopped?: boolean | undefined;
}

export async function encrypt(
  positional: BytePath | undefined,
  flags: EncryptFlags,
): Promise<void> {
  const output = createOutput(flags);
  const into = outputFrom(flags);
  assertMovesMatter(flags, into === undefined ? undefined : "--output");
  const root = dataDirectoryFrom(flags, positional);
  const command = "tde encrypt-datadir";
  const engine = await engineContext(command, flags, output);
  assertKeysApart(engine.fs, flags, root);
  const found = await openKeyringFromOptions(flags, command, output, engine.fs);
  const opened = await underKeyLimit(found, flags, command, output);
  const options = {
    root,
    scope: scopeFrom(flags),
    wal: flags.wal,
    sealConfig: flags.sealConfig === true,
    assumeStopped: flags.assumeStopped === true,
    acceptMoved: flags.acceptMoved,
    acceptOlder: flags.acceptOlder === true,
    acceptChanged: flags.acceptChanged ?? [],
    dryRun: flags.dryRun === true,
  };
  const context = keyContext(opened, engine, output, flags);
  const report = await namingRelations(engine, opened.dataKeys, root, () =>
    into === undefined
      ? encryptDatadir(engine, context, options)
      : encryptIntoOutput(engine, context, options, into),
  );
  if (flags.format === "json") output.json(toJson(report));
  else output.result(toText(report));
  await warnPastKeyLimit(opened, output);
}

function toText(report: EncryptReport): string {
  const { survey, proof } = report;
  const todo = `${survey.relations} relation files and ${survey.contents} other files, ${formatBytes(survey.bytes)}`;
  const plain = outOfScopeLines(report.scope, proof?.outOfScope ?? survey.outOfScope);
  if (report.outcome === "dry-run") return [...plain, `would encrypt: ${todo}`].join("\n");
  if (report.outcome === "already-encrypted" || proof === undefined) {
    const nothing = `already encrypted: ${survey.sealedAlready} files; nothing was to do`;
    return [...plain, nothing].join("\n");
  }
  const lines = [
    ...plain,
    `encrypted: ${todo}, under key ${report.keyId}`,
    `proved: ${proof.sealedFiles} files hold nothing but ciphertext and authenticated zeros`,
  ];
  if (proof.segments.files > 0) {
    lines.push(
      `proved: ${proof.segments.files} WAL segments hold nothing but that and the structure of their records`,
    );
  }
  if (proof.wrongChecksums > 0) {
    lines.push(`kept as they were: ${proof.wrongChecksums} pages whose checksum was wrong before`);
  }
  lines.push(...acceptedLines(report.accepted ?? []));
  lines.push("readable by design:");
  for (const group of proof.plaintext.filter(({ exposed }) => !exposed))
    lines.push(groupLine(group));
  const exposed = proof.plaintext.filter((group) => group.exposed);
  if (exposed.length > 0) lines.push("NOT encrypted:", ...exposed.map(groupLine));
  for (const { path, setting, line } of proof.secrets) {
    lines.push(
      `may hold a password: ${setting} in ${path} line ${line} (--seal-config seals such files)`,
    );
  }
  lines.push(`epoch ${report.epoch}, root ${proof.root}`);
  return lines.join("\n");
}

function groupLine({
  why,
  files,
  bytes,
  example,
}: {
  why: string;
  files: number;
  bytes: number;
  example: string;
}): string {
  return `  ${why}: ${example}${files > 1 ? ` and ${files - 1} more` : ""} (${formatBytes(bytes)})`;
}

function toJson(report: EncryptReport): unknown {
  const { proof } = report;
  return {
    outcome: report.outcome,
    relations: report.survey.relations,
    otherFiles: report.survey.contents,
    bytes: report.survey.bytes,
    scope: serializeScope(report.scope),
    outOfScope: proof?.outOfScope ?? report.survey.outOfScope,
    sealedAlready: report.survey.sealedAlready,
    directoryId: report.directoryId,
    epoch: report.epoch === undefined ? undefined : Number(report.epoch),
    keyId: report.keyId,
    accepted: report.accepted,
    root: proof?.root,
    pagesByKey: proof === undefined ? undefined : pagesByKey(proof.load),
    wrongChecksums: proof?.wrongChecksums,
    readable: proof?.plaintext,
    secrets: proof?.secrets,
  };
}
