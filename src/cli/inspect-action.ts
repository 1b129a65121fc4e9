/**
 * Carries out `tde inspect`: decides what is to be shown, opens what it takes, and prints it. docs/LOOKING.md describes
 * the output.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { openDatadir } from "../datadir/datadir.ts";
import { inspectEntry } from "../engine/inspect-entry.ts";
import { inspectPage } from "../engine/inspect-page.ts";
import { inspectSidecar } from "../engine/inspect-sidecar.ts";
import { hasManifest, manifestSource } from "../engine/open-manifest.ts";
import { UsageError } from "../errors.ts";
import { readManifestHeader } from "../format/manifest.ts";
import type { Problem } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { ExitCode } from "./exit-codes.ts";
import { entryText, entryToJson, sidecarText, sidecarToJson } from "./inspect-text.ts";
import { pageText, pageToJson } from "./page-text.ts";
import {
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputFlags,
  type SecretFlags,
} from "./options.ts";
import { openKeyringIfNamed } from "./open-keyring.ts";
import { createOutput } from "./output.ts";

export interface InspectFlags extends DataDirectoryFlags, KeyringFlags, SecretFlags, OutputFlags {
  readonly block?: number | undefined;
  readonly data?: boolean | undefined;
  readonly sidecar?: boolean | undefined;
  readonly entry?: boolean | undefined;
}

type Positionals = readonly [BytePath | undefined, BytePath | undefined];

export async function inspect(positionals: Positionals, flags: InspectFlags): Promise<void> {
  const output = createOutput(flags);
  const { root, path } = placesFrom(positionals, flags);
  assertOneThing(flags);
  const fs = new NodeFileSystem();
  const datadir = openDatadir(fs, root);
  const opened = await openKeyringIfNamed(flags, "tde inspect", output, fs);
  const keys = opened?.dataKeys;
  const { block } = flags;
  const print = (text: string, json: unknown): void =>
    flags.format === "json" ? output.json(json) : output.result(text);
  if (flags.entry === true) {
    const found = inspectEntry(fs, root, path, keys);
    print(entryText(found), entryToJson(found));
  } else if (flags.sidecar === true) {
    const found = inspectSidecar(fs, datadir, { path, block }, keys);
    print(sidecarText(found), sidecarToJson(found));
    if (found.mac === false || found.problems.length > 0) process.exitCode = ExitCode.integrity;
    else if (typeof found.mac === "string") process.exitCode = ExitCode.key;
  } else {
    const maxEpoch = epochOf(fs, root);
    const found = inspectPage(fs, datadir, { path, block, maxEpoch }, keys);
    const options = { major: datadir.major, withData: flags.data === true };
    print(pageText(found, options), pageToJson(found, options));
    process.exitCode = exitCodeOf(found.sealed?.problems ?? []);
  }
}

/** One positional is the path where -D or PGDATA names the directory. */
function placesFrom(
  [first, second]: Positionals,
  flags: InspectFlags,
): { readonly root: BytePath; readonly path: BytePath } {
  const [datadir, path] = second === undefined ? [undefined, first] : [first, second];
  if (path === undefined) {
    throw new UsageError("no file is named", {
      hint: "Give its path relative to the data directory, such as base/16384/16397.",
    });
  }
  return { root: dataDirectoryFrom(flags, datadir), path };
}

function assertOneThing({ entry, sidecar, block, data }: InspectFlags): void {
  if (entry === true && (sidecar === true || block !== undefined)) {
    throw new UsageError("--entry shows a line of the manifest, and neither block nor sidecar");
  }
  if (data === true && (entry === true || sidecar === true)) {
    throw new UsageError("--data prints what is in a page", { hint: "Leave it out." });
  }
}

/** The epoch that the manifest says, unproved; undefined where there is none to read. */
function epochOf(fs: FileSystem, root: BytePath): bigint | undefined {
  if (!hasManifest(fs, root)) return undefined;
  return readManifestHeader(manifestSource(fs, root), OWN_FILES.manifest).epoch;
}

function exitCodeOf(problems: readonly Problem[]): number {
  if (problems.length === 0) return ExitCode.ok;
  return problems.every(({ kind }) => kind === "key") ? ExitCode.key : ExitCode.integrity;
}
