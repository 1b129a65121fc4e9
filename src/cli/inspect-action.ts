/**
 * Carries out `tde inspect`: decides what is to be shown, opens what it takes, and prints it. docs/LOOKING.md describes
 * the output.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { Fork } from "../datadir/relation-path.ts";
import type { EngineContext } from "../engine/context.ts";
import { type InspectedEntry, inspectEntry } from "../engine/inspect-entry.ts";
import { inspectPage } from "../engine/inspect-page.ts";
import { inspectSidecar } from "../engine/inspect-sidecar.ts";
import { openByManifest, tellOfCopy } from "../engine/open-by-manifest.ts";
import { hasManifest, manifestSource, settledManifest } from "../engine/open-manifest.ts";
import { relationFileByName } from "../engine/relation-by-name.ts";
import { looksLikePath } from "../engine/scope-request.ts";
import { UsageError } from "../errors.ts";
import { readManifestHeader } from "../format/manifest.ts";
import type { Problem } from "../format/problem.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
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
import { pathFromEnvironment } from "./keyring-flags.ts";
import { createOutput } from "./output.ts";

export interface InspectFlags extends DataDirectoryFlags, KeyringFlags, SecretFlags, OutputFlags {
  readonly file?: BytePath | undefined;
  readonly block?: number | undefined;
  readonly fork?: Fork | undefined;
  readonly data?: boolean | undefined;
  readonly sidecar?: boolean | undefined;
  readonly entry?: boolean | undefined;
}

type Positionals = readonly [BytePath | undefined, BytePath | undefined];

export async function inspect(positionals: Positionals, flags: InspectFlags): Promise<void> {
  const output = createOutput(flags);
  assertOneThing(flags);
  const fs = new NodeFileSystem();
  if (flags.file !== undefined) {
    if (positionals[0] !== undefined || flags.pgdata !== undefined) {
      throw new UsageError(
        "--file is one file by itself, and a data directory or relation is named",
      );
    }
    return await (await import("./detached-actions.ts")).inspectFile(flags.file, flags, fs);
  }
  const alone = fileAlone(fs, positionals, flags);
  if (alone !== undefined)
    return await (await import("./detached-actions.ts")).inspectFile(alone, flags, fs);
  const { root, what } = placesFrom(positionals, flags);
  const directory = openByManifest(fs, root, undefined);
  const { datadir } = directory;
  const opened = await openKeyringIfNamed(flags, "tde inspect", output, fs);
  const keys = opened?.dataKeys;
  const { block } = flags;
  const notice = (message: string): void => output.note(message);
  tellOfCopy({ notice }, directory);
  const resolve = (): BytePath => pathOf({ fs, notice }, datadir, keys, what, flags);
  const print = (text: string, json: unknown): void =>
    flags.format === "json" ? output.json(json) : output.result(text);
  if (flags.entry === true) {
    const found = entryFor(fs, root, what, keys, resolve);
    print(entryText(found), entryToJson(found));
  } else if (flags.sidecar === true) {
    const found = inspectSidecar(fs, datadir, { path: resolve(), block }, keys);
    print(sidecarText(found), sidecarToJson(found));
    if (found.mac === false || found.problems.length > 0) process.exitCode = ExitCode.integrity;
    else if (typeof found.mac === "string") process.exitCode = ExitCode.key;
  } else {
    const maxEpoch = epochOf(fs, root);
    const found = inspectPage(fs, datadir, { path: resolve(), block, maxEpoch }, keys);
    const options = { major: datadir.major, withData: flags.data === true };
    print(pageText(found, options), pageToJson(found, options));
    process.exitCode = exitCodeOf(found.sealed?.problems ?? []);
  }
}

/** A file where no data directory is named in any way. */
function fileAlone(
  fs: FileSystem,
  [first, second]: Positionals,
  { pgdata }: InspectFlags,
): BytePath | undefined {
  if (first === undefined || second !== undefined) return undefined;
  if (pgdata !== undefined || pathFromEnvironment("PGDATA") !== undefined) return undefined;
  return fs.statFollowing(first)?.kind === "file" ? first : undefined;
}

/** One positional is the path where -D or PGDATA names the directory. */
function placesFrom(
  [first, second]: Positionals,
  flags: InspectFlags,
): { readonly root: BytePath; readonly what: BytePath } {
  const [datadir, what] = second === undefined ? [undefined, first] : [first, second];
  if (what === undefined) {
    throw new UsageError("neither relation nor file is named", {
      hint: "Give a relation's name, or a path relative to the data directory, such as base/16384/16397.",
    });
  }
  return { root: dataDirectoryFrom(flags, datadir), what };
}

/** A name such as pg_hba.conf could be either: it is a path where the manifest names it. */
function entryFor(
  fs: FileSystem,
  root: BytePath,
  what: BytePath,
  keys: DataKeys | undefined,
  resolve: () => BytePath,
): InspectedEntry {
  try {
    return inspectEntry(fs, root, what, keys);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return inspectEntry(fs, root, resolve(), keys);
  }
}

function pathOf(
  engine: Pick<EngineContext, "fs" | "notice">,
  datadir: Datadir,
  keys: DataKeys | undefined,
  what: BytePath,
  { fork }: InspectFlags,
): BytePath {
  const { fs } = engine;
  const { root } = datadir;
  if (looksLikePath(what)) {
    if (fork === undefined) return what;
    throw new UsageError("--fork goes with a relation's name, and a path was given", {
      hint: "The path of another fork has its name at the end, such as base/16384/16397_vm.",
    });
  }
  const manifest = keys === undefined ? undefined : settledManifest(fs, root, keys);
  return relationFileByName(engine, datadir, { keys, manifest }, what, fork ?? "main");
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
