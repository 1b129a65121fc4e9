/**
 * Decrypts the files of some relations into a new directory, under their own paths: to look at one table, or to put
 * back one file. No server starts on what comes of it, which has neither pg_control nor WAL. The source is only read.
 *
 * The order is that of every new directory: journal, files, their folders synced, the journal's end. Whatever a crash
 * leaves before that counts for nothing, and the same call or tde recover empties it.
 */
import { type BytePath, directoryOf, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { type PlainAccess, plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { parseRelationPath } from "../datadir/relation-path.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import { type Scope, scopeFilter } from "../format/scope.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { Acceptance } from "./accepted-changes.ts";
import { catalogNames } from "./catalog-names.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { startRunner } from "./decrypt-datadir.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import { assertManifestFits } from "./encrypt-datadir.ts";
import { countToOpen, openAll, type Opening } from "./open-all.ts";
import { openByManifest, tellOfCopy } from "./open-by-manifest.ts";
import { openJudgedManifest } from "./open-manifest.ts";
import { assertFreePlace, makeOutputRoot, parentOf, placesOf } from "./output-directory.ts";
import { endOutputBefore, keptOutput } from "./run/output-run.ts";
import type { ScopeSelection } from "./scope-request.ts";
import { relationsOfManifest, relationsOnDisk, selectScope } from "./select-scope.ts";
import { assertIntact } from "./structure-check.ts";
import { assertEncrypted } from "./verify-datadir.ts";

export interface DecryptRelationsOptions {
  readonly root: BytePath;
  readonly named: ScopeSelection;
  /** The new directory. */
  readonly output: BytePath;
  readonly acceptOlder: boolean;
  readonly dryRun: boolean;
}

export interface DecryptRelationsReport {
  readonly outcome: "decrypted" | "dry-run";
  /** Also those that are plain because they are out of scope. */
  readonly files: number;
  readonly bytes: number;
  /** What was asked for, in numbers. */
  readonly selected: Scope;
}

/**
 * @throws {UsageError} for what is unknown or ambiguous. @throws {StateError} when the output is not empty, or the
 * source in use, not encrypted or unfinished. @throws {IntegrityError} {KeyError} {StorageError}: the output is then
 * emptied by the next call, or by tde recover.
 */
export async function decryptRelationsInto(
  engine: EngineContext,
  keyContext: KeyContext,
  options: DecryptRelationsOptions,
): Promise<DecryptRelationsReport> {
  const { fs } = engine;
  const { output } = options;
  const opened = openByManifest(fs, options.root, keyContext);
  const source = opened.datadir;
  unfinishedRun(fs, source.root, undefined, keyContext.memory);
  assertNotInUse(fs, source, { assumeStopped: true });
  assertEncrypted(fs, source);
  const manifest = openJudgedManifest(fs, source.root, keyContext, options);
  tellOfCopy(engine, opened);
  assertManifestFits(source, manifest, undefined);
  const selected = select(engine, keyContext, source, manifest, options.named);
  const isInScope = scopeFilter(selected);
  const only = ({ path }: ManifestEntry): boolean => {
    const file = parseRelationPath(path, source);
    return file !== undefined && isInScope(file);
  };
  const opening: Opening = { manifest, accepted: [], only };
  const runner = startRunner(engine, source, keyContext, manifest);
  try {
    const acceptance = new Acceptance([]);
    const allowAdded = (): boolean => true;
    await assertIntact(engine, runner, source, manifest, { acceptance, allowAdded, only });
    const counted = countToOpen(fs, source, opening, output);
    if (options.dryRun) {
      assertFreePlace(fs, output, placesOf(source));
      return { outcome: "dry-run", ...counted, selected };
    }
    endOutputBefore(engine, keyContext, output, "decryptOutput");
    assertFreePlace(fs, output, placesOf(source));
    const plan = { output, tablespaces: new Map(), places: new Map() };
    makeOutputRoot(fs, source, plan);
    const lock = lockDatadir(fs, output, engine.command);
    try {
      const { directoryId, epoch } = manifest.header;
      const order = { operation: "decryptOutput", directoryId, epoch, from: manifest } as const;
      const run = DirectoryRun.begin(fs, output, keyContext, order, keptOutput(plan));
      try {
        const folders = makeFoldersOf(fs, output, manifest, only);
        engine.progress.begin("decrypting", counted.bytes);
        await openAll(engine, runner, source, { source: source.root, output }, opening, () => {});
        // The deepest first: a name is durable when the folder that has it is.
        const access = plainAccess(fs, output);
        for (const folder of folders.toReversed()) {
          finishFolder(fs, { source, output, folder }, access);
        }
        fs.syncDirectory(output);
        fs.syncDirectory(parentOf(output));
        run.commitLast([]);
        run.end({ kind: "nothing" });
        return { outcome: "decrypted", ...counted, selected };
      } finally {
        run.leave();
      }
    } finally {
      lock.release();
    }
  } finally {
    engine.progress.end();
    await runner.close();
  }
}

function select(
  engine: EngineContext,
  { keys }: KeyContext,
  source: Datadir,
  manifest: Manifest,
  named: ScopeSelection,
): Scope {
  const known = relationsOfManifest(relationsOnDisk(engine.fs, source), manifest);
  const { withPartitions } = named;
  return selectScope(known, named, {
    names: catalogNames(engine, source, { keys, manifest, withPartitions }),
    limitBytes: undefined,
  });
}

/**
 * Makes the folders that the files need. A tablespace becomes a folder where the source has a link, which would lead
 * back into the source.
 * @returns them, each after the one that it is in.
 */
function makeFoldersOf(
  fs: FileSystem,
  output: BytePath,
  manifest: Manifest,
  only: (entry: ManifestEntry) => boolean,
): BytePath[] {
  const folders = new Set<BytePath>();
  for (const entry of manifest.entries()) {
    if (!only(entry)) continue;
    const parts = directoryOf(entry.path).split("/");
    for (let depth = 1; depth <= parts.length; depth++)
      folders.add(parts.slice(0, depth).join("/") as BytePath);
  }
  for (const folder of folders) fs.makeDirectory(joinPath(output, folder), 0o700);
  return [...folders];
}

/** Gives a folder the source's owner, mode and times, and makes the names in it durable. */
function finishFolder(
  fs: FileSystem,
  place: { readonly source: Datadir; readonly output: BytePath; readonly folder: BytePath },
  access: PlainAccess,
): void {
  const { source, output, folder } = place;
  const like = fs.statFollowing(joinPath(source.root, folder));
  const made = joinPath(output, folder);
  if (like !== undefined) fs.setAttributes(made, plainAttributes(like, access, "directory"));
  fs.syncDirectory(made);
}
